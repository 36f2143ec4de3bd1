"""Drawn cases of several raters: their styles can be measured, and they part where the picture is unclear."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy.ndimage import center_of_mass, distance_transform_edt, gaussian_gradient_magnitude
from skimage.measure import perimeter

from monai_ext.data.raters.decoding import DecodeRaters
from monai_ext.data.raters.qubiq import identified_raters, qubiq_items
from monai_ext.phantoms.raters import (
    RATER_STYLES,
    RaterStyle,
    draw_nested_case,
    draw_rater_case,
    write_rater_phantoms,
)
from monai_ext.raster.nifti import read_nifti

OVER, UNDER, SMOOTHING, SHIFTED, RAGGED = range(5)
SIDE = 96


@pytest.fixture(scope="module")
def cases():
    """Images (N, H, W) and masks (N, R, H, W) of 16 cases."""
    images, masks = zip(*(draw_rater_case((SIDE, SIDE), seed=(11, index)) for index in range(16)), strict=True)
    return torch.cat(images).numpy(), torch.stack(masks).numpy()


def dice(one, other):
    return 2 * (one & other).sum() / (one.sum() + other.sum())


def test_shapes_types_and_values(cases):
    images, masks = cases
    assert images.shape == (16, SIDE, SIDE) and images.dtype == np.uint8
    assert masks.shape == (16, len(RATER_STYLES), SIDE, SIDE) and masks.dtype == np.uint8 and masks.max() == 1
    shares = masks.mean((2, 3))
    assert 0.04 < shares.min() and shares.max() < 0.45


def test_the_same_seed_draws_the_same_case_and_others_draw_others(cases):
    image, masks = draw_rater_case((SIDE, SIDE), seed=(11, 3))
    assert np.array_equal(image[0], cases[0][3]) and np.array_equal(masks, cases[1][3])
    assert not np.array_equal(cases[0][3], cases[0][4]) and not np.array_equal(masks, cases[1][4])


def test_further_styles_change_neither_the_picture_nor_the_other_outlines():
    image, masks = draw_rater_case((48, 48), seed=2, styles=RATER_STYLES[:2])
    again, more = draw_rater_case((48, 48), seed=2, styles=(*RATER_STYLES[:2], RaterStyle("exact")))
    assert torch.equal(image, again) and torch.equal(masks, more[:2]) and len(more) == 3


def test_over_drawing_holds_all_that_under_drawing_marks_and_much_more(cases):
    for masks in cases[1]:
        assert (masks[UNDER] & ~masks[OVER].astype(bool)).sum() == 0
        assert masks[OVER].sum() > 1.2 * masks[UNDER].sum()


def test_the_shifted_one_draws_lower_and_further_right_by_3_percent(cases):
    plain = [RaterStyle("plain"), RaterStyle("moved", shift=(0.03, 0.03))]
    steps = []
    for index in range(8):
        one, moved = draw_rater_case((SIDE, SIDE), seed=(11, index), styles=plain)[1].numpy()
        steps.append(np.subtract(center_of_mass(moved), center_of_mass(one)) / SIDE)
    assert np.allclose(np.mean(steps, 0), 0.03, atol=0.006)


def test_smoothing_shortens_the_outline_and_raggedness_lengthens_it(cases):
    lengths = np.array([[perimeter(mask) / np.sqrt(mask.sum()) for mask in masks] for masks in cases[1]]).mean(0)
    plain = lengths[SHIFTED]  # all three outline the middle of the border and include alike
    assert lengths[SMOOTHING] < 0.95 * plain and lengths[RAGGED] > 1.1 * plain


def test_every_rater_is_closest_to_the_own_style_in_another_hand(cases):
    others = [style._replace(name=f"{style.name} of a second person") for style in RATER_STYLES]
    agreement = np.zeros((5, 5))
    for index in range(16):
        seconds = draw_rater_case((SIDE, SIDE), seed=(11, index), styles=others)[1].numpy()
        agreement += [[dice(one, second) for second in seconds] for one in cases[1][index]]
    # The ragged one wobbles anew each time: nobody can copy that, so its style is not seen in the overlap.
    assert agreement[:RAGGED, :RAGGED].argmax(1).tolist() == [OVER, UNDER, SMOOTHING, SHIFTED]
    assert (agreement.diagonal()[:RAGGED] > 0.9 * 16).all()


def test_disagreement_is_wide_where_the_border_in_the_picture_is_blurred(cases):
    steepness, widths = [], []
    for image, masks in zip(*cases, strict=True):
        over, under = masks[OVER] > 0, masks[UNDER] > 0
        steep = gaussian_gradient_magnitude(image.astype(float), 1)
        outline = (distance_transform_edt(~under) <= 1) & ~under
        widths.append(distance_transform_edt(over)[outline])  # from the sparing outline to the generous one
        steepness.append(steep[outline] / steep[outline].max())
    correlation = np.corrcoef(np.concatenate(steepness), np.concatenate(widths))[0, 1]
    assert correlation < -0.3


def test_faint_outgrowths_are_left_out_by_the_sparing():
    trusting, doubting = RaterStyle("trusting", faintest=-1), RaterStyle("doubting", faintest=2)
    added = []
    for index in range(8):
        more, less = draw_rater_case((64, 64), seed=index, styles=(trusting, doubting))[1].numpy()
        assert not (less & ~more.astype(bool)).any()
        added.append((more.sum() - less.sum()) / less.sum())
    assert min(added) == 0 and 0.05 < max(added) < 1  # some cells have none


@pytest.mark.parametrize("size", [(32, 32), (40, 90), (90, 33)])
def test_any_size_and_aspect_can_be_drawn(size):
    image, masks = draw_rater_case(size, seed=1)
    assert image.shape == (1, *size) and masks.shape == (5, *size) and masks.flatten(1).any(1).all()


def test_too_small_a_picture_and_no_rater_are_refused():
    with pytest.raises(ValueError, match=r"size is \(16, 64\): draw_rater_case needs at least 32 pixels"):
        draw_rater_case((16, 64))
    with pytest.raises(ValueError, match="styles is empty"):
        draw_rater_case((32, 32), styles=())


def test_written_phantoms_are_a_data_set_with_an_affine_of_its_own_for_each_case(tmp_path):
    assert write_rater_phantoms(tmp_path, count=3, size=(32, 40), seed=5) == 3
    items = qubiq_items(tmp_path)
    assert [item["id"] for item in items] == ["case01", "case02", "case03"]
    assert identified_raters(items) == [1, 2, 3, 4, 5]
    affines = []
    for index, item in enumerate(items):
        image, masks = draw_rater_case((32, 40), seed=(5, index))
        decoded = DecodeRaters(dtype=torch.uint8)(item)
        assert torch.equal(decoded["image"], image) and torch.equal(decoded["label"], masks)
        files = [nib.load(path) for path in (item["image"], *item["label"])]
        assert all(np.array_equal(file.affine, files[0].affine) for file in files)
        assert files[0].header.get_xyzt_units()[0] == "mm"
        sides = np.linalg.norm(files[0].affine[:3, :3], axis=0)
        assert (sides > 0.49).all() and (sides < 1.51).all()
        affines.append(files[0].affine)
    assert not np.allclose(affines[0], affines[1]) and not np.allclose(affines[1], affines[2])
    raters = json.loads((tmp_path / "phantoms.json").read_text())["raters"]
    assert raters == {str(n): style.name for n, style in enumerate(RATER_STYLES, 1)}
    assert not list(tmp_path.rglob(".*"))


def test_an_interrupted_or_larger_call_goes_on_without_touching_what_is_there(tmp_path):
    write_rater_phantoms(tmp_path, count=2, size=(32, 32))
    kept, lost = (tmp_path / "Training" / name / "image.nii.gz" for name in ("case01", "case02"))
    time, whole = kept.stat().st_mtime_ns, lost.read_bytes()
    lost.unlink()
    assert write_rater_phantoms(tmp_path, count=3, size=(32, 32)) == 3
    assert kept.stat().st_mtime_ns == time and lost.read_bytes() == whole
    assert write_rater_phantoms(tmp_path, count=1, size=(32, 32)) == 3
    assert read_nifti(tmp_path / "Training" / "case03" / "image.nii.gz").shape == (32, 32)


def test_phantoms_of_other_settings_are_not_mixed(tmp_path):
    write_rater_phantoms(tmp_path, count=1, size=(32, 32))
    for changed in ({"seed": 1, "size": (32, 32)}, {"size": (40, 40)}):
        with pytest.raises(ValueError, match="holds phantoms of .* choose another folder"):
            write_rater_phantoms(tmp_path, count=1, **changed)
    with pytest.raises(ValueError, match="count is 0"):
        write_rater_phantoms(tmp_path / "other", count=0)


def test_nuclei_lie_inside_of_cells_for_each_rater_and_leave_the_cells_as_they_are(tmp_path):
    for index in range(6):
        image, masks = draw_nested_case((48, 52), seed=(3, index))
        plain = draw_rater_case((48, 52), seed=(3, index))
        assert masks.shape == (5, 2, 48, 52) and torch.equal(masks[:, 0], plain[1])
        cells, nuclei = masks.bool().unbind(1)
        assert (
            not (nuclei & ~cells).any() and nuclei.flatten(1).any(1).all() and (cells & ~nuclei).flatten(1).any(1).all()
        )
        middle = nuclei.all(0)
        assert image[0][middle].float().mean() > plain[0][0][middle].float().mean() + 10
        assert 0.4 < dice(nuclei[OVER], nuclei[UNDER]) < 0.98
    assert write_rater_phantoms(tmp_path, count=1, size=(48, 52), seed=3, tasks=2) == 1
    found = [qubiq_items(tmp_path, task=task)[0] for task in (1, 2)]
    written = [[read_nifti(path).tolist() for path in item["label"]] for item in found]
    drawn = draw_nested_case((48, 52), seed=(3, 0))[1]
    assert written == [drawn[:, task].tolist() for task in range(2)]
    with pytest.raises(ValueError, match="tasks is 3"):
        write_rater_phantoms(tmp_path, tasks=3)


def test_volumes_are_cells_too_and_their_slices_lie_apart(tmp_path):
    image, masks = draw_rater_case((40, 32, 8), seed=3)
    assert image.shape == (1, 40, 32, 8) and masks.shape == (len(RATER_STYLES), 40, 32, 8)
    sizes = masks.sum((1, 2, 3))
    assert sizes.argmax() == OVER and sizes.argmin() == UNDER and sizes[UNDER] > 0
    by_slice = masks[SMOOTHING].sum((0, 1))
    assert by_slice.argmax() in (3, 4) and by_slice[0] < by_slice.max() / 2  # round: widest in the middle
    inside, outside = (image[0][masks.bool().all(0) == value].float().mean() for value in (True, False))
    assert inside > outside + 40
    write_rater_phantoms(tmp_path, count=1, size=(40, 32, 8))
    written = nib.load(tmp_path / "Training" / "case01" / "image.nii.gz")
    flat = write_rater_phantoms(tmp_path / "flat", count=1, size=(40, 32))
    picture = nib.load(tmp_path / "flat" / "Training" / "case01" / "image.nii.gz")
    assert flat == 1 and written.shape == (40, 32, 8)
    apart = np.linalg.norm(written.affine[:3, 2]) / np.linalg.norm(picture.affine[:3, 2])
    assert apart == pytest.approx(0.7 * 32 / 8)  # eight slices cover 0.7 of the shorter side
    with pytest.raises(ValueError, match="of a volume 4 slices"):
        draw_rater_case((40, 40, 3))

"""Cases of several annotators: listed by names, decoded by stated rules, written back where they came from."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from monai_ext.data.device.cache_file import file_key
from monai_ext.data.device.dataset import DeviceDataset, DeviceLoader
from monai_ext.data.isic import DatasetLayoutError
from monai_ext.data.raters.decoding import DecodeRaters, read_rater_mask
from monai_ext.data.raters.qubiq import assign_rater_folds, identified_raters, qubiq_items, rater_fold_items
from monai_ext.data.raters.writer import RaterWriter
from monai_ext.raster.images import ImageFileError
from monai_ext.raster.nifti import read_nifti
from monai_ext.transforms.batch import BatchAugment

RAMP = np.arange(20, dtype=np.int16).reshape(4, 5)  # (H=4, W=5)


def write(path, values, affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.asarray(values), np.eye(4) if affine is None else affine), path)
    return path


def square(size=(4, 5), side=2, value=1, dtype=np.uint8):
    mask = np.zeros(size, dtype=dtype)
    mask[:side, :side] = value
    return mask


def write_case(folder, *, raters=(1, 2), task=1, image=RAMP, affine=None, masks=None):
    if image is not None:
        write(folder / "image.nii.gz", image, affine)
    for number in raters:
        mask = square(side=number) if masks is None else masks[number]
        write(folder / f"task{task:02d}_seg{number:02d}.nii.gz", mask, affine)
    return folder


def decode_one(folder, **settings):
    return DecodeRaters(**settings)(qubiq_items(folder)[0])


def file_names(paths):
    return [None if path is None else Path(path).name for path in paths]


# --- listing -------------------------------------------------------------------------------------------------------


def test_cases_come_in_natural_order_whatever_their_names(tmp_path):
    for name in ("case10", "case2", "case1-1", "case1-10", "case1-2"):
        write_case(tmp_path / "kidney" / "Training" / name)
    items = qubiq_items(tmp_path, region="kidney")
    assert [item["id"] for item in items] == ["case1-1", "case1-2", "case1-10", "case2", "case10"]
    assert items == qubiq_items(tmp_path / "kidney") == qubiq_items(tmp_path / "kidney", part="training")


def test_the_annotator_is_the_number_in_the_name_and_keeps_the_column_where_others_are_missing(tmp_path):
    write_case(tmp_path / "Training" / "case01", raters=(3, 1))
    write_case(tmp_path / "Training" / "case02", raters=(2, 3))
    write_case(tmp_path / "Validation" / "case03", raters=(12, 3))
    first, second = qubiq_items(tmp_path)
    assert first["raters"] == second["raters"] == [1, 2, 3, 12]
    assert file_names(first["label"]) == ["task01_seg01.nii.gz", None, "task01_seg03.nii.gz", None]
    assert file_names(second["label"]) == [None, "task01_seg02.nii.gz", "task01_seg03.nii.gz", None]
    decoded = DecodeRaters()(second)
    assert decoded["presence"].tolist() == [False, True, True, False]
    assert decoded["label"].sum((1, 2)).tolist() == [0, 4, 9, 0]
    assert identified_raters([first, second]) == [1, 2, 3, 12]


def test_the_columns_can_be_given_for_parts_that_lie_apart(tmp_path):
    write_case(tmp_path / "case01", raters=(1, 3))
    (item,) = qubiq_items(tmp_path, raters=[3, 2, 1])
    assert file_names(item["label"]) == ["task01_seg03.nii.gz", None, "task01_seg01.nii.gz"]
    with pytest.raises(DatasetLayoutError, match=r"annotators 7, 8 marked nothing in .*, only 1, 3 did"):
        qubiq_items(tmp_path, raters=[7, 8])
    with pytest.raises(ValueError, match="raters is .*: give different numbers"):
        qubiq_items(tmp_path, raters=[1, 1])


def test_each_task_has_its_own_masks_and_ids(tmp_path):
    write_case(tmp_path / "case01", raters=(1, 2))
    write_case(tmp_path / "case01", raters=(2, 5), task=3, image=None)
    (one,), (three,) = qubiq_items(tmp_path), qubiq_items(tmp_path, task=3)
    assert (one["id"], one["raters"], three["id"], three["raters"]) == (
        "case01_task01",
        [1, 2],
        "case01_task03",
        [2, 5],
    )
    assert one["case"] == three["case"] == "case01"
    with pytest.raises(DatasetLayoutError, match="nobody marked task 2 in .*, only 1, 3: choose task="):
        qubiq_items(tmp_path, task=2)


def test_a_part_without_masks_can_be_listed_to_predict(tmp_path):
    write_case(tmp_path / "Training" / "case01", raters=(1, 2))
    write_case(tmp_path / "Testing" / "case02", raters=())
    (item,) = qubiq_items(tmp_path, part="Testing", require_masks=False)
    assert item["label"] == [None, None] and item["raters"] == [1, 2]
    decoded = DecodeRaters()(item)
    assert not decoded["presence"].any() and decoded["label"].shape == (2, 4, 5) and not decoded["label"].any()
    with pytest.raises(DatasetLayoutError, match=r"case02 has no mask of task 1 .* task01_seg01.nii.gz, .*=False"):
        qubiq_items(tmp_path, part="Testing")

    shutil.rmtree(tmp_path / "Training")
    (item,) = qubiq_items(tmp_path, part="Testing", require_masks=False)
    assert "label" not in item and "raters" not in item
    assert sorted(DecodeRaters()(item)) == ["id", "image", "original_size"]
    with pytest.raises(DatasetLayoutError, match="no annotator file lies in the cases of"):
        qubiq_items(tmp_path, part="Testing")
    with pytest.raises(ValueError, match="case02 has no annotators"):
        identified_raters([item])


def test_a_folder_of_cases_counts_as_the_part_that_it_is_named_after(tmp_path):
    write_case(tmp_path / "Training" / "case01", raters=(1, 2, 3))
    write_case(tmp_path / "Validation" / "case02", raters=(1, 2))
    (item,) = qubiq_items(tmp_path / "Validation", part="Validation")
    assert item["raters"] == [1, 2, 3]  # the annotators of the region, as from its own folder
    assert qubiq_items(tmp_path / "Validation", part="Training")[0]["case"] == "case01"
    write_case(tmp_path / "plain" / "case03")
    with pytest.raises(DatasetLayoutError, match="plain has no validation part, only: training"):
        qubiq_items(tmp_path / "plain", part="Validation")


def test_hidden_and_other_files_are_passed_over(tmp_path):
    folder = write_case(tmp_path / "case01")
    for name in ("._image.nii.gz", ".DS_Store", "task01.nii.gz", "task01_seg01.png", "notes.txt"):
        (folder / name).write_text("nothing")
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / ".git").mkdir()
    (item,) = qubiq_items(tmp_path)
    assert item["raters"] == [1, 2]


def test_uncompressed_files_are_accepted(tmp_path):
    write(tmp_path / "case01" / "image.nii", RAMP)
    write(tmp_path / "case01" / "task1_seg4.nii", square())
    decoded = decode_one(tmp_path)
    assert decoded["label"].sum() == 4 and torch.equal(decoded["image"][0], torch.from_numpy(RAMP).float())


def test_a_case_without_image_is_named(tmp_path):
    write_case(tmp_path / "case01")
    write_case(tmp_path / "case02", image=None)
    with pytest.raises(
        DatasetLayoutError, match=r"case02 has no image: expected image.nii.gz beside 2 annotator files"
    ):
        qubiq_items(tmp_path)


def test_two_files_for_one_thing_are_named(tmp_path):
    folder = write_case(tmp_path / "case01")
    write(folder / "task1_seg2.nii.gz", square())
    with pytest.raises(
        DatasetLayoutError, match=r"two masks of annotator 2 for task 1: task01_seg02.nii.gz and task1_"
    ):
        qubiq_items(tmp_path)
    (folder / "task1_seg2.nii.gz").unlink()
    write(folder / "image.nii", RAMP)
    with pytest.raises(DatasetLayoutError, match=r"two images: image.nii and image.nii.gz"):
        qubiq_items(tmp_path)


def test_other_folders_are_refused_with_the_way_out(tmp_path):
    with pytest.raises(DatasetLayoutError, match="no cases in .*; expected is <region>/Training/case01/image.nii.gz"):
        qubiq_items(tmp_path)
    with pytest.raises(DatasetLayoutError, match="'/nowhere' is not a folder"):
        qubiq_items("/nowhere")
    write_case(tmp_path / "kidney" / "Training" / "case01")
    write_case(tmp_path / "pancreas" / "case1-1")
    with pytest.raises(DatasetLayoutError, match="holds the regions kidney, pancreas: choose one by region="):
        qubiq_items(tmp_path)
    with pytest.raises(DatasetLayoutError, match="no region 'liver', only kidney, pancreas"):
        qubiq_items(tmp_path, region="liver")
    with pytest.raises(DatasetLayoutError, match="has no testing part, only: training"):
        qubiq_items(tmp_path / "kidney", part="Testing")
    with pytest.raises(ValueError, match="part is 'test': choose 'Training'"):
        qubiq_items(tmp_path, part="test")
    (tmp_path / "empty" / "Training").mkdir(parents=True)
    with pytest.raises(DatasetLayoutError, match="no case folder lies in .*Training"):
        qubiq_items(tmp_path, region="empty")


def test_anonymous_annotators_cannot_be_trained_one_by_one(tmp_path):
    write_case(tmp_path / "case01")
    items = qubiq_items(tmp_path, anonymous=True)
    assert DecodeRaters()(items[0])["label"].shape == (2, 4, 5)
    with pytest.raises(
        ValueError, match="case01 are anonymous: the first of one case is another person .* anonymous=F"
    ):
        identified_raters(items)


def test_items_of_different_columns_are_not_mixed(tmp_path):
    write_case(tmp_path / "a" / "case01", raters=(1, 2))
    write_case(tmp_path / "b" / "case02", raters=(1, 3))
    items = qubiq_items(tmp_path / "a") + qubiq_items(tmp_path / "b")
    with pytest.raises(ValueError, match=r"case02 has the annotators \[1, 3\], the cases before \[1, 2\]: .* raters="):
        identified_raters(items)
    with pytest.raises(ValueError, match="no items"):
        identified_raters([])


def test_a_changed_mask_makes_the_decoded_file_stale(tmp_path):
    folder = write_case(tmp_path / "case01")
    before = file_key(qubiq_items(tmp_path), DecodeRaters())
    write(folder / "task01_seg02.nii.gz", np.random.default_rng(0).integers(0, 2, (4, 5), dtype=np.uint8))
    after = file_key(qubiq_items(tmp_path), DecodeRaters())
    assert before.name == after.name and before.fingerprint != after.fingerprint
    assert file_key(qubiq_items(tmp_path), DecodeRaters(normalise="zscore")).name != before.name


# --- volumes -------------------------------------------------------------------------------------------------------


def volume(tmp_path):
    image = np.arange(4 * 5 * 3, dtype=np.int16).reshape(4, 5, 3)
    masks = {n: np.stack([square(side=n + z) for z in range(3)], -1) for n in (1, 2)}
    affine = np.array([[2.0, 0, 0, 10], [0, 3, 0, 20], [0, 0, 5, 30], [0, 0, 0, 1]])
    write_case(tmp_path / "case1-1", image=image, masks=masks, affine=affine)
    return image


def test_a_volume_gives_one_item_for_each_slice(tmp_path):
    image = volume(tmp_path)
    items = qubiq_items(tmp_path, slices=True)
    assert [item["id"] for item in items] == ["case1-1_z000", "case1-1_z001", "case1-1_z002"]
    for z, item in enumerate(items):
        decoded = DecodeRaters(dtype=torch.int16)(item)
        assert torch.equal(decoded["image"][0], torch.from_numpy(image[..., z].copy()))
        assert decoded["label"].sum((1, 2)).tolist() == [(1 + z) ** 2, (2 + z) ** 2]


def test_a_volume_is_refused_as_a_picture(tmp_path):
    volume(tmp_path)
    with pytest.raises(ImageFileError, match=r"task01_seg01.nii.gz has the shape \(4, 5, 3\): .* slices=True"):
        decode_one(tmp_path)


def test_a_mask_with_fewer_slices_is_named(tmp_path):
    volume(tmp_path)
    write(tmp_path / "case1-1" / "task01_seg02.nii.gz", square())
    with pytest.raises(
        ImageFileError, match=r"task01_seg02.nii.gz has 1 slice\(s\) along its third axis, so no slice 2"
    ):
        DecodeRaters()(qubiq_items(tmp_path, slices=True)[2])


def test_a_mask_written_for_a_slice_lies_at_its_place(tmp_path):
    volume(tmp_path)
    item = qubiq_items(tmp_path, slices=True)[2]
    path = RaterWriter(tmp_path / "out").write_masks(item, DecodeRaters()(item)["label"])[1]
    assert path == tmp_path / "out" / "case1-1_z002" / "task01_seg02.nii.gz"
    written = nib.load(path)
    assert written.shape == (4, 5, 1)
    assert (written.affine @ [1, 1, 0, 1]).tolist() == [12, 23, 40, 1]  # = the volume's affine at (1, 1, 2)


# --- decoding ------------------------------------------------------------------------------------------------------


def test_rows_and_columns_are_the_first_two_axes_as_stored(tmp_path):
    write_case(tmp_path / "case01", affine=np.diag([-1.0, -2, 3, 1]))
    decoded = decode_one(tmp_path)
    assert decoded["image"].dtype == torch.float32 and decoded["label"].dtype == torch.uint8
    assert torch.equal(decoded["image"], torch.from_numpy(RAMP)[None].float())
    assert decoded["label"][0, :2, :3].tolist() == [[1, 0, 0], [0, 0, 0]]
    assert decoded["label"][1, :3, :3].tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert decoded["original_size"].tolist() == [4, 5] and decoded["presence"].dtype == torch.bool


def test_trailing_axes_of_one_are_dropped_wherever_they_are(tmp_path):
    masks = {1: square(side=1)[..., None], 2: square(side=2)}
    write_case(tmp_path / "case01", image=RAMP[..., None, None], masks=masks)
    decoded = decode_one(tmp_path)
    assert decoded["image"].shape == (1, 4, 5) and decoded["label"].sum((1, 2)).tolist() == [1, 4]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_channels_are_the_axis_that_the_masks_leave_over(tmp_path, axis):
    channels = np.stack([RAMP + 100 * c for c in range(3)])
    write_case(tmp_path / "case01", image=np.moveaxis(channels, 0, axis))
    assert torch.equal(decode_one(tmp_path, dtype=torch.int16)["image"], torch.from_numpy(channels))
    (item,) = qubiq_items(tmp_path)
    alone = {key: value for key, value in item.items() if key != "label"}
    assert torch.equal(DecodeRaters(channel_axis=axis, dtype=torch.int16)(alone)["image"], torch.from_numpy(channels))
    with pytest.raises(ImageFileError, match="no mask tells which axis its channels are: set channel_axis"):
        DecodeRaters()(alone)
    with pytest.raises(ImageFileError, match=rf"does not fit its masks .* on axis {(axis + 1) % 3}"):
        DecodeRaters(channel_axis=(axis + 1) % 3)(item)


def test_a_shape_that_can_be_read_in_two_ways_is_refused(tmp_path):
    write_case(tmp_path / "case01", image=np.zeros((4, 4, 4), np.uint8), masks={n: square((4, 4)) for n in (1, 2)})
    with pytest.raises(ImageFileError, match="which can be read in two ways: set channel_axis"):
        decode_one(tmp_path)
    assert decode_one(tmp_path, channel_axis=0)["image"].shape == (4, 4, 4)


@pytest.mark.parametrize("dtype", ["<u1", "<i2", ">i2", "<u2", "<i4", "<f4", "<f8"])
def test_every_type_and_byte_order_is_read(tmp_path, dtype):
    write_case(tmp_path / "case01", image=RAMP.astype(dtype), masks={n: square(dtype=dtype) for n in (1, 2)})
    decoded = decode_one(tmp_path)
    assert torch.equal(decoded["image"][0], torch.from_numpy(RAMP).float()) and decoded["label"].sum() == 8


def test_the_scale_factor_of_a_file_is_applied(tmp_path):
    image, mask = nib.Nifti1Image(RAMP, np.eye(4)), nib.Nifti1Image(square(value=255), np.eye(4))
    image.header.set_slope_inter(0.5, -10)
    mask.header.set_slope_inter(1 / 255, 0)  # 255 / 255 is not quite 1 in the file's single precision
    write_case(tmp_path / "case01", raters=(2,))
    nib.save(image, tmp_path / "case01" / "image.nii.gz")
    nib.save(mask, tmp_path / "case01" / "task01_seg02.nii.gz")
    decoded = decode_one(tmp_path)
    assert torch.equal(decoded["image"][0], torch.from_numpy(RAMP) * 0.5 - 10) and decoded["label"].sum() == 4


def test_compact_types_keep_whole_numbers_and_refuse_others(tmp_path):
    write_case(tmp_path / "case01", image=(RAMP - 1000).astype(np.int16))
    decoded = decode_one(tmp_path, dtype=torch.int16)
    assert decoded["image"].dtype == torch.int16 and decoded["image"].min() == -1000
    with pytest.raises(ImageFileError, match=r"image.nii.gz has values from -1000 to -981 .* do not fit torch.uint8"):
        decode_one(tmp_path, dtype=torch.uint8)
    write_case(tmp_path / "case01", image=RAMP / 2)
    with pytest.raises(ImageFileError, match="or fractions, which do not fit torch.int16: choose dtype torch.float32"):
        decode_one(tmp_path, dtype=torch.int16)


def test_masks_of_255_and_empty_ones_are_masks(tmp_path):
    write_case(tmp_path / "case01", masks={1: square(value=255), 2: square(side=0)})
    decoded = decode_one(tmp_path)
    assert decoded["label"].sum((1, 2)).tolist() == [4, 0] and decoded["label"].max() == 1
    assert decoded["presence"].tolist() == [True, True]


@pytest.mark.parametrize(
    ("value", "named"), [(0.4, "0.4"), (2, "2"), (-1, "-1"), (254, "254"), (np.nan, "nan"), (np.inf, "inf")]
)
def test_other_values_in_a_mask_are_refused_with_its_file(tmp_path, value, named):
    write_case(tmp_path / "case01", masks={1: square(), 2: square(value=value, dtype=np.float32)})
    with pytest.raises(ImageFileError, match=rf"task01_seg02.nii.gz holds the value {named}: a mask has 0 and 1"):
        decode_one(tmp_path)


def test_1_and_255_in_one_mask_are_two_labels(tmp_path):
    mask = square(value=255)
    mask[3, 3] = 1
    with pytest.raises(ImageFileError, match="holds the value 1: "):
        read_rater_mask(write(tmp_path / "a.nii.gz", mask))


def test_a_mask_of_another_size_is_named_with_both_sizes(tmp_path):
    write_case(tmp_path / "case01", masks={1: square(), 2: square((5, 4))})
    with pytest.raises(ImageFileError, match=r"image.nii.gz has 4 x 5 .* mask .*seg02.nii.gz has 5 x 4: pair"):
        decode_one(tmp_path)


def test_a_single_annotator_is_enough(tmp_path):
    write_case(tmp_path / "case01", raters=(6,))
    decoded = decode_one(tmp_path)
    assert decoded["label"].shape == (1, 4, 5) and decoded["presence"].tolist() == [True]


def test_non_finite_pixels_become_the_minimum_of_their_channel_with_a_warning(tmp_path):
    channels = np.stack([RAMP + 7.0, RAMP - 3.0])
    channels[0, 3, 4], channels[1, 0, 1] = np.nan, np.inf
    write_case(tmp_path / "case01", image=channels)
    with pytest.warns(UserWarning, match=r"2 of the 40 pixels of image .*case01.image.nii.gz are NaN or infinite"):
        image = decode_one(tmp_path)["image"]
    assert (image[0, 3, 4], image[1, 0, 1], image[0, 0, 0]) == (7, -3, 7)
    with pytest.raises(ImageFileError, match="2 of the 40 pixels .*: mend the file, or set non_finite='minimum'"):
        decode_one(tmp_path, non_finite="error")
    channels[1] = np.nan
    write_case(tmp_path / "case01", image=channels)
    with pytest.raises(ImageFileError, match="in one channel all of them: nothing is left to see"):
        decode_one(tmp_path)


def test_a_window_maps_its_ends_to_0_and_1(tmp_path):
    write_case(tmp_path / "case01", image=np.resize(np.int16([-1000, -160, 40, 140, 240]), (4, 5)))
    assert decode_one(tmp_path, window=(40, 400))["image"][0, 0].tolist() == [0, 0, 0.5, 0.75, 1]


def test_minmax_maps_percentiles_to_0_and_1(tmp_path):
    write_case(tmp_path / "case01")
    full = decode_one(tmp_path, normalise="minmax", percentiles=(0, 100))["image"]
    assert torch.allclose(full[0], torch.from_numpy(RAMP) / 19)
    cut = decode_one(tmp_path, normalise="minmax", percentiles=(25, 75))["image"].numpy()
    low, high = np.percentile(RAMP, (25, 75))
    assert np.allclose(cut, np.clip((RAMP - low) / (high - low), 0, 1))


def test_zscore_is_of_each_channel_and_a_constant_one_becomes_0(tmp_path):
    write_case(tmp_path / "case01", image=np.stack([RAMP, 5 * RAMP + 100, np.full_like(RAMP, 7)]).astype(np.float32))
    image = decode_one(tmp_path, normalise="zscore", percentiles=(0, 100))["image"].numpy()
    assert np.allclose(image[0], (RAMP - RAMP.mean()) / RAMP.std(), atol=1e-5)
    assert np.allclose(image[0], image[1], atol=1e-5) and not image[2].any()


def native_masks(folder):
    return decode_one(folder)["label"][None].float()


def test_resizing_is_linear_for_images_and_keeps_half_covered_pixels_of_masks(tmp_path):
    image = np.repeat(np.repeat(np.array([[0, 4], [8, 12]], np.float32), 4, 0), 4, 1)
    write_case(tmp_path / "case01", image=image, masks={n: square((8, 8), side=n + 2) for n in (1, 2)})
    decoded = decode_one(tmp_path, spatial_size=(4, 4))
    share = torch.nn.functional.interpolate(native_masks(tmp_path), (4, 4), mode="bilinear", antialias=True)[0]
    assert torch.equal(decoded["label"], (share >= 0.5).byte())
    assert decoded["original_size"].tolist() == [8, 8]
    corner = decoded["image"][0, 0, 1].item()
    assert 0 < corner < 4  # the filter reaches over the edge: antialiased
    assert abs(decoded["image"].mean().item() - 6) < 1e-5
    native = decode_one(tmp_path, spatial_size=(4, 4), label_spatial_size="native")
    assert native["image"].shape == (1, 4, 4) and native["label"].shape == (2, 8, 8)


def test_damaged_files_are_named(tmp_path):
    folder = write_case(tmp_path / "case01")
    whole = (folder / "image.nii.gz").read_bytes()
    for content in (b"", b"no picture", whole[: len(whole) // 2]):
        (folder / "image.nii.gz").write_bytes(content)
        with pytest.raises(ImageFileError, match=r"cannot read .*case01/image.nii.gz as NIfTI"):
            decode_one(tmp_path)
    with pytest.raises(ImageFileError, match="gone.nii.gz does not exist"):
        read_nifti(tmp_path / "gone.nii.gz")
    colours = np.zeros((4, 5), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    write(folder / "image.nii.gz", colours)
    with pytest.raises(ImageFileError, match="image.nii.gz holds .* voxels: save it with one real number"):
        decode_one(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"spatial_size": (4,)}, "spatial_size is"),
        ({"window": (40, 0)}, "with a width above 0"),
        ({"normalise": "mean"}, "normalise is 'mean'"),
        ({"percentiles": (90, 10)}, "two rising numbers"),
        ({"non_finite": "zero"}, "non_finite is 'zero'"),
        ({"dtype": torch.int16, "normalise": "zscore"}, "give fractions: choose torch.float32"),
        ({"channel_axis": -1}, "channel_axis is -1"),
        ({"label_spatial_size": "full"}, "label_spatial_size is 'full'"),
    ],
)
def test_settings_are_checked_at_once(settings, message):
    with pytest.raises(ValueError, match=message):
        DecodeRaters(**settings)


def test_settings_can_be_read_from_the_representation():
    text = repr(DecodeRaters((8, 9), window=(40, 400)))
    assert text.startswith("DecodeRaters(spatial_size=(8, 9), window=(40.0, 400.0), normalise=None")
    assert text == repr(DecodeRaters([8, 9], window=[40, 400])) and "0x" not in text


def test_batches_on_the_device_move_image_and_masks_together(tmp_path):
    for index in range(4):
        mask = np.random.default_rng(index).integers(0, 2, (6, 6), dtype=np.uint8)
        raters = (1, 2) if index else (1,)
        write_case(tmp_path / f"case{index}", raters=raters, image=mask * 255, masks={1: mask, 2: 1 - mask})
    decoder, kept = DecodeRaters(dtype=torch.uint8), tmp_path / "kept"
    dataset = DeviceDataset(qubiq_items(tmp_path), decoder, num_workers=0, cache_dir=kept)
    again = DeviceDataset(dataset.data, decoder, cache_dir=kept)  # from the decoded-set file
    assert all(torch.equal(again[0][key], dataset[0][key]) for key in ("image", "label", "presence"))
    loader = DeviceLoader(again, 4, shuffle=True, transform=BatchAugment(flip_prob=0.5, rot90_prob=0.75))
    (batch,) = loader
    assert batch["label"].shape == (4, 2, 6, 6) and torch.allclose(batch["image"][:, 0], batch["label"][:, 0])
    present = batch["presence"][:, 1]
    assert present.tolist() == [name != "case0" for name in batch["id"]]
    assert torch.equal(batch["label"][present, 1], 1 - batch["label"][present, 0])
    assert not batch["label"][~present, 1].any()
    assert not torch.allclose(batch["image"], again.batch(batch["index"])["image"] / 255)  # they did move


# --- writing -------------------------------------------------------------------------------------------------------


def placed_case(folder, size, seed, shape=None):
    """A case with a size and an oblique affine of its own, in millimetres and seconds."""
    rng = np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:3] = rng.normal(0, 3, (3, 4))
    image = nib.Nifti1Image(rng.integers(0, 200, shape or size, dtype=np.int16), affine)
    image.header.set_xyzt_units("mm", "sec")
    folder.mkdir(parents=True)
    nib.save(image, folder / "image.nii.gz")
    for rater in (1, 4):
        write(folder / f"task02_seg{rater:02d}.nii.gz", rng.integers(0, 2, size, dtype=np.uint8), affine)
    return image


def test_every_case_is_written_with_its_own_geometry(tmp_path):
    sources = {
        "case01": placed_case(tmp_path / "in" / "case01", (6, 8), 1),
        "case02": placed_case(tmp_path / "in" / "case02", (9, 4), 2),
        "case03": placed_case(tmp_path / "in" / "case03", (9, 4), 3, (9, 4, 1)),
    }
    writer = RaterWriter(tmp_path / "out")
    for item in qubiq_items(tmp_path / "in", task=2):
        decoded = DecodeRaters()(item)
        paths = writer.write_masks(item, decoded["label"])
        consensus = writer.write_probability(item, decoded["label"].float().mean(0))
        assert [path.name for path in paths] == ["task02_seg01.nii.gz", "task02_seg04.nii.gz"]
        assert consensus == tmp_path / "out" / item["case"] / "task02.nii.gz"
        source = sources[item["case"]]
        for path in (*paths, consensus):
            written = nib.load(path)
            assert written.shape == source.shape and np.array_equal(written.affine, nib.load(item["image"]).affine)
            assert written.header.get_xyzt_units() == ("mm", "sec")
            assert np.allclose(written.header.get_zooms(), source.header.get_zooms())
        for path, mask in zip(paths, decoded["label"], strict=True):
            assert nib.load(path).get_data_dtype() == np.uint8
            assert np.array_equal(read_nifti(path), mask.numpy())
        assert nib.load(consensus).get_data_dtype() == np.float32
        assert np.allclose(read_nifti(consensus), decoded["label"].float().mean(0))
    assert not list((tmp_path / "out").rglob(".*"))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_channels_axis_is_left_out_and_pixels_keep_their_place_in_the_room(tmp_path, axis):
    shape = list(np.insert((6, 8), axis, 4))
    source = placed_case(tmp_path / "in" / "case01", (6, 8), 1, shape)
    (item,) = qubiq_items(tmp_path / "in", task=2)
    path = RaterWriter(tmp_path / "out").write_probability(item, torch.rand(1, 6, 8))
    written = nib.load(path)
    assert written.shape == (6, 8)
    place = source.affine @ [*np.insert([3, 5], axis, 0), 1]
    assert np.allclose(written.affine @ [3, 5, 0, 1], place, atol=1e-4)
    bare = {key: value for key, value in item.items() if key not in ("label", "raters")}
    same = RaterWriter(tmp_path / "bare", channel_axis=axis).write_probability(bare, torch.rand(6, 8))
    assert np.array_equal(nib.load(same).affine, written.affine)


def test_predictions_are_restored_to_the_size_of_the_case(tmp_path):
    placed_case(tmp_path / "in" / "case01", (6, 8), 1)
    (item,) = qubiq_items(tmp_path / "in", task=2)
    writer = RaterWriter(tmp_path / "out")
    small = torch.tensor([[1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]], dtype=torch.uint8)  # (3, 4), half of (6, 8)
    masks = [read_nifti(path) for path in writer.write_masks(item, torch.stack([small, 1 - small]))]
    assert np.array_equal(masks[0], np.kron(small.numpy(), np.ones((2, 2)))) and np.array_equal(masks[1], 1 - masks[0])
    ramp = torch.linspace(0, 1, 8).expand(6, 8)
    probability = torch.nn.functional.interpolate(ramp[None, None], (3, 4), mode="bilinear", antialias=True)[0]
    restored = read_nifti(writer.write_probability(item, probability))
    assert np.abs(restored - ramp.numpy())[:, 3:5].max() < 0.01
    soft = [read_nifti(path) for path in writer.write_masks(item, torch.stack([ramp, 1 - ramp]))]
    assert np.array_equal(soft[0], ramp.numpy() > 0.5) and np.array_equal(soft[1], ramp.numpy() < 0.5)


def test_samples_are_numbered_and_logits_and_labels_refused(tmp_path):
    placed_case(tmp_path / "in" / "case01", (6, 8), 1)
    (item,) = qubiq_items(tmp_path / "in", task=2)
    writer = RaterWriter(tmp_path / "out")
    paths = writer.write_samples(item, torch.ones(3, 6, 8, dtype=torch.bool))
    assert [path.name for path in paths] == [f"task02_sample{n:02d}.nii.gz" for n in (1, 2, 3)]
    with pytest.raises(ValueError, match=r"case case01 holds values from -3 to 2: expected probabilities .* sigmoid"):
        writer.write_probability(item, torch.tensor([[-3.0, 2.0]]))
    with pytest.raises(ValueError, match="values from nan"):
        writer.write_probability(item, torch.full((6, 8), torch.nan))
    with pytest.raises(ValueError, match="holds values from 0 to 3: expected 0 and 1"):
        writer.write_samples(item, torch.tensor([[[0, 3]]]))
    with pytest.raises(ValueError, match=r"masks for case case01 are \(3, 6, 8\): expected \(2, h, w\), one .* seg04"):
        writer.write_masks(item, torch.zeros(3, 6, 8))
    with pytest.raises(ValueError, match=r"is torch.float32 \(2, 6, 8\): expected floating point \(h, w\)"):
        writer.write_probability(item, torch.zeros(2, 6, 8))
    bare = {key: value for key, value in item.items() if key not in ("label", "raters")}
    with pytest.raises(ValueError, match="case01 has no annotators of its own: say whose masks"):
        writer.write_masks(bare, torch.zeros(2, 6, 8))
    assert writer.write_masks(bare, torch.zeros(1, 6, 8), raters=[9])[0].name == "task02_seg09.nii.gz"


def test_another_case_of_the_same_name_is_not_overwritten(tmp_path):
    placed_case(tmp_path / "kidney" / "case01", (6, 8), 1)
    placed_case(tmp_path / "prostate" / "case01", (6, 8), 2)
    writer = RaterWriter(tmp_path / "out")
    (kidney,), (prostate,) = (qubiq_items(tmp_path / region, task=2) for region in ("kidney", "prostate"))
    path = writer.write_probability(kidney, torch.zeros(6, 8))
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"task02.nii.gz belongs to another case: .* choose another output_dir"):
        writer.write_probability(prostate, torch.ones(6, 8))
    assert path.read_bytes() == before
    writer.write_probability(kidney, torch.ones(6, 8))
    assert read_nifti(path).min() == 1


# --- folds ---------------------------------------------------------------------------------------------------------


def made_up(names, slices=1):
    return [{"case": name, "id": f"{name}_z{z}", "slice": z} for name in names for z in range(slices)]


def test_all_slices_of_a_case_share_a_fold_and_folds_partition_the_items():
    items = made_up([f"case{n}" for n in range(11)], slices=3)
    parts = [rater_fold_items(items, fold, part="validation", folds=4) for fold in range(4)]
    assert sorted(item["id"] for part in parts for item in part) == sorted(item["id"] for item in items)
    cases = [{item["case"] for item in part} for part in parts]
    assert sorted(map(len, cases)) == [2, 3, 3, 3] and sum(map(len, cases)) == len(set().union(*cases))
    training = rater_fold_items(items, 1, folds=4)
    assert training == [item for item in items if item["case"] not in cases[1]]


def test_folds_depend_on_names_and_seed_alone():
    items = made_up([f"case{n}" for n in range(12)])
    folds = dict(zip((item["id"] for item in items), assign_rater_folds(items, folds=3), strict=True))
    moved = [{**item, "image": f"/elsewhere/{item['id']}"} for item in items]
    random.Random(1).shuffle(moved)
    assert {i["id"]: f for i, f in zip(moved, assign_rater_folds(moved, folds=3), strict=True)} == folds
    assert assign_rater_folds(items, folds=3, seed=1) != assign_rater_folds(items, folds=3)


def test_a_large_case_is_balanced_by_many_small_ones():
    items = made_up(["large"], slices=6) + made_up([f"small{n}" for n in range(6)])
    folds = assign_rater_folds(items, folds=2)
    assert len(set(folds[:6])) == 1 and sorted((folds.count(0), folds.count(1))) == [6, 6]


@pytest.mark.parametrize("group", [r"case\d+", r"(\d+)-", lambda item: item["case"].split("-")[0]])
def test_groups_stay_together(group):
    items = made_up([f"case{patient}-{part}" for patient in range(6) for part in (1, 2)])
    folds = assign_rater_folds(items, folds=3, group=group)
    assert folds[::2] == folds[1::2] and sorted(folds) == [0] * 4 + [1] * 4 + [2] * 4


def test_impossible_folds_are_refused():
    items = made_up(["case1", "case2"])
    for settings, message in (
        ({"folds": 1}, "folds is 1: cross-validation needs at least 2"),
        ({"folds": 3}, "folds is 3, but the 2 items form only 2 groups"),
        ({"folds": 2, "group": "patient"}, "group is 'patient', which is not found in the name of case case1"),
    ):
        with pytest.raises(ValueError, match=message):
            assign_rater_folds(items, **settings)
    with pytest.raises(ValueError, match="fold is 2: with folds=2"):
        rater_fold_items(items, 2, folds=2)
    with pytest.raises(ValueError, match="part is 'test'"):
        rater_fold_items(items, 0, part="test", folds=2)

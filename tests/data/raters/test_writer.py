"""Predictions written in the geometry of their case."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from rater_cases import placed_case, volume, write_case

from monai_ext.data.raters.decoding import DecodeRaters
from monai_ext.data.raters.qubiq import qubiq_items
from monai_ext.data.raters.writer import RaterWriter
from monai_ext.raster.nifti import read_nifti


def test_a_mask_written_for_a_slice_lies_at_its_place(tmp_path):
    volume(tmp_path)
    item = qubiq_items(tmp_path, slices=True)[2]
    path = RaterWriter(tmp_path / "out").write_masks(item, DecodeRaters()(item)["label"])[1]
    assert path == tmp_path / "out" / "case1-1_z002" / "task01_seg02.nii.gz"
    written = nib.load(path)
    assert written.shape == (4, 5, 1)
    assert (written.affine @ [1, 1, 0, 1]).tolist() == [12, 23, 40, 1]  # = the volume's affine at (1, 1, 2)


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
    with pytest.raises(ValueError, match=r"masks for case case01 are \(3, 6, 8\): expected \(2, h, w\) .* seg04"):
        writer.write_masks(item, torch.zeros(3, 6, 8))
    with pytest.raises(ValueError, match=r"is torch.float32 \(2, 6, 8\): expected floating point \(h, w\)"):
        writer.write_probability(item, torch.zeros(2, 6, 8))
    bare = {key: value for key, value in item.items() if key not in ("label", "raters")}
    with pytest.raises(ValueError, match="case01 has no raters of its own: name those of"):
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


def test_predictions_for_a_region_of_interest_come_to_their_place(tmp_path):
    write_case(tmp_path / "case01")  # 4 x 5 pixels
    item = qubiq_items(tmp_path)[0] | {"roi": [1, 2, 2, 2]}
    writer = RaterWriter(tmp_path / "out")
    (path,) = writer.write_masks(item, torch.ones(1, 6, 6, dtype=torch.uint8), raters=[1])
    expected = np.zeros((4, 5))
    expected[1:3, 2:4] = 1
    assert np.array_equal(np.asarray(nib.load(path).dataobj), expected)
    share = writer.write_probability(item, torch.full((4, 5), 0.25))  # of the region, whatever its size
    assert np.allclose(np.asarray(nib.load(share).dataobj), expected / 4)


@pytest.mark.parametrize("channels", [False, True], ids=["grey", "channels"])
def test_what_was_predicted_at_another_spacing_and_orientation_comes_back_into_the_geometry_of_the_volume(
    tmp_path, channels
):
    image = np.random.default_rng(0).random((8, 6, 5))
    mask = np.zeros((8, 6, 5), dtype=np.uint8)
    mask[1:5, 2:6, 1:4] = 1
    affine = np.array([[0.0, -2, 0, 10], [-2, 0, 0, 20], [0, 0, 5, 30], [0, 0, 0, 1]])
    stored = np.stack([image, image], axis=-1) if channels else image
    write_case(tmp_path / "in" / "case01", image=stored, raters=(1,), masks={1: mask}, affine=affine)
    item = qubiq_items(tmp_path / "in")[0]
    decoded = DecodeRaters(spatial_dims=3, spacing=(1, 1, 5))(item)
    assert decoded["label"].shape[1:] != mask.shape
    writer = RaterWriter(tmp_path / "out")
    path = writer.write_masks(item | {"affine": decoded["affine"]}, decoded["label"])[0]
    written = nib.load(path)
    assert np.array_equal(written.affine, affine) and written.shape == mask.shape
    assert np.array_equal(read_nifti(path), mask)
    share = writer.write_probability(item | {"affine": decoded["affine"]}, decoded["label"][:1].half() * 0.25)
    assert np.array_equal(read_nifti(share) > 0.12, mask)


def test_slices_are_joined_to_the_volume_they_are_of(tmp_path):
    volume(tmp_path)
    items = qubiq_items(tmp_path, slices=True)
    decode = DecodeRaters(spatial_size=(8, 10))
    joined = RaterWriter(tmp_path / "out").join_slices(items, [decode(item)["label"] for item in items], masks=True)
    assert joined.dtype == torch.bool and joined.shape == (2, 4, 5, 3)
    for number, masks in zip((1, 2), joined, strict=True):
        assert np.array_equal(masks.numpy(), read_nifti(tmp_path / "case1-1" / f"task01_seg{number:02d}.nii.gz"))

"""Decoding of a case: axes, types, masks, normalisation, sizes."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from rater_cases import RAMP, decode_one, save_nifti_array, square, volume, write_case

from monai_ext.data.device.dataset import DeviceDataset
from monai_ext.data.device.loader import DeviceLoader
from monai_ext.data.raters.decoding import DecodeRaters
from monai_ext.data.raters.qubiq import qubiq_items
from monai_ext.formulas.grids import resample
from monai_ext.raster.images import ImageFileError
from monai_ext.raster.nifti import read_nifti
from monai_ext.transforms import BatchAugment, RandomFlip, RandomQuarterTurn


def test_a_volume_is_refused_as_a_picture(tmp_path):
    volume(tmp_path)
    with pytest.raises(ImageFileError, match=r"task01_seg01.nii.gz has the shape \(4, 5, 3\): .* slices=True"):
        decode_one(tmp_path)


def test_a_mask_with_fewer_slices_is_named(tmp_path):
    volume(tmp_path)
    save_nifti_array(tmp_path / "case1-1" / "task01_seg02.nii.gz", square())
    with pytest.raises(
        ImageFileError, match=r"task01_seg02.nii.gz has 1 slice\(s\) along its third axis, so no slice 2"
    ):
        DecodeRaters()(qubiq_items(tmp_path, slices=True)[2])


def native_masks(folder):
    return decode_one(folder)["label"][None].float()


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
    with pytest.raises(ImageFileError, match="no mask to find the axis of its channels by: set channel_axis"):
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


def test_a_mask_of_another_size_is_named_with_both_sizes(tmp_path):
    write_case(tmp_path / "case01", masks={1: square(), 2: square((5, 4))})
    with pytest.raises(ImageFileError, match=r"image.nii.gz has 4 x 5 .* mask .*seg02.nii.gz has 5 x 4: pair"):
        decode_one(tmp_path)


def test_a_single_rater_is_enough(tmp_path):
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
    save_nifti_array(folder / "image.nii.gz", colours)
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
    loader = DeviceLoader(again, 4, shuffle=True, transform=BatchAugment([RandomFlip(), RandomQuarterTurn()]))
    (batch,) = loader
    assert batch["label"].shape == (4, 2, 6, 6) and torch.allclose(batch["image"][:, 0], batch["label"][:, 0])
    present = batch["presence"][:, 1]
    assert present.tolist() == [name != "case0" for name in batch["id"]]
    assert torch.equal(batch["label"][present, 1], 1 - batch["label"][present, 0])
    assert not batch["label"][~present, 1].any()
    assert not torch.allclose(batch["image"], again.batch(batch["index"])["image"] / 255)  # they did move


def test_a_region_of_interest_is_cut_from_image_and_masks_before_they_are_resized(tmp_path):
    image = np.arange(16 * 12, dtype=np.float32).reshape(16, 12)
    mask = np.zeros((16, 12), np.uint8)
    mask[6:9, 4:7] = 1
    write_case(tmp_path / "case01", image=image, masks={1: mask}, raters=[1])
    decoded = decode_one(tmp_path, zoom=2.0)
    assert torch.equal(decoded["image"][0], torch.from_numpy(image)[4:12, 3:9]) and "label_is_whole" not in decoded
    assert decoded["label"][0].nonzero().min(0).values.tolist() == [2, 1] and decoded["label"].sum() == 9
    assert decode_one(tmp_path, zoom=2.0, spatial_size=(16, 12))["image"].shape == (1, 16, 12)
    clicked = decode_one(tmp_path, zoom=2.0, centre=(7, 5), label_spatial_size="native")
    assert clicked["roi"].tolist() == [3, 2, 8, 6] and clicked["original_size"].tolist() == [16, 12]
    assert decoded["roi"].tolist() == [4, 3, 8, 6] and clicked["label_is_whole"]
    assert clicked["label"].shape == (1, 16, 12) and clicked["image"].shape == (1, 8, 6)
    searched = decode_one(
        tmp_path, zoom=2.0, spatial_size=(8, 6), search="true"
    )  # the whole at the scale of the region
    assert torch.equal(searched["image"][0], torch.from_numpy(image)) and "roi" not in searched


def test_marks_outside_of_the_region_of_interest_are_reported(tmp_path, caplog):
    image, masks = np.ones((16, 16), np.float32), {1: square((16, 16), side=6)}
    write_case(tmp_path / "case01", image=image, masks=masks, raters=[1])
    decode_one(tmp_path, zoom=2.0)
    assert "89% of what is marked in" in caplog.text and "case01" in caplog.text and "set zoom below 2" in caplog.text


def test_a_zoom_below_one_and_a_centre_of_one_number_are_refused():
    with pytest.raises(ValueError, match="zoom is 0.5"):
        DecodeRaters(zoom=0.5)
    with pytest.raises(ValueError, match="centre is"):
        DecodeRaters(centre=[3])
    with pytest.raises(ValueError, match="begins in the middle"):
        DecodeRaters(zoom=2.0, spatial_size=(8, 8), centre=[3, 3], search=True)


# --- labels and shapes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slices", [False, True])
def test_a_first_axis_of_length_1_gets_advice_that_helps(tmp_path, slices):
    masks = {number: square(side=number)[None] for number in (1, 2)}
    write_case(tmp_path / "case01", image=RAMP[None], masks=masks)
    with pytest.raises(ImageFileError, match=r"\(1, 4, 5\).*its first axis has length 1: save it as 4 x 5"):
        DecodeRaters()(qubiq_items(tmp_path, slices=slices)[0])


# --- volumes -------------------------------------------------------------------------------------------------------

LAID = np.array([[0, -0.5, 0, 10], [2, 0, 0, 20], [0, 0, 5, 30], [0, 0, 0, 1.0]])  # rows to the front, columns left


def test_a_volume_is_read_as_stored(tmp_path):
    image = volume(tmp_path)
    decoded = decode_one(tmp_path, spatial_dims=3, dtype=torch.int16)
    assert torch.equal(decoded["image"][0], torch.from_numpy(image)) and decoded["label"].dtype == torch.uint8
    assert decoded["label"].shape == (2, 4, 5, 3) and decoded["label"].sum((1, 2)).tolist() == [[1, 4, 9], [4, 9, 16]]
    assert decoded["original_size"].tolist() == [4, 5, 3]
    assert torch.equal(decoded["affine"], decoded["original_affine"]) and decoded["affine"].diag()[:3].tolist() == [
        2,
        3,
        5,
    ]


def test_volumes_of_a_spacing_lie_to_the_right_front_and_top_and_come_back(tmp_path):
    rng = np.random.default_rng(0)
    image, mask = rng.normal(size=(8, 12, 4)).astype(np.float32), rng.integers(0, 2, (8, 12, 4), dtype=np.uint8)
    write_case(tmp_path / "case01", image=image, masks={1: mask, 2: 1 - mask}, affine=LAID)
    same = decode_one(tmp_path, spatial_dims=3, spacing=(0.5, 2, 5))
    assert torch.equal(same["image"][0], torch.from_numpy(image).permute(1, 0, 2).flip(0))
    assert torch.equal(same["label"][0], torch.from_numpy(mask).permute(1, 0, 2).flip(0))
    finer = decode_one(tmp_path, spatial_dims=3, spacing=(0.5, 1, 2.5))
    assert finer["image"].shape == (1, 12, 15, 7) and finer["label"].shape == (2, 12, 15, 7)
    back = resample(finer["label"], finer["affine"].numpy(), finer["original_affine"].numpy(), (8, 12, 4))
    assert torch.equal(back[0], torch.from_numpy(mask).float())
    sized = decode_one(tmp_path, spatial_dims=3, spacing=(0.5, 1, 2.5), spatial_size=(6, 5, 4))
    assert sized["image"].shape == (1, 6, 5, 4)
    native = decode_one(tmp_path, spatial_dims=3, spacing=(1, 1, 1), label_spatial_size="native")
    assert torch.equal(native["label"][0], torch.from_numpy(mask))


def test_masks_of_volumes_in_another_order_of_voxels_are_brought_into_the_images(tmp_path):
    image = volume(tmp_path)
    path = tmp_path / "case1-1" / "task01_seg02.nii.gz"
    stored = nib.load(path)
    expected = np.asarray(stored.dataobj)
    turned = stored.affine.copy()
    turned[:, 0] *= -1
    turned[:, 3] += stored.affine[:, 0] * (image.shape[0] - 1)
    nib.save(nib.Nifti1Image(expected[::-1], turned), path)
    for spacing in (None, (2, 3, 5)):
        decoded = decode_one(tmp_path, spatial_dims=3, spacing=spacing)
        assert torch.equal(decoded["label"][1], torch.from_numpy(expected))


@pytest.mark.parametrize("axis", [0, 3])
def test_channels_of_volumes_are_the_axis_that_the_masks_leave_over(tmp_path, axis):
    channels = np.arange(2 * 3 * 4 * 5, dtype=np.int16).reshape(2, 3, 4, 5)
    mask = np.ones((3, 4, 5), np.uint8)
    write_case(tmp_path / "case01", image=np.moveaxis(channels, 0, axis), masks={1: mask}, raters=[1])
    decoded = decode_one(tmp_path, spatial_dims=3, dtype=torch.int16)
    assert torch.equal(decoded["image"], torch.from_numpy(channels))
    (item,) = qubiq_items(tmp_path)
    alone = {key: value for key, value in item.items() if key != "label"}
    with pytest.raises(ImageFileError, match="and no mask: of a volume of several channels give the axis"):
        DecodeRaters(spatial_dims=3)(alone)
    assert DecodeRaters(spatial_dims=3, channel_axis=axis)(alone)["image"].shape == (2, 3, 4, 5)


def test_a_picture_is_a_volume_of_one_slice(tmp_path):
    write_case(tmp_path / "case01")
    decoded = decode_one(tmp_path, spatial_dims=3)
    assert decoded["image"].shape == (1, 4, 5, 1) and decoded["label"].shape == (2, 4, 5, 1)


def test_normalisation_of_a_volume_is_over_all_of_it(tmp_path):
    volume(tmp_path)
    image = decode_one(tmp_path, spatial_dims=3, normalise="minmax", percentiles=(0, 100))["image"]
    torch.testing.assert_close(image[0], torch.arange(60).view(4, 5, 3) / 59)


def test_wrong_settings_of_volumes_are_named(tmp_path):
    for settings, sentence in (
        ({"spatial_dims": 4}, "spatial_dims is 4"),
        ({"spatial_dims": 3, "spatial_size": (8, 8)}, r"give \(height, width, depth\), three positive integers"),
        ({"spacing": (1, 1, 1)}, "give three positive numbers, and spatial_dims=3"),
        ({"spatial_dims": 3, "zoom": 2.0}, "zoom=2.0 and centre=None are for pictures"),
    ):
        with pytest.raises(ValueError, match=sentence):
            DecodeRaters(**settings)
    volume(tmp_path)
    with pytest.raises(ImageFileError, match="is no volume: list the cases with slices=False"):
        DecodeRaters(spatial_dims=3)(qubiq_items(tmp_path, slices=True)[0])
    write_case(tmp_path / "case1-1", masks={1: square(), 2: np.zeros((4, 5, 2), np.uint8)}, image=None)
    with pytest.raises(ImageFileError, match=r"4 x 5 x 3 pixels \(rows x columns x slices\), but .* has 4 x 5 x 2"):
        DecodeRaters(spatial_dims=3)(qubiq_items(tmp_path, raters=[2])[0])


def test_native_masks_of_resampled_volumes_are_whole_whatever_the_grid_of_each(tmp_path):
    volume(tmp_path)
    (item,) = qubiq_items(tmp_path)
    for spacing in ((2, 3, 5), (1, 3, 5)):  # the first is the volume's own
        decoded = DecodeRaters(spatial_dims=3, spacing=spacing, label_spatial_size="native")(item)
        assert decoded["label_is_whole"] and decoded["label"].shape == (2, 4, 5, 3)
    assert "label_is_whole" not in DecodeRaters(spatial_dims=3, label_spatial_size="native")(item)


def peak(maps: torch.Tensor) -> list[int]:
    return [int(place) for place in np.unravel_index(int(maps.argmax()), maps.shape)]


def test_a_click_is_a_channel_at_its_place_in_the_region_and_size(tmp_path):
    image, mask = np.zeros((40, 60), np.uint8), np.zeros((40, 60), np.uint8)
    mask[8:13, 30:41] = 1
    write_case(tmp_path / "case01", image=image, masks={1: mask}, raters=[1])
    for settings, place in (
        ({}, [20, 50]),
        ({"zoom": 2.0, "centre": (20, 45)}, [10, 20]),  # rows 10 to 29, columns 30 to 59
        ({"zoom": 2.0, "centre": (20, 45), "spatial_size": (40, 60)}, [20, 40]),
    ):
        decoded = decode_one(tmp_path, clicks=1, click=[20, 50], **settings)
        assert decoded["image"].shape[0] == 2 and peak(decoded["image"][1]) == place
        assert not decoded["image"][0].any()
    simulated = decode_one(tmp_path, clicks=2, label_spatial_size="native", zoom=1.25)["image"]
    assert peak(simulated[1]) == [10 - 4, 35 - 6] and not simulated[2].any()  # the middle of the mask
    item = qubiq_items(tmp_path)[0]
    asked = DecodeRaters(clicks=2)({**item, "foreground": [[1, 2]], "background": [[30, 50], [4, 4]]})["image"]
    assert peak(asked[1]) == [1, 2] and asked[2, 30, 50] == asked[2, 4, 4] == 1
    unprompted = DecodeRaters(clicks=1)({name: value for name, value in item.items() if name != "label"})["image"]
    assert unprompted.shape == (2, 40, 60) and not unprompted.any()


def test_clicks_and_centres_may_be_those_of_each_case_in_a_table(tmp_path):
    for name in ("case01", "case02"):
        write_case(
            tmp_path / "set" / name,
            image=np.zeros((20, 20), np.uint8),
            masks={1: np.eye(20, dtype=np.uint8)},
            raters=[1],
        )
    (tmp_path / "points.csv").write_text("id,row,column\ncase01,4,15\ncase02,15,4\n")
    table = str(tmp_path / "points.csv")
    decode = DecodeRaters(zoom=2.0, centre=table, clicks=1, click=table)
    decoded = [decode(item) for item in qubiq_items(tmp_path / "set")]
    assert [item["roi"].tolist()[:2] for item in decoded] == [[0, 10], [10, 0]]
    assert [peak(item["image"][1]) for item in decoded] == [[4, 5], [5, 4]]
    with pytest.raises(ValueError, match="a click needs 1"):
        DecodeRaters(click=[1, 2])


def test_a_click_in_a_volume_follows_it_into_anatomical_order(tmp_path):
    image, mask = np.zeros((6, 8, 5), np.uint8), np.zeros((6, 8, 5), np.uint8)
    mask[1, 2, 3] = 1
    affine = np.diag([-2.0, 1.0, 1.0, 1.0])  # the first axis leads to the left
    write_case(tmp_path / "case01", image=image, masks={1: mask}, affine=affine, raters=[1])
    decoded = decode_one(tmp_path, spatial_dims=3, spacing=(2, 1, 1), clicks=1)
    assert peak(decoded["image"][1]) == peak(decoded["label"][0]) == [4, 2, 3]
    other = decode_one(tmp_path, spatial_dims=3, clicks=1, click=[5, 0, 1])
    assert peak(other["image"][1]) == [5, 0, 1]

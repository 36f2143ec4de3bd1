"""Batch augmentation against slow per-item references, its distributions, its replay and its cost in operations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage
from scipy.interpolate import BSpline
from skimage import color
from torch.utils._python_dispatch import TorchDispatchMode

from monai_ext.transforms import (
    BatchAugment,
    RandomAffine,
    RandomBlur,
    RandomColour,
    RandomElastic,
    RandomFlip,
    RandomGamma,
    RandomNoise,
    RandomQuarterTurn,
)
from monai_ext.transforms.colour import NoiseBank
from monai_ext.transforms.parameters import compile_parameters
from monai_ext.transforms.spatial import spline_weights

MOVES = [RandomFlip(), RandomAffine(rotate=180, scale=(0.8, 1.25), shear=10, translate=0.1)]
ALL_MOVES = [*MOVES, RandomQuarterTurn(0.5), RandomElastic(0.05, 4)]
COLOURS = RandomColour(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.1)
EVERYTHING = [*ALL_MOVES, COLOURS, RandomGamma((0.7, 1.4)), RandomBlur(1.0), RandomNoise(0.05)]
NORMALISATION = {"mean": (0.6, 0.5, 0.4), "std": (0.2, 0.3, 0.25)}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photographs(count: int = 6, size: tuple[int, ...] = (20, 31), channels: int = 3) -> torch.Tensor:
    return torch.randint(0, 256, (count, channels, *size), dtype=torch.uint8, generator=generator(1))


def blobs(count: int, size: tuple[int, int]) -> torch.Tensor:
    """Smooth random shapes, uint8 of 0/1, (count, 1, H, W)."""
    coarse = torch.rand(count, 1, 5, 5, generator=generator(2))
    return (F.interpolate(coarse, size, mode="bicubic") > 0.5).to(torch.uint8)


def forward_matrix(values: dict[str, torch.Tensor], i: int) -> np.ndarray:
    """What happens to the content of sample i in (x, y), y down, written out from the docstring's order."""
    mirror = np.diag([-1.0 if flipped else 1.0 for flipped in values["flip"][i].tolist()[::-1]])
    angle = math.radians(float(values["rotate"][i, 0]))
    rotation = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    across, down = (math.tan(math.radians(float(v))) for v in values["shear"][i])
    zoom = np.diag(np.broadcast_to(values["scale"][i].numpy(), 2)[::-1])
    return rotation @ np.array([[1, across], [down, 1]]) @ zoom @ mirror


def warp_item(image: np.ndarray, values: dict[str, torch.Tensor], i: int, order: int) -> np.ndarray:
    """One channel warped by scipy; the shift is applied after the mirror and before the rest."""
    shape = np.array(image.shape)
    shift = values["translate"][i].numpy().astype(float) * shape
    mirror = np.diag([-1.0 if flipped else 1.0 for flipped in values["flip"][i].tolist()])
    rest = (forward_matrix(values, i) @ mirror[::-1, ::-1])[::-1, ::-1]  # (x, y) to (row, column)
    inverse = mirror @ np.linalg.inv(rest)
    centre = (shape - 1) / 2
    offset = centre - inverse @ centre - mirror @ shift
    return ndimage.affine_transform(image, inverse, offset, order=order, mode="reflect")


@pytest.mark.parametrize("scale", [(0.8, 1.25), ((0.6, 0.9), (1.1, 1.6))], ids=["one zoom", "one for each axis"])
def test_affine_equals_scipy_item_by_item(scale: tuple) -> None:
    images, labels = photographs(), blobs(6, (20, 31))
    augment = BatchAugment([RandomFlip(), RandomAffine(rotate=180, scale=scale, shear=10, translate=0.1)])
    parameters = augment.draw(6, generator())
    result = augment.apply({"image": images, "label": labels}, parameters)
    for i in range(6):
        for channel in range(3):
            expected = warp_item(images[i, channel].numpy().astype(float), parameters.values, i, order=1) / 255
            np.testing.assert_allclose(result["image"][i, channel], expected, atol=2e-4)
        expected = warp_item(labels[i, 0].numpy().astype(float), parameters.values, i, order=0)
        assert (result["label"][i, 0].numpy() != expected).mean() < 0.005  # ties of the nearest pixel


def test_rotation_is_one_in_pixels_of_a_wide_image() -> None:
    image = torch.zeros(1, 1, 33, 65)
    image[0, 0, 16, 32 + 10] = 1.0  # ten pixels to the right of the centre
    augment = BatchAugment(padding_mode="zeros")
    result = augment.apply({"image": image}, augment.compile(1, {"rotate": torch.tensor([[90.0]])}))["image"]
    assert result[0, 0, 16 - 10, 32] == pytest.approx(1.0, abs=1e-4)  # ten pixels above it
    assert result.sum() == pytest.approx(1.0, abs=1e-3)


def test_zoom_and_shift_by_hand() -> None:
    image = torch.zeros(1, 1, 9, 9)
    image[0, 0, 4, 5] = 1.0
    augment = BatchAugment(padding_mode="zeros")
    values = {"scale": torch.tensor([2.0]), "translate": torch.tensor([[1 / 9, 0.0]])}
    result = augment.apply({"image": image}, augment.compile(1, values))["image"]
    # one pixel down, then twice as far from the centre (4, 4): (5, 5) -> (6, 6)
    assert result[0, 0, 6, 6] == pytest.approx(1.0, abs=1e-5)


def test_zoom_of_each_axis_by_hand() -> None:
    image = torch.zeros(1, 1, 9, 9)
    image[0, 0, 5, 5] = 1.0
    augment = BatchAugment(padding_mode="zeros")
    result = augment.apply({"image": image}, augment.compile(1, {"scale": torch.tensor([[3.0, 1.0]])}))["image"]
    assert result[0, 0, 4 + 3, 4 + 1] == pytest.approx(1.0, abs=1e-5)  # rows three times as far, columns as they were
    assert result[0, 0, :, 4 + 1].sum() == pytest.approx(3.0 - 1 / 3, abs=0.01) and result.sum() < 3.0


@pytest.mark.parametrize("scale", [(0.8, 1.25), ((0.8, 1.25), (0.8, 1.25))], ids=["one zoom", "one for each axis"])
def test_nothing_is_drawn_for_no_images(scale: tuple) -> None:
    nothing = BatchAugment([RandomFlip(), RandomAffine(scale=scale), RandomNoise(0.1)]).draw(0, generator())
    assert len(nothing) == 0 and nothing.tensors["matrix"].shape == (0, 2, 3)


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize("flip", [(False, False), (True, False), (True, True)])
def test_flips_and_turns_move_pixels_exactly(turns: int, flip: tuple[bool, bool]) -> None:
    images, labels = photographs(2, (7, 7)), photographs(2, (7, 7), channels=1)
    augment = BatchAugment()
    parameters = augment.compile(2, {"flip": torch.tensor([flip, flip]), "rot90": torch.tensor([turns, turns])})
    result = augment.apply({"image": images, "label": labels}, parameters)
    for name, source, scale in (("image", images, 255), ("label", labels, 1)):
        flipped = source.flip([2 + axis for axis in range(2) if flip[axis]])
        assert torch.equal((result[name] * scale).round().to(torch.uint8), flipped.rot90(turns, (2, 3)))


def test_turned_wide_images_are_turned_about_their_centre() -> None:
    images = photographs(1, (20, 30))
    augment = BatchAugment()
    result = augment.apply({"image": images}, augment.compile(1, {"rot90": torch.tensor([1])}))["image"]
    centre = images[:, :, :, 5:25].rot90(1, (2, 3)) / 255
    torch.testing.assert_close(result[:, :, :, 5:25], centre, atol=1e-4, rtol=0)


def test_image_and_label_of_equal_content_stay_registered() -> None:
    labels = blobs(16, (64, 80))
    for size in (None, (48, 60), (96, 120)):
        augment = BatchAugment(ALL_MOVES, spatial_size=size)
        result = augment({"image": labels.float().expand(-1, 3, -1, -1), "label": labels}, generator())
        disagree = (result["image"][:, :1] > 0.5) != result["label"].bool()
        assert disagree.float().mean() < 0.02, size  # pixels on the border of the shapes only
        assert result["label"].unique().tolist() == [0.0, 1.0]


def test_constant_elastic_control_points_shift_the_image() -> None:
    image = torch.zeros(1, 1, 20, 40)
    image[0, 0, 10, 20] = 1.0
    control = torch.zeros(1, 2, 7, 7)
    control[:, 0], control[:, 1] = 0.10, -0.15  # of the shorter side: 2 pixels along H, -3 along W, of the source
    augment = BatchAugment()
    result = augment.apply({"image": image}, augment.compile(1, {"elastic": control}))["image"]
    assert result[0, 0, 8, 23] == pytest.approx(1.0, abs=1e-4)


def test_spline_weights_equal_scipy() -> None:
    weights, centres = spline_weights(11, 3), (np.arange(11) + 0.5) / 11 * 3
    for j in range(6):
        basis = BSpline.basis_element(np.arange(j - 3, j + 2, dtype=float), extrapolate=False)
        np.testing.assert_allclose(weights[:, j], np.nan_to_num(basis(centres)), atol=1e-6)


def recolour_item(image: np.ndarray, brightness: float, contrast: float, saturation: float, hue: float) -> np.ndarray:
    """(H, W, 3) through the four steps in turn."""
    grey = np.array([0.299, 0.587, 0.114])
    image = image * brightness
    image = contrast * image + (1 - contrast) * (image @ grey).mean()
    image = saturation * image + (1 - saturation) * (image @ grey)[..., None]
    yiq, angle = color.rgb2yiq(image), 2 * math.pi * hue
    i, q = yiq[..., 1].copy(), yiq[..., 2].copy()
    yiq[..., 1], yiq[..., 2] = i * math.cos(angle) - q * math.sin(angle), i * math.sin(angle) + q * math.cos(angle)
    return color.yiq2rgb(yiq)


def test_one_matrix_equals_the_four_colour_steps_in_turn() -> None:
    images = photographs(8)
    augment = BatchAugment([COLOURS])
    parameters = augment.draw(8, generator())
    result = augment.apply({"image": images}, parameters)["image"]
    for i in range(8):
        factors = [float(parameters.values[name][i]) for name in ("brightness", "contrast", "saturation", "hue")]
        expected = recolour_item(images[i].permute(1, 2, 0).numpy() / 255, *factors).clip(0, 1)
        np.testing.assert_allclose(result[i].permute(1, 2, 0), expected, atol=2e-3)


def test_colours_by_hand() -> None:
    image = torch.tensor([0.2, 0.4, 0.8]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    augment, one = BatchAugment(), torch.ones(1)
    grey = 0.299 * 0.2 + 0.587 * 0.4 + 0.114 * 0.8

    def colours(**values: torch.Tensor) -> list[float]:
        return augment.apply({"image": image}, augment.compile(1, values))["image"][0, :, 0, 0].tolist()

    assert colours(brightness=0.5 * one) == pytest.approx([0.1, 0.2, 0.4])
    assert colours(brightness=2 * one) == pytest.approx([0.4, 0.8, 1.0])  # clamped
    assert colours(saturation=0 * one) == pytest.approx([grey] * 3)
    assert colours(contrast=0 * one) == pytest.approx([grey] * 3)
    assert colours(hue=one) == pytest.approx([0.2, 0.4, 0.8], abs=1e-6)  # a whole turn


def test_blur_equals_scipy_and_sigma_zero_changes_nothing() -> None:
    images = photographs(2)
    augment = BatchAugment([RandomBlur((0.0, 1.2))])
    parameters = augment.compile(2, {"blur": torch.tensor([1.2, 0.0])})
    result = augment.apply({"image": images}, parameters)["image"]
    expected = ndimage.gaussian_filter(images[0].double().numpy() / 255, (0, 1.2, 1.2), mode="mirror", radius=(0, 4, 4))
    np.testing.assert_allclose(result[0], expected, atol=1e-5)
    torch.testing.assert_close(result[1], images[1] / 255)


def test_gamma_is_the_power() -> None:
    augment = BatchAugment()
    parameters = augment.compile(2, {"gamma": torch.tensor([0.5, 2.0])})
    result = augment.apply({"image": torch.tensor([0.0, 0.25, 1.0]).view(1, 1, 1, 3).repeat(2, 1, 1, 1)}, parameters)[
        "image"
    ]
    torch.testing.assert_close(result[:, 0, 0], torch.tensor([[0.0, 0.5, 1.0], [0.0, 0.0625, 1.0]]), atol=1e-6, rtol=0)


def test_noise_has_the_drawn_deviation_and_differs_between_samples() -> None:
    image = torch.full((3, 1, 100, 100), 0.5)
    augment = BatchAugment([RandomNoise(0.1)])
    parameters = augment.draw(3, generator())
    noise = augment.apply({"image": image}, parameters)["image"] - 0.5
    torch.testing.assert_close(noise.std((1, 2, 3)), parameters.values["noise"], rtol=0.03, atol=0)
    assert noise.mean((1, 2, 3)).abs().max() < 0.005
    assert torch.corrcoef(noise.flatten(1)).triu(1).abs().max() < 0.05


def test_noise_bank_reads_one_stretch_at_the_offset() -> None:
    bank = NoiseBank(seed=3)
    first, shifted = bank(torch.tensor([10, 13]), torch.Size((2, 1, 4, 5))).flatten(1)
    assert torch.equal(first[3:], shifted[:-3])


def test_replay_is_equal_and_samples_differ() -> None:
    images = photographs(1, (24, 24)).repeat(5, 1, 1, 1)
    augment = BatchAugment(EVERYTHING, **NORMALISATION)
    parameters = augment.draw(5, generator())
    first, second = (
        augment.apply({"image": images}, parameters)["image"],
        augment.apply({"image": images}, parameters)["image"],
    )
    assert torch.equal(first, second)
    assert torch.equal(first, BatchAugment(EVERYTHING, **NORMALISATION)({"image": images}, generator())["image"])
    assert not torch.equal(first, augment({"image": images}, generator(1))["image"])
    assert min((first[i] - first[j]).abs().max() for i in range(5) for j in range(i)) > 0.1


def test_a_sample_is_augmented_alike_in_batches_of_any_size() -> None:
    images, labels = photographs(7, (24, 24)), blobs(7, (24, 24))
    augment = BatchAugment(EVERYTHING, **NORMALISATION)
    parameters = augment.draw(7, generator())
    whole = augment.apply({"image": images, "label": labels}, parameters)
    for size in (1, 4):
        parts = [
            augment.apply({"image": image, "label": label}, part)
            for image, label, part in zip(images.split(size), labels.split(size), parameters.split(size), strict=True)
        ]
        for name in ("image", "label"):
            torch.testing.assert_close(torch.cat([part[name] for part in parts]), whole[name], atol=1e-5, rtol=0)


def test_with_everything_off_it_scales_and_normalises() -> None:
    images, labels = photographs(), blobs(6, (20, 31))
    augment = BatchAugment(mean=(0.6, 0.5, 0.4), std=(0.2, 0.3, 0.25))
    result = augment({"image": images, "label": labels, "id": ["a"]})
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (augment.mean, augment.std))
    torch.testing.assert_close(result["image"], (images / 255 - mean) / std, atol=1e-5, rtol=0)
    assert torch.equal(result["label"], labels.float())
    assert result["id"] == ["a"]


@pytest.mark.parametrize(
    "parts", [[], [RandomGamma((0.5, 0.6)), RandomNoise(0.1)], MOVES], ids=["none", "gamma", "moves"]
)
@pytest.mark.parametrize("settings", [{}, {"mean": 0.5, "std": 0.2}])
def test_the_batch_given_is_not_changed(parts: list, settings: dict) -> None:
    images, labels = torch.rand(3, 3, 8, 8, generator=generator()), blobs(3, (8, 8)).float()
    batch = {"image": images.clone(), "label": labels.clone()}
    result = BatchAugment(parts, **settings)(batch, generator())
    assert torch.equal(batch["image"], images) and torch.equal(batch["label"], labels)
    assert result["image"].data_ptr() != batch["image"].data_ptr()


def test_soft_labels_stay_soft_and_classes_stay_whole() -> None:
    soft = torch.rand(4, 2, 20, 31, generator=generator())
    classes = torch.randint(0, 5, (4, 1, 20, 31), generator=generator())
    augment = BatchAugment(MOVES)
    parameters = augment.draw(4, generator())
    result = augment.apply({"image": (soft * 1.0).repeat(1, 2, 1, 1)[:, :3], "label": soft}, parameters)
    torch.testing.assert_close(result["label"], result["image"][:, :2])
    result = augment.apply({"image": photographs(4), "label": classes}, parameters)
    assert set(result["label"].unique().tolist()) <= {0.0, 1.0, 2.0, 3.0, 4.0}


def test_shrinking_is_antialiased_and_can_change_between_epochs() -> None:
    images = photographs(2, (32, 48))
    augment = BatchAugment(spatial_size=(16, 24))
    expected = F.interpolate(images.float(), (16, 24), mode="bilinear", antialias=True) / 255
    torch.testing.assert_close(augment({"image": images})["image"], expected, atol=1.0 / 255, rtol=0)
    augment.spatial_size = (64, 96)
    assert augment({"image": images, "label": blobs(2, (32, 48))})["label"].shape == (2, 1, 64, 96)
    stripes = torch.arange(64).remainder(2).float().expand(1, 1, 64, 64)
    warped = BatchAugment([RandomAffine(rotate=(0, 1e-3))], spatial_size=(16, 16))({"image": stripes}, generator())[
        "image"
    ]
    torch.testing.assert_close(warped[..., 2:-2], torch.full((1, 1, 16, 12), 0.5), atol=0.05, rtol=0)


def test_medical_types_need_and_use_an_intensity_range() -> None:
    images = torch.tensor([-1000, 0, 1000], dtype=torch.int16).view(1, 1, 1, 3)
    with pytest.raises(ValueError, match="set intensity_range"):
        BatchAugment()({"image": images})
    result = BatchAugment(intensity_range=(-1000, 1000))({"image": images})["image"]
    assert result.flatten().tolist() == pytest.approx([0.0, 0.5, 1.0])
    augment = BatchAugment([RandomGamma((1.999, 2.001))], intensity_range=(-1000, 1000))
    result = augment({"image": images}, generator())["image"]
    assert result.flatten().tolist() == pytest.approx([0.0, 0.25, 1.0], abs=1e-3)


@pytest.mark.parametrize("kind", [torch.bool, torch.int16, torch.uint16, torch.int32, torch.float16, torch.float64])
@pytest.mark.parametrize("parts", [[], [RandomFlip(1.0)], [RandomAffine((180, 180))]], ids=["as it is", "flip", "warp"])
@pytest.mark.parametrize("size", [None, (8, 10)])
def test_every_type_is_taken(kind: torch.dtype, parts: list, size: tuple[int, int] | None) -> None:
    images = blobs(2, (8, 10)).to(kind)
    augment = BatchAugment(parts, intensity_range=(0, 1), spatial_size=size)
    result = augment({"image": images, "label": images}, generator())
    expected = images.float().flip((2, 3)) if parts else images.float()
    for value in result.values():
        torch.testing.assert_close(value, expected, atol=1e-4, rtol=0)


def test_output_in_channels_last() -> None:
    result = BatchAugment(MOVES, channels_last=True)({"image": photographs()}, generator())
    assert result["image"].is_contiguous(memory_format=torch.channels_last)


def test_autocast_does_not_make_the_augmentation_coarse() -> None:
    images, augment = photographs(), BatchAugment(EVERYTHING, **NORMALISATION)
    parameters = augment.draw(6, generator())
    expected = augment.apply({"image": images}, parameters)["image"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(augment.apply({"image": images}, parameters)["image"], expected)


def test_volumes_are_flipped_turned_and_rotated() -> None:
    volume = photographs(1, (4, 6, 6), channels=1)
    augment = BatchAugment(spatial_dims=3)
    parameters = augment.compile(1, {"flip": torch.tensor([[True, False, False]]), "rot90": torch.tensor([1])})
    result = augment.apply({"image": volume, "label": volume}, parameters)
    expected = volume.flip(2).rot90(1, (3, 4))
    assert torch.equal(result["label"], expected.float())
    rotated = augment.apply({"image": volume}, augment.compile(1, {"rotate": torch.tensor([[90.0, 0.0, 0.0]])}))
    torch.testing.assert_close(rotated["image"] * 255, volume.rot90(1, (3, 4)).float(), atol=1e-2, rtol=0)
    parts = [RandomAffine(rotate=20, scale=(0.9, 1.1), shear=5, translate=0.1), RandomElastic(0.05, 2)]
    everything = BatchAugment(parts, spatial_dims=3)
    disagree = everything({"image": (volume > 127).float(), "label": (volume > 127).byte()}, generator())
    assert ((disagree["image"] > 0.5) == disagree["label"].bool()).float().mean() > 0.8  # of white noise, all borders


class CountOperations(TorchDispatchMode):
    """Names of all operations that launch a kernel or wait for one."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if not func.is_view:
            self.names.append(func.name())
        return func(*args, **(kwargs or {}))


def operations(augment: BatchAugment, batch_size: int) -> list[str]:
    images, labels = photographs(40, (32, 32)), blobs(40, (32, 32))
    both = augment.draw(2 * batch_size, generator()).split(batch_size)
    index = torch.arange(batch_size)
    for part in both:  # the first batch makes what is kept
        with CountOperations() as count:
            augment.apply({"image": images.index_select(0, index), "label": labels.index_select(0, index)}, part)
    return count.names


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([], 6),
        ([RandomFlip(), RandomQuarterTurn()], 14),
        (MOVES, 13),
        ([*MOVES, COLOURS], 20),
        (EVERYTHING, 37),
    ],
    ids=["none", "flips", "moves", "colour", "everything"],
)
def test_operations_of_a_batch_are_few_and_independent_of_its_size_and_never_wait(parts: list, expected: int) -> None:
    names = operations(BatchAugment(parts, **NORMALISATION), 4)
    assert len(names) == expected, names
    assert operations(BatchAugment(parts, **NORMALISATION), 16) == names
    waiting = ("_local_scalar_dense", "item", "nonzero", "masked_select", "is_nonzero", "equal")
    assert not [name for name in names if name.split("::")[1].split(".")[0] in waiting]


def test_wrong_batches_are_named() -> None:
    with pytest.raises(ValueError, match="image has 1 channels: RandomColour needs 3"):
        BatchAugment([RandomColour(hue=0.1)])({"image": photographs(channels=1)}, generator())
    with pytest.raises(ValueError, match=r"image has shape \(3, 20, 31\): expected \(B, C, H, W\)"):
        BatchAugment()({"image": photographs()[0]})
    augment = BatchAugment([RandomAffine(rotate=10)])
    with pytest.raises(ValueError, match="B=4 as drawn"):
        augment.apply({"image": photographs()}, augment.draw(4, generator()))
    with pytest.raises(ValueError, match="do not fit images of 3 channels"):
        BatchAugment(mean=(0.5, 0.5), std=(0.2, 0.2))({"image": photographs()})
    with pytest.raises(ValueError, match="rotate are not for 3 images"):
        compile_parameters(3, {"rotate": torch.zeros(2, 1)})
    with pytest.raises(ValueError, match="blur reaches 12 pixels"):
        BatchAugment([RandomBlur(4.0)])({"image": photographs(size=(8, 8))}, generator())


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"spatial_dims": 4}, "spatial_dims=4 must be 2 or 3"),
        ({"padding_mode": "mirror"}, "padding_mode='mirror' must be"),
        ({"mean": 0.5}, "must be given together"),
        ({"parts": [RandomFlip(), RandomFlip(0.2)]}, "RandomFlip is given 2 times"),
        ({"parts": [torch.nn.Identity()]}, "Identity is no part: choose among RandomFlip, RandomQuarterTurn"),
    ],
)
def test_wrong_settings_are_named(settings: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        BatchAugment(**settings)


def test_parts_in_any_order_give_the_same_augmentation() -> None:
    images = photographs()
    results = [BatchAugment(parts)({"image": images}, generator())["image"] for parts in (EVERYTHING, EVERYTHING[::-1])]
    assert torch.equal(*results)

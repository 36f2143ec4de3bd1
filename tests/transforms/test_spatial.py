"""Flips, turns and warps against slow references and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from random_images import blobs, generator, photographs
from scipy import ndimage
from scipy.interpolate import BSpline

from monai_ext.transforms import (
    BatchAugment,
    RandomAffine,
    RandomElastic,
    RandomFlip,
)
from monai_ext.transforms.spatial import spline_weights


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

"""Flips, turns and warps against slow references and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.transforms import Affine
from random_images import blobs, generator, photographs, volumes
from scipy import ndimage
from scipy.interpolate import BSpline

from monai_ext.transforms import (
    BatchAugment,
    RandomAffine,
    RandomBlur,
    RandomElastic,
    RandomFlip,
    RandomGamma,
    RandomNoise,
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
    augment = BatchAugment([RandomFlip(), RandomAffine(rotate=180, scale=scale, shear=10, translate=0.1)], opencv=False)
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


# --- volumes (H, W, D) ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turns", [0, 1, 3])
@pytest.mark.parametrize("flip", [(True, False, False), (False, True, True)])
def test_volumes_are_flipped_along_each_axis_and_turned_slice_by_slice(turns: int, flip: tuple) -> None:
    volume = volumes(6, 6, 4)
    augment = BatchAugment(spatial_dims=3, opencv=False)
    parameters = augment.compile(1, {"flip": torch.tensor([flip]), "rot90": torch.tensor([turns])})
    result = augment.apply({"image": volume, "label": volume}, parameters)
    expected = volume.flip([2 + axis for axis in range(3) if flip[axis]]).rot90(turns, (2, 3))
    assert torch.equal(result["label"], expected.float())
    torch.testing.assert_close(result["image"], expected / 255)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_volume_is_rotated_about_the_axis_that_is_named(axis: int) -> None:
    volume, angles = volumes(7, 7, 7), torch.zeros(1, 3)
    angles[0, axis] = 90.0
    augment = BatchAugment(spatial_dims=3, opencv=False)
    result = augment.apply({"image": volume}, augment.compile(1, {"rotate": angles}))["image"] * 255
    plane = [2 + other for other in range(3) if other != axis]
    torch.testing.assert_close(result, volume.rot90(1, plane).float(), atol=1e-2, rtol=0)


def volume_matrix(values: dict[str, torch.Tensor], i: int) -> np.ndarray:
    """What happens to the content of volume i in (x, y, z), written out from the docstrings' order."""
    rotation = np.eye(3)
    for angle, (first, second) in zip(values["rotate"][i].tolist(), ((0, 1), (0, 2), (1, 2)), strict=True):
        plane, angle = np.eye(3), math.radians(angle)
        plane[first, first] = plane[second, second] = math.cos(angle)
        plane[first, second], plane[second, first] = math.sin(angle), -math.sin(angle)
        rotation = plane @ rotation
    tangents = iter(np.tan(np.radians(values["shear"][i].numpy().astype(float))))
    shear = np.array([[1 if a == b else next(tangents) for b in range(3)] for a in range(3)])
    mirror = np.diag([-1.0 if flipped else 1.0 for flipped in values["flip"][i].tolist()[::-1]])
    return rotation @ shear @ np.diag(values["scale"][i].numpy().astype(float)[::-1]) @ mirror


@pytest.mark.parametrize("spacing", [None, (0.5, 0.5, 2.0)])
def test_affine_of_volumes_equals_scipy_volume_by_volume(spacing: tuple | None) -> None:
    """With a spacing the same is done in millimetres."""
    images = volumes(16, 18, 9, count=3)
    labels = (images > 100).byte()
    zooms = ((0.8, 1.2), (0.9, 1.1), (0.9, 1.3))
    parts = [RandomFlip(), RandomAffine(rotate=(10, 20, 180), scale=zooms, shear=5, translate=0.1)]
    augment = BatchAugment(parts, spatial_dims=3, opencv=False)
    parameters = augment.draw(3, generator())
    batch = {"image": images, "label": labels}
    step = np.ones(3)
    if spacing:
        step = np.array(spacing)
        batch["affine"] = torch.diag(torch.tensor([*spacing, 1.0], dtype=torch.float64)).expand(3, 4, 4)
    result = augment.apply(batch, parameters)
    shape = np.array(images.shape[2:])
    for i in range(3):
        forward = volume_matrix(parameters.values, i)[::-1, ::-1]  # (x, y, z) to (row, column, slice)
        mirror = np.diag([-1.0 if flipped else 1.0 for flipped in parameters.values["flip"][i].tolist()])
        inverse = np.diag(1 / step) @ np.linalg.inv(forward) @ np.diag(step)
        shift = parameters.values["translate"][i].numpy().astype(float) * shape
        offset = (shape - 1) / 2 - inverse @ ((shape - 1) / 2) - mirror @ shift
        image, label = (each[i, 0].numpy().astype(float) for each in (images, labels))
        expected = ndimage.affine_transform(image, inverse, offset, order=1, mode="reflect")
        np.testing.assert_allclose(result["image"][i, 0], expected / 255, atol=5e-4)
        expected = ndimage.affine_transform(label, inverse, offset, order=0, mode="reflect")
        assert (result["label"][i, 0].numpy() != expected).mean() < 0.005


def test_a_rotation_of_volumes_is_monais() -> None:
    volume = volumes(12, 14, 10)
    for axis in range(3):
        angles = torch.zeros(1, 3)
        angles[0, axis] = 25.0
        augment = BatchAugment(spatial_dims=3, opencv=False)
        result = augment.apply({"image": volume}, augment.compile(1, {"rotate": angles}))["image"][0]
        matches = []
        for sign in (-1, 1):  # MONAI turns some axes the other way round
            radians = [sign * math.radians(25) if other == axis else 0.0 for other in range(3)]
            affine = Affine(rotate_params=radians, padding_mode="reflection", image_only=True)
            matches.append(float((affine(volume[0].float() / 255) - result).abs().max()))
        assert min(matches) < 1e-4 and max(matches) > 0.1


def test_the_middle_of_larger_crops_shows_what_lies_beyond_its_border() -> None:
    images, labels = volumes(20, 22, 12, count=2), volumes(20, 22, 12, count=2)
    parts = [RandomFlip(), RandomAffine(rotate=(0, 0, 10)), RandomElastic(0.03, 3)]
    whole, middle = (BatchAugment(parts, spatial_dims=3, opencv=False, inner_size=size) for size in (None, (12, 10, 6)))
    for keep in (3, 1, 0):  # all of them, flips alone, nothing
        for augment in (whole, middle):
            augment.parts = augment.parts[:keep]
        parameters = whole.draw(2, generator())
        results = [augment.apply({"image": images, "label": labels}, parameters) for augment in (whole, middle)]
        image, label = (results[0][key][:, :, 4:16, 6:16, 3:9] for key in ("image", "label"))
        torch.testing.assert_close(results[1]["image"], image, atol=2e-3, rtol=0)
        assert (results[1]["label"] != label).float().mean() < 0.01
    with pytest.raises(ValueError, match=r"inner_size=\(12, 10, 6\) is larger than the images of \(8, 10, 6\)"):
        middle({"image": images[:, :, :8, :10, :6]})
    with pytest.raises(ValueError, match="give one of them"):
        BatchAugment(inner_size=(4, 4), spatial_size=(8, 8))


def test_image_and_mask_of_a_volume_stay_registered_and_intensities_change() -> None:
    shapes = blobs(4, (24, 30))[..., None].expand(-1, -1, -1, -1, 8)
    parts = [
        RandomFlip(), RandomAffine(rotate=(10, 10, 180), scale=(0.9, 1.1), translate=0.1), RandomElastic(0.03, 2),
        RandomBlur((0.4, 0.5)), RandomGamma((0.7, 1.5)), RandomNoise(0.02),
    ]  # fmt: skip
    result = BatchAugment(parts, spatial_dims=3, opencv=False)({"image": shapes.float(), "label": shapes}, generator())
    assert ((result["image"] > 0.5) != result["label"].bool()).float().mean() < 0.03
    assert result["image"].unique().numel() > 1000


def test_volumes_are_blurred_as_scipy_does() -> None:
    image = torch.rand(1, 1, 12, 10, 9, generator=generator())
    augment = BatchAugment([RandomBlur(1.0)], spatial_dims=3)
    result = augment.apply({"image": image}, augment.compile(1, {"blur": torch.tensor([0.8])}))["image"]
    expected = ndimage.gaussian_filter(image[0, 0].numpy(), 0.8, radius=3, mode="mirror")
    np.testing.assert_allclose(result[0, 0], expected, atol=1e-5)

"""Colour, gamma, blur and noise against slow references and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from random_images import generator, photographs
from scipy import ndimage
from skimage import color

from monai_ext.transforms import (
    BatchAugment,
    RandomBlur,
    RandomColour,
    RandomNoise,
)
from monai_ext.transforms.colour import NoiseBank

COLOURS = RandomColour(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.1)


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

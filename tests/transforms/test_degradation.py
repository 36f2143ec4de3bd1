"""The degradation against Pillow and slow references: reduction, pseudo-inverse, projections."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import reference_sr
import torch
from PIL import Image

from monai_ext.transforms.degradation import Degradation

SCALES = (2, 3, 4, 8)


def rand(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def decibels(error: torch.Tensor) -> float:
    return -10 * error.double().square().mean().log10().item()


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("size", [(1, 1), (2, 5), (9, 4)])
def test_reduction_equals_pillows_bicubic_in_floating_point(scale, size):
    height, width = size
    image = rand(1, 1, height * scale, width * scale, seed=scale)
    pillow = Image.fromarray(image[0, 0].float().numpy()).resize((width, height), Image.Resampling.BICUBIC)
    given = Degradation(scale).reduce(image)[0, 0]
    np.testing.assert_allclose(given.numpy(), np.asarray(pillow), atol=1e-6)


@pytest.mark.parametrize("scale", SCALES)
def test_reduction_equals_pillows_bicubic_within_8_bit_rounding_borders_included(scale):
    image = np.random.default_rng(scale).integers(40, 216, (5 * scale, 7 * scale, 3), dtype=np.uint8)
    pillow = np.asarray(Image.fromarray(image).resize((7, 5), Image.Resampling.BICUBIC)).astype(int)
    high_res = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    given = (Degradation(scale, levels=255)(high_res) * 255)[0].permute(1, 2, 0).numpy()
    assert np.abs(given - given.round()).max() < 1e-4
    assert np.abs(given.round() - pillow).max() <= 1  # Pillow rounds twice, once an axis
    assert np.abs(given.round() - pillow).mean() < 0.35


def test_reduction_equals_the_slow_reference():
    image = rand(1, 1, 12, 21)
    np.testing.assert_allclose(
        Degradation(3).reduce(image)[0, 0].numpy(), reference_sr.reduce_image(image[0, 0].numpy(), 3), atol=1e-12
    )


@pytest.mark.parametrize("blur", [0.0, 1.2])
def test_a_constant_image_stays_constant(blur):
    low_res = Degradation(4, blur=blur)(torch.full((1, 2, 12, 16), 0.3))
    torch.testing.assert_close(low_res, torch.full((1, 2, 3, 4), 0.3))


def test_blur_is_a_gaussian_before_the_reduction():
    image = rand(40, 40)
    radius = np.arange(-8, 9)
    gauss = np.exp(-0.5 * (radius / 2.0) ** 2) / np.exp(-0.5 * (radius / 2.0) ** 2).sum()
    blurred = np.stack([np.convolve(row, gauss, "same") for row in image.numpy()])
    blurred = np.stack([np.convolve(column, gauss, "same") for column in blurred.T]).T
    expected = reference_sr.reduce_image(blurred, 2)
    given = Degradation(2, blur=2.0).reduce(image[None, None])[0, 0].numpy()
    np.testing.assert_allclose(given[7:-7, 7:-7], expected[7:-7, 7:-7], atol=1e-12)  # away from the border
    assert np.std(given) < 0.5 * np.std(Degradation(2).reduce(image[None, None]).numpy())


@pytest.mark.parametrize("scale", SCALES)
def test_a_blur_as_wide_as_the_scale_can_still_be_inverted(scale):
    degradation, low_res = Degradation(scale, blur=scale), rand(1, 1, 20, 30)
    torch.testing.assert_close(degradation.reduce(degradation.pseudo_inverse(low_res)), low_res)


@pytest.mark.parametrize("scale", SCALES)
def test_pseudo_inverse_is_undone_by_the_reduction(scale):
    degradation, low_res = Degradation(scale), rand(1, 3, 7, 5)
    torch.testing.assert_close(degradation.reduce(degradation.pseudo_inverse(low_res)), low_res)


def test_pseudo_inverse_is_that_of_the_whole_image_as_one_matrix():
    degradation = Degradation(2)
    basis = torch.eye(6 * 4, dtype=torch.float64).reshape(24, 1, 6, 4)
    dense = degradation.reduce(basis).flatten(1).mT  # (6, 24)
    low_res = rand(1, 1, 3, 2)
    expected = torch.linalg.pinv(dense) @ low_res.flatten()
    torch.testing.assert_close(degradation.pseudo_inverse(low_res).flatten(), expected)


def test_null_space_reduces_to_zero_and_completes_the_image():
    degradation, image = Degradation(4), rand(1, 1, 24, 20)
    hidden = degradation.null_space(image)
    assert degradation.reduce(hidden).abs().max() < 1e-13
    torch.testing.assert_close(hidden + degradation.pseudo_inverse(degradation.reduce(image)), image)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_projection_is_consistent_idempotent_and_nearest(dtype):
    degradation = Degradation(4)
    image, low_res = rand(1, 1, 24, 20, dtype=dtype), rand(1, 1, 6, 5, seed=1, dtype=dtype)
    projected = degradation.project(image, low_res)
    assert projected.dtype == dtype
    torch.testing.assert_close(degradation.reduce(projected), low_res)
    torch.testing.assert_close(degradation.project(projected, low_res), projected)
    # nearest: the step is orthogonal to every image that reduces to zero
    direction = degradation.null_space(rand(1, 1, 24, 20, seed=2, dtype=dtype))
    assert abs(((projected - image) * direction).sum().item()) < 1e-4


@pytest.mark.parametrize("scale", SCALES)
def test_projection_keeps_50_decibels_after_8_bit_rounding(scale):
    degradation = Degradation(scale)
    # grey values with room for the detail, so that nothing is clipped
    truth, guess = (0.35 + 0.3 * rand(1, 3, 16 * scale, 12 * scale, seed=s, dtype=torch.float32) for s in (0, 1))
    low_res = degradation(truth)
    stored = (degradation.project(guess, low_res).clamp(0, 1) * 255).round() / 255
    assert decibels(degradation.reduce(stored) - low_res) > 60
    assert decibels(degradation.reduce(guess) - low_res) < 40


def test_projection_within_the_range_mends_what_clipping_broke():
    degradation = Degradation(4)
    truth, guess = ((rand(1, 1, 64, 64, seed=s) > 0.5).double() for s in (0, 1))
    low_res = degradation(truth)
    clipped = degradation.project(guess, low_res).clamp(0, 1)
    mended = degradation.project_within(guess, low_res)
    assert 0 <= mended.min() and mended.max() <= 1
    assert decibels(degradation.reduce(clipped) - low_res) < 45
    stored = (mended * 255).round() / 255
    assert decibels(degradation.reduce(stored) - low_res) > 50


def test_a_long_image_in_pieces_equals_its_parts():
    degradation = Degradation(4)
    image = rand(1, 1, 8, 4 * 400)
    whole = degradation.reduce(image)
    torch.testing.assert_close(whole[..., 100:200], degradation.reduce(image[..., 4 * 90 : 4 * 210])[..., 10:110])
    torch.testing.assert_close(degradation.reduce(image.mT), whole.mT)
    torch.testing.assert_close(degradation.reduce(degradation.pseudo_inverse(whole)), whole)


def test_gradients_pass_gradcheck():
    degradation = Degradation(2)
    image = rand(1, 1, 8, 6).requires_grad_()
    low_res = rand(1, 1, 4, 3, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(degradation.reduce, image)
    assert torch.autograd.gradcheck(degradation.project, (image, low_res))


def test_noise_is_replayed_by_its_generator_and_has_the_stated_deviation():
    degradation, image = Degradation(2, noise=0.1), torch.full((4, 3, 64, 64), 0.5)
    first = degradation(image, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(first, degradation(image, generator=torch.Generator().manual_seed(3)), rtol=0, atol=0)
    assert not torch.equal(first, degradation(image, generator=torch.Generator().manual_seed(4)))
    noise = first - degradation.reduce(image)
    assert noise.std().item() == pytest.approx(0.1, rel=0.03)
    assert noise.mean().abs() < 0.005


def test_levels_clip_and_round_the_observation():
    stripes = torch.zeros(1, 1, 16, 16)
    stripes[..., 6:] = 1  # overshoots on both sides
    assert Degradation(2).reduce(stripes).max() > 1
    observed = Degradation(2, levels=255)(stripes)
    assert observed.min() == 0 and observed.max() == 1
    torch.testing.assert_close(observed * 255, (observed * 255).round())


def test_half_precision_and_autocast_lose_nothing_but_the_output_rounding():
    degradation, image = Degradation(4), rand(1, 3, 32, 32, dtype=torch.float32)
    exact = degradation.reduce(image)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(degradation.reduce(image), exact, rtol=0, atol=0)
    half = degradation.reduce(image.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half, degradation.reduce(image.bfloat16().float()).bfloat16(), rtol=0, atol=0)


def test_matrices_made_in_inference_mode_serve_training():
    degradation = Degradation(3, blur=0.77)  # a setting no other test has cached
    with torch.inference_mode():
        degradation.reduce(torch.rand(1, 1, 9, 9))
    image = torch.rand(1, 1, 9, 9, requires_grad=True)
    degradation.reduce(image).sum().backward()
    assert image.grad.sum().item() == pytest.approx(9, abs=1e-4)  # rows of A sum to one


def test_the_operator_can_be_copied_and_pickled():
    degradation, image = Degradation(2, blur=0.5), rand(1, 1, 8, 8)
    for twin in (copy.deepcopy(degradation), pickle.loads(pickle.dumps(degradation))):
        torch.testing.assert_close(twin.reduce(image), degradation.reduce(image), rtol=0, atol=0)


def test_channels_last_images_give_the_same():
    image = rand(2, 3, 16, 16)
    given = Degradation(2).reduce(image.to(memory_format=torch.channels_last))
    torch.testing.assert_close(given, Degradation(2).reduce(image))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": 1}, "scale=1 must be a whole number of at least 2"),
        ({"scale": 2.5}, "scale=2.5 must be"),
        ({"blur": -1}, "blur=-1 must be finite"),
        ({"noise": float("nan")}, "noise=nan must be finite"),
        ({"levels": 0}, "levels=0 must be at least 1"),
    ],
)
def test_bad_settings_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        Degradation(**options)


def test_bad_images_are_refused_with_the_way_out():
    degradation = Degradation(4)
    with pytest.raises(ValueError, match="30 x 33 pixels is no multiple of scale=4: crop it to 28 x 32"):
        degradation(torch.rand(1, 3, 30, 33))
    with pytest.raises(ValueError, match="uint8 must be floating .* divide an 8-bit image by 255"):
        degradation(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"image \(3, 8, 8\)"):
        degradation(torch.rand(3, 8, 8))
    with pytest.raises(ValueError, match=r"low_res \(1, 3, 4, 4\) is not the reduction of high_res \(1, 3, 8, 8\)"):
        degradation.project(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 4, 4))
    with pytest.raises(ValueError, match="iterations=0"):
        degradation.project_within(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 2, 2), iterations=0)


def test_a_blur_that_cannot_be_inverted_is_refused_but_reduces():
    degradation = Degradation(2, blur=8.0)
    assert degradation.reduce(torch.rand(1, 1, 64, 64)).shape == (1, 1, 32, 32)
    with pytest.raises(ValueError, match="blur=8 with scale=2 cannot be inverted .* use a blur of at most 2 pixels"):
        degradation.pseudo_inverse(torch.rand(1, 1, 32, 32))

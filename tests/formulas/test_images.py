from __future__ import annotations

import math

import pytest
import reference_sr
import torch
from monai.metrics import PSNRMetric
from skimage.metrics import peak_signal_noise_ratio

from monai_ext.formulas.images import decibels, mean_squared_error, peak_signal_to_noise, rounded


def images(*shape: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A target with structure, and a prediction of it with noise and a shift of grey; both in [0, 1], float32."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(*shape[:2], 4, 4, generator=generator)
    target = torch.nn.functional.interpolate(coarse, shape[2:], mode="bilinear", align_corners=False)
    prediction = target * 0.9 + 0.08 * torch.randn(target.shape, generator=generator)
    return prediction.clamp(0, 1), target


def test_psnr_of_a_hand_computed_case():
    prediction = torch.tensor([[[[0.5, 0.5]], [[1.0, 0.0]]]])
    target = torch.tensor([[[[0.5, 0.0]], [[0.0, 0.0]]]])
    # squared errors 0, 1/4, 1, 0: mean 5/16
    assert peak_signal_to_noise(prediction, target).tolist() == pytest.approx([10 * math.log10(16 / 5)])


def test_psnr_equals_skimage_monai_and_the_slow_reference():
    prediction, target = images(3, 3, 12, 17)
    given = peak_signal_to_noise(prediction, target)
    monais = PSNRMetric(max_val=1)(prediction, target)
    for i in range(3):
        p, t = prediction[i].double().numpy(), target[i].double().numpy()
        assert given[i].item() == pytest.approx(peak_signal_noise_ratio(t, p, data_range=1), abs=1e-9)
        assert given[i].item() == pytest.approx(reference_sr.peak_signal_to_noise(p, t), abs=1e-9)
        assert given[i].item() == pytest.approx(monais[i].item(), abs=1e-4)


def test_mean_squared_error_is_over_everything_but_the_batch():
    prediction = torch.tensor([[[[1.0, 2.0]]], [[[0.0, 0.0]]]])
    assert mean_squared_error(prediction, torch.zeros(2, 1, 1, 2)).tolist() == [2.5, 0.0]


def test_decibels_of_another_range():
    assert decibels(torch.tensor(255.0**2), data_range=255).item() == pytest.approx(0, abs=1e-5)
    assert decibels(torch.tensor(0.001)).item() == pytest.approx(30)
    assert decibels(torch.tensor(0.0)).item() == float("inf")


def test_images_are_rounded_to_the_levels_of_their_files():
    images = torch.tensor([0.3, 1.3]).view(2, 1, 1, 1, 1)
    assert rounded(images, 2).flatten().tolist() == [0.5, 1.5]
    assert rounded(images, 2, own=torch.tensor([2, 5])).flatten().tolist() == pytest.approx([0.5, 1.2])
    assert rounded(images, None, own=torch.tensor([2, 5])).flatten().tolist() == pytest.approx([0.3, 1.3])


def test_integers_need_the_range_of_their_type():
    image = torch.zeros(1, 1, 2, 2, dtype=torch.uint8)
    with pytest.raises(ValueError, match="data_range=1 is not the range of torch.uint8: pass 255"):
        peak_signal_to_noise(torch.zeros(1, 1, 2, 2), image)
    assert peak_signal_to_noise(image, image + 255, data_range=255).item() == 0
    assert peak_signal_to_noise(image.bool(), ~image.bool()).item() == 0


def test_images_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"prediction \(1, 3, 4, 4\) and target \(1, 3, 4, 5\) differ in shape"):
        peak_signal_to_noise(torch.rand(1, 3, 4, 4), torch.rand(1, 3, 4, 5))
    with pytest.raises(ValueError, match=r"images \(3, 4, 4\) must be \(B, C, H, W\)"):
        peak_signal_to_noise(torch.rand(3, 4, 4), torch.rand(3, 4, 4))

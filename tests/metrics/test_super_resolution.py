from __future__ import annotations

import math

import numpy as np
import pytest
import reference_sr
import torch
from skimage.metrics import structural_similarity as skimage_similarity

from monai_ext.metrics import super_resolution
from monai_ext.metrics.super_resolution import (
    SUPER_RESOLUTION_SCORES,
    SuperResolutionScores,
    luma,
    peak_signal_to_noise,
    shave,
    structural_similarity,
)
from monai_ext.transforms.degradation import Degradation


def images(*shape: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A target with structure, and a prediction of it with noise and a shift of grey; both in [0, 1], float32."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(*shape[:2], 4, 4, generator=generator)
    target = torch.nn.functional.interpolate(coarse, shape[2:], mode="bilinear", align_corners=False)
    prediction = target * 0.9 + 0.08 * torch.randn(target.shape, generator=generator)
    return prediction.clamp(0, 1), target


@pytest.mark.parametrize("size", [(11, 31), (64, 65), (70, 130)])
def test_ssim_equals_skimage(size):
    prediction, target = images(2, 3, *size)
    given = structural_similarity(prediction, target)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    for i in range(2):
        p, t = prediction[i].double().numpy(), target[i].double().numpy()
        assert given[i].item() == pytest.approx(skimage_similarity(t, p, channel_axis=0, **options), abs=1e-10)


def test_ssim_equals_the_slow_reference():
    prediction, target = images(1, 1, 13, 12)
    slow = reference_sr.structural_similarity(prediction[0, 0].double().numpy(), target[0, 0].double().numpy())
    assert structural_similarity(prediction, target).item() == pytest.approx(slow, abs=1e-10)


def test_ssim_of_flat_images_is_the_luminance_term():
    x, y = torch.full((1, 1, 11, 11), 0.2), torch.full((1, 1, 11, 11), 0.6)
    expected = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    assert structural_similarity(x, y).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("score", [peak_signal_to_noise, structural_similarity])
def test_scores_of_8_bit_images_equal_those_of_their_fractions(score):
    prediction, target = ((255 * image).round().to(torch.uint8) for image in images(2, 3, 16, 16))
    torch.testing.assert_close(
        score(prediction, target, data_range=255), score(prediction.double() / 255, target.double() / 255)
    )


@pytest.mark.parametrize("score", [peak_signal_to_noise, structural_similarity])
def test_scores_are_symmetric_and_best_for_equal_images(score):
    prediction, target = images(2, 3, 16, 16)
    torch.testing.assert_close(score(prediction, target), score(target, prediction))
    best = score(target, target)
    assert (best == (1 if score is structural_similarity else math.inf)).all()
    assert (score(prediction, target) < best).all()


def test_ssim_can_be_learned_from_even_after_inference_mode():
    prediction, target = images(1, 1, 16, 16)
    super_resolution._gaussian_band.cache_clear()
    with torch.inference_mode():
        value = structural_similarity(prediction, target)
    image = prediction.double().requires_grad_()
    structural_similarity(image, target).backward()
    assert structural_similarity(image.detach() + 0.01 * image.grad, target) > value


def test_luma_spans_16_to_235_and_equals_the_slow_reference():
    corners = torch.tensor([[0.0, 1, 1, 0, 0], [0, 1, 0, 1, 0], [0, 1, 0, 0, 1]])[None, :, None]  # black white R G B
    expected = [16, 235, 16 + 65.481, 16 + 128.553, 16 + 24.966]
    assert (luma(corners) * 255).flatten().tolist() == pytest.approx(expected)
    image = images(1, 3, 5, 6)[0]
    np.testing.assert_allclose(luma(image)[0, 0], reference_sr.luma(image[0].double().numpy()), atol=1e-6)


def test_luma_equals_skimages_studio_range():
    from skimage.color import rgb2ycbcr

    image = images(1, 3, 5, 6)[0].double()
    expected = rgb2ycbcr(image[0].permute(1, 2, 0).numpy())[..., 0]
    np.testing.assert_allclose(luma(image)[0, 0] * 255, expected, atol=1e-9)


def test_shaving_cuts_the_border_of_every_side():
    image = torch.arange(30).reshape(1, 1, 5, 6)
    assert shave(image, 2).tolist() == [[[[14, 15]]]]
    assert shave(image, 0) is not None and shave(image, 0).shape == image.shape


def scored(metric: SuperResolutionScores, *batches, **options) -> SuperResolutionScores:
    for prediction, target in batches:
        metric(prediction, target, **options)
    return metric


def test_metric_is_the_mean_of_the_scores_of_rounded_predictions():
    first, second = images(3, 3, 24, 32), images(2, 3, 24, 32, seed=1)
    degradation = Degradation(2)
    metric = SuperResolutionScores(2, degradation=degradation, perceptual=lambda p, t: (p - t).abs().mean((1, 2, 3)))
    scored(metric, first, second)
    prediction, target = (torch.cat(pair) for pair in zip(first, second, strict=True))
    stored = (prediction.double() * 255).round() / 255
    y_stored, y_target = (shave(luma(image), 2) for image in (stored, target.double()))
    expected = {
        "psnr": peak_signal_to_noise(stored, target),
        "ssim": structural_similarity(stored, target),
        "psnr_luma": peak_signal_to_noise(y_stored, y_target),
        "ssim_luma": structural_similarity(y_stored, y_target),
        "lr_psnr": peak_signal_to_noise(degradation(stored), degradation(target.double())),
        "perceptual": (stored - target).abs().mean((1, 2, 3)),
    }
    assert tuple(expected) == SUPER_RESOLUTION_SCORES == tuple(metric.aggregate())
    for name, values in metric.per_image().items():
        torch.testing.assert_close(values, expected[name].double(), rtol=1e-6, atol=1e-6)
        assert metric.aggregate()[name] == pytest.approx(expected[name].mean().item(), rel=1e-6)


def test_luma_scores_do_not_see_the_border():
    prediction, target = images(1, 3, 24, 24)
    spoiled = prediction.clone()
    spoiled[..., :4, :] = 0
    spoiled[..., -4:] = 1
    given = scored(SuperResolutionScores(4), (spoiled, target)).aggregate()
    clean = scored(SuperResolutionScores(4), (prediction, target)).aggregate()
    assert given["psnr_luma"] == clean["psnr_luma"] and given["ssim_luma"] == clean["ssim_luma"]
    assert given["psnr"] < clean["psnr"] - 3


def test_the_given_low_resolution_image_is_compared_with():
    degradation = Degradation(4)
    prediction, target = images(2, 3, 24, 24)
    low_res = degradation(target) + 0.1
    metric = SuperResolutionScores(4, degradation=degradation, levels=None)
    scored(metric, (prediction, target), low_res=low_res)
    expected = peak_signal_to_noise(degradation(prediction), low_res)
    torch.testing.assert_close(metric.per_image()["lr_psnr"], expected, rtol=1e-5, atol=0)


def test_a_projected_prediction_scores_50_decibels_at_low_resolution():
    degradation = Degradation(4)
    prediction, target = (0.2 + 0.6 * image for image in images(1, 3, 32, 32))
    low_res = degradation(target)
    metric = SuperResolutionScores(4, degradation=degradation)
    assert scored(metric, (prediction, target)).aggregate()["lr_psnr"] < 45
    metric.reset()
    assert scored(metric, (degradation.project(prediction, low_res), target)).aggregate()["lr_psnr"] > 60


def test_predictions_are_clipped_and_rounded_unless_told_otherwise():
    target = torch.full((1, 1, 12, 12), 1.0)
    assert scored(SuperResolutionScores(), (target * 1.3, target)).per_image()["psnr"].tolist() == [math.inf]
    assert scored(SuperResolutionScores(levels=None), (target * 1.1, target)).aggregate()["psnr"] == pytest.approx(20)
    almost = target - 0.4 / 255
    assert scored(SuperResolutionScores(), (almost, target)).per_image()["psnr"].tolist() == [math.inf]
    sixteen = scored(SuperResolutionScores(levels=65535), (almost, target)).aggregate()["psnr"]
    assert sixteen == pytest.approx(20 * math.log10(255 / 0.4), abs=0.05)


def test_one_perfect_image_counts_100_decibels_in_the_mean():
    target = torch.full((2, 1, 12, 12), 0.6)
    prediction = target.clone()
    prediction[1] = 0.5
    metric = scored(SuperResolutionScores(levels=None), (prediction, target))
    assert metric.aggregate()["psnr"] == pytest.approx((100 + 20) / 2)


def test_lists_of_differing_sizes_give_each_images_score():
    pairs = [images(1, 3, 20, 24), images(1, 3, 28, 21, seed=1)]
    metric = SuperResolutionScores(4, degradation=Degradation(2))
    cases = [
        [image[0, :, :20, :20] if image.shape[2] == 20 else image[0, :, :, :20] for image in pair] for pair in pairs
    ]
    low_res = [Degradation(2)(target[None])[0] for _, target in cases]
    metric([p for p, _ in cases], [t for _, t in cases], low_res=low_res)
    values = metric.per_image()
    for i, (p, t) in enumerate(cases):
        alone = scored(SuperResolutionScores(4, degradation=Degradation(2)), (p[None], t[None])).per_image()
        for name in alone:
            assert values[name][i].item() == pytest.approx(alone[name].item(), rel=1e-5), name


def test_images_without_luma_leave_its_scores_out():
    metric = scored(SuperResolutionScores(), images(1, 5, 16, 16))
    assert tuple(metric.aggregate()) == ("psnr", "ssim")
    with pytest.raises(ValueError, match="score images of different kinds apart"):
        metric(*images(1, 3, 32, 32))
    metric.reset()
    metric(*images(1, 3, 32, 32))
    assert "psnr_luma" in metric.aggregate()


def test_a_nan_shows_in_the_mean():
    prediction, target = images(2, 3, 24, 24)
    prediction[1, 0, 3, 3] = math.nan
    metric = scored(SuperResolutionScores(), (prediction, target))
    assert metric.per_image()["psnr"].isnan().tolist() == [False, True]
    assert math.isnan(metric.aggregate()["psnr"]) and math.isnan(metric.aggregate()["ssim"])


def test_autocast_changes_no_score():
    prediction, target = images(1, 3, 24, 24)
    layer = torch.nn.Conv2d(3, 4, 3)
    metric = SuperResolutionScores(perceptual=lambda p, t: (layer(p) - layer(t)).square().mean((1, 2, 3)))
    exact = scored(metric, (prediction, target)).aggregate()
    metric.reset()
    with torch.autocast("cpu", torch.bfloat16):
        assert scored(metric, (prediction, target)).aggregate() == exact


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SuperResolutionScores().aggregate(), "no image has been scored"),
        (lambda: SuperResolutionScores(0), "scale=0 and levels=255 must be at least 1"),
        (lambda: SuperResolutionScores()(torch.rand(1, 3, 16, 16)), "y is None"),
        (lambda: SuperResolutionScores()([torch.rand(3, 16, 16)], []), "1 predictions need as many of y"),
        (lambda: SuperResolutionScores(4)(*images(1, 3, 18, 18)), "SSIM needs 11 x 11 pixels, the image has 10 x 10"),
        (lambda: peak_signal_to_noise(torch.rand(1, 3, 4, 4), torch.rand(1, 3, 4, 5)), "differ in shape"),
        (lambda: structural_similarity(torch.rand(3, 16, 16), torch.rand(3, 16, 16)), r"\(B, C, H, W\)"),
        (lambda: luma(torch.rand(1, 4, 2, 2)), "has no luma: it must be RGB"),
        (lambda: shave(torch.rand(1, 1, 8, 9), 4), "border=4 must be .* leave something of 8 x 9"),
    ],
)
def test_errors_say_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_images_that_are_not_on_the_unit_scale_are_refused():
    prediction, target = images(2, 3, 32, 32)
    with pytest.raises(ValueError, match="the target reaches from .* to 2.*: divide by the range of the values"):
        SuperResolutionScores()(prediction, 255 * target)
    with pytest.raises(ValueError, match="the target is torch.uint8, scores are for images in"):
        SuperResolutionScores()(prediction, (255 * target).to(torch.uint8))
    with pytest.raises(ValueError, match="data_range=1 is not the range of torch.uint8"):
        structural_similarity(prediction, (255 * target).to(torch.uint8))


@pytest.mark.parametrize("blur", [0.0, 2.0])
def test_pixels_that_are_not_known_do_not_count(blur):
    prediction, target = images(2, 3, 48, 60)
    degradation = Degradation(4, blur=blur)
    low_res = degradation(target)
    known = torch.zeros(2, 1, 48, 60, dtype=torch.bool)
    known[0, ..., 16:], known[1] = True, True

    def distance(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (x - y).abs().flatten(1).mean(1)

    def scores(images: torch.Tensor) -> dict[str, torch.Tensor]:
        metric = SuperResolutionScores(degradation=degradation, perceptual=distance, levels=None)
        metric(images, target, low_res=low_res, known=known)
        return metric.per_image()

    found, whole = scores(prediction), SuperResolutionScores(degradation=degradation, perceptual=distance, levels=None)
    whole(prediction, target, low_res=low_res)
    inner = prediction[:1, ..., 16:], target[:1, ..., 16:]
    assert found["psnr"][0] == pytest.approx(peak_signal_to_noise(*inner).item())
    assert found["ssim"][0] == pytest.approx(structural_similarity(*inner).item())
    assert found["perceptual"][0] == pytest.approx(distance(*inner).item())
    for name, values in whole.per_image().items():  # where all is known, nothing changes
        assert found[name][1] == pytest.approx(values[1].item())
    black = torch.where(known, prediction, 0.0)
    for name, values in scores(black).items():
        torch.testing.assert_close(values, found[name], msg=name)
    assert whole.per_image()["psnr"][0] != pytest.approx(found["psnr"][0].item(), abs=1e-3)

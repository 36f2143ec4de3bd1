from __future__ import annotations

import math

import pytest
import reference_sr
import torch

from monai_ext.losses.perceptual import (
    ContentLoss,
    PerceptualDistance,
    PerceptualEnergy,
    content_distance,
    unit_feature_distance,
)
from monai_ext.networks.features import MobileNetV2Features


@pytest.fixture(scope="module")
def mobilenet() -> MobileNetV2Features:
    torch.manual_seed(0)
    return MobileNetV2Features()


def test_features_stay_frozen_and_in_evaluation_mode(mobilenet):
    loss = PerceptualDistance(mobilenet)
    loss.train()
    assert not any(module.training for module in mobilenet.modules())
    assert not any(p.requires_grad for p in loss.parameters())


def test_content_distance_of_a_hand_computed_case():
    first = [torch.tensor([[[[1.0, 2.0]], [[0.0, 0.0]]]]), torch.zeros(1, 1, 1, 1)]
    second = [torch.tensor([[[[0.0, 0.0]], [[3.0, 0.0]]]]), torch.full((1, 1, 1, 1), 2.0)]
    # (1 + 4 + 9 + 0) / 4 in the first layer, 4 in the second
    assert content_distance(first, second).tolist() == [7.5]


def test_unit_feature_distance_equals_the_slow_reference():
    torch.manual_seed(0)
    first, second = ([torch.randn(2, 5, 3, 4), torch.randn(2, 7, 2, 2)] for _ in range(2))
    given = unit_feature_distance(first, second)
    for i in range(2):
        slow = reference_sr.unit_feature_distance([m[i].numpy() for m in first], [m[i].numpy() for m in second])
        assert given[i].item() == pytest.approx(slow, rel=1e-5)


def test_unit_feature_distance_ignores_the_length_of_features_and_stays_within_0_and_4():
    maps = [torch.randn(1, 6, 4, 4)]
    assert unit_feature_distance(maps, [3 * maps[0]]).item() == pytest.approx(0, abs=1e-6)
    assert unit_feature_distance(maps, [-maps[0]]).item() == pytest.approx(4, rel=1e-5)


def test_gradient_of_the_distance_is_finite_where_all_features_are_zero():
    zeros = torch.zeros(1, 4, 2, 2, requires_grad=True)
    unit_feature_distance([zeros], [torch.randn(1, 4, 2, 2)]).sum().backward()
    assert zeros.grad.isfinite().all()
    zeros.grad = None
    unit_feature_distance([zeros], [torch.zeros(1, 4, 2, 2)]).sum().backward()
    assert (zeros.grad == 0).all()


@pytest.mark.parametrize("kind", [ContentLoss, PerceptualDistance])
def test_equal_images_have_no_loss_and_more_noise_more(kind, mobilenet):
    torch.manual_seed(0)
    image, noise = torch.rand(2, 3, 32, 32), torch.randn(2, 3, 32, 32)
    loss = kind(mobilenet, reduction="none")
    values = torch.stack([loss(image + sigma * noise, image) for sigma in (0.0, 0.05, 0.3)])
    assert values.shape == (3, 2) and values[0].abs().max() < 1e-9
    assert (values[1] > values[0]).all() and (values[2] > values[1]).all()
    assert kind(mobilenet)(image + 0.05 * noise, image).item() == pytest.approx(values[1].mean().item(), rel=1e-5)


def test_content_loss_divides_features_by_12_75():
    loss = ContentLoss(lambda image: [image])
    assert loss(torch.full((2, 1, 3, 3), 12.75), torch.zeros(2, 1, 3, 3)).item() == pytest.approx(1.0)


def test_gradient_reaches_the_prediction_only(mobilenet):
    prediction = torch.rand(1, 3, 32, 32, requires_grad=True)
    target = torch.rand(1, 3, 32, 32, requires_grad=True)
    PerceptualDistance(mobilenet)(prediction, target).backward()
    assert prediction.grad.abs().sum() > 0 and target.grad is None


def test_kept_features_of_the_target_give_the_same_loss(mobilenet):
    prediction, target = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32)
    loss = PerceptualDistance(mobilenet)
    kept = mobilenet(target)
    torch.testing.assert_close(loss.between(mobilenet(prediction), kept), loss(prediction, target))


def test_descending_the_distance_brings_the_image_nearer(mobilenet):
    torch.manual_seed(0)
    target = torch.rand(1, 3, 32, 32)
    image = (target + 0.2 * torch.randn_like(target)).requires_grad_()
    loss, optimizer = PerceptualDistance(mobilenet), torch.optim.Adam([image], lr=0.01)
    before = loss(image, target).item()
    for _ in range(5):
        optimizer.zero_grad()
        loss(image, target).backward()
        optimizer.step()
    assert loss(image, target).item() < 0.8 * before


def test_bad_settings_and_images_are_refused(mobilenet):
    with pytest.raises(ValueError, match="reduction='sum'"):
        ContentLoss(mobilenet, reduction="sum")
    with pytest.raises(ValueError, match="differ in shape"):
        ContentLoss(mobilenet)(torch.rand(1, 3, 32, 32), torch.rand(2, 3, 32, 32))
    with pytest.raises(ValueError, match="must be the same layers"):
        content_distance([torch.zeros(1, 1, 2, 2)], [])


# Energy score of features
def pixels(*directions: float) -> torch.Tensor:
    """An image of one row whose feature vectors, the two bands, point in these directions (degrees): (2, 1, W)."""
    angle = torch.tensor(directions) * math.pi / 180
    return torch.stack([angle.cos(), angle.sin()])[:, None]


def energy(samples: list[torch.Tensor], target: torch.Tensor) -> float:
    return PerceptualEnergy(lambda image: [3 * image])(torch.stack(samples)[None], target[None]).item()


def test_perceptual_energy_of_a_hand_computed_case():
    east, north, south = pixels(0.0), pixels(90.0), pixels(-90.0)
    assert energy([east, east], east) == pytest.approx(0, abs=1e-4)
    assert energy([north, north], east) == pytest.approx(math.sqrt(2), abs=1e-4)
    assert energy([north, south], east) == pytest.approx(math.sqrt(2) - 2 / 2, abs=1e-4)
    # three samples: distances to the target 0, sqrt 2, sqrt 2; of the pairs sqrt 2, sqrt 2, 2
    expected = 2 * math.sqrt(2) / 3 - (2 * math.sqrt(2) + 2) / 3 / 2
    assert energy([east, north, south], east) == pytest.approx(expected, abs=1e-4)
    # two places: the mean of both
    assert energy([pixels(0.0, 90.0)] * 2, pixels(0.0, 0.0)) == pytest.approx(math.sqrt(2) / 2, abs=1e-4)


def test_perceptual_energy_is_least_for_samples_of_the_targets_own_distribution():
    modes = [pixels(0.0), pixels(90.0)]

    def expected(first: list[torch.Tensor], second: list[torch.Tensor]) -> float:
        """Over both targets and all pairs of samples, each drawn from its list."""
        values = [energy([a, b], target) for target in modes for a in first for b in second]
        return sum(values) / len(values)

    own = expected(modes, modes)
    assert own < expected([pixels(45.0)], [pixels(45.0)]) - 0.05  # the compromise
    assert own < expected(modes[:1], modes[:1]) - 0.05  # one of them always
    assert own < expected([pixels(-45.0), pixels(135.0)], [pixels(-45.0), pixels(135.0)]) - 0.05  # diverse, but wrong


def test_perceptual_energy_reaches_the_samples_only_and_adds_up_over_layers(mobilenet):
    torch.manual_seed(2)
    samples, target = torch.rand(2, 3, 3, 32, 32, requires_grad=True), torch.rand(2, 3, 32, 32, requires_grad=True)

    def features(image: torch.Tensor) -> list[torch.Tensor]:
        return [1000 * maps for maps in mobilenet(image)]  # a random network's are as small as what the loss adds

    loss = PerceptualEnergy(features, shift=0)(samples, target)
    loss.backward()
    assert samples.grad.isfinite().all() and samples.grad.flatten(2).any(2).all() and target.grad is None

    def unit(image: torch.Tensor) -> list[torch.Tensor]:
        return [maps / maps.norm(dim=1, keepdim=True) for maps in features(image)]

    draws, wanted, plain = [unit(samples[:, i]) for i in range(3)], unit(target), 0.0
    for layer in range(4):
        near = sum((draw[layer] - wanted[layer]).norm(dim=1).mean() for draw in draws) / 3
        apart = sum((draws[i][layer] - draws[j][layer]).norm(dim=1).mean() for i, j in ((0, 1), (0, 2), (1, 2))) / 3
        plain = plain + (near - apart / 2) / 4
    torch.testing.assert_close(loss, plain, atol=1e-4, rtol=1e-4)


def test_perceptual_energy_shifts_all_images_alike_so_that_no_pixel_is_always_overlooked():
    seen: list[torch.Tensor] = []

    def every_other(image: torch.Tensor) -> list[torch.Tensor]:
        seen.append(image)
        return [image[..., ::2, ::2]]

    target = torch.arange(48.0).reshape(1, 1, 6, 8).expand(1, 2, 6, 8) + 1
    loss, corners = PerceptualEnergy(every_other, shift=3), set()
    for _ in range(60):
        assert loss(torch.stack([target, target], 1), target).abs() < 1e-4  # registered: all are equal
        assert all(torch.equal(image[:1], seen[-1][:1]) for image in seen[-2:])
        corners.add(int(seen[-1][0, 0, 0, 0]) - 1)
    assert corners == {8 * row + column for row in range(3) for column in range(3)}
    with pytest.raises(ValueError, match="shift=-1"):
        PerceptualEnergy(every_other, shift=-1)


@pytest.mark.parametrize("shape", [(2, 1, 3, 8, 8), (2, 3, 8, 8), (2, 2, 3, 8, 4)])
def test_perceptual_energy_refuses_what_is_no_set_of_the_target(shape):
    with pytest.raises(ValueError, match=r"n >= 2, of a target .* \(2, 3, 8, 8\)"):
        PerceptualEnergy(lambda image: [image])(torch.rand(shape), torch.rand(2, 3, 8, 8))

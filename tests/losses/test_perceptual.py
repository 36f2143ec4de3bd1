from __future__ import annotations

import math

import numpy as np
import pytest
import reference_sr
import torch
import torch.nn.functional as F
from monai.losses import PatchAdversarialLoss
from torch import nn

from monai_ext.losses.adversarial import LogisticAdversarialLoss, R1Penalty, squared_gradient_norm
from monai_ext.losses.perceptual import (
    ContentLoss,
    PerceptualDistance,
    PerceptualEnergy,
    content_distance,
    unit_feature_distance,
)
from monai_ext.losses.psnr import PSNRLoss
from monai_ext.networks.backbones.mobilenet_v2 import MobileNetV2Encoder
from monai_ext.networks.features import IMAGENET_MEAN, IMAGENET_STD, MobileNetV2Features, VGG19Features
from monai_ext.networks.sr_discriminator import SRDiscriminator


@pytest.fixture(scope="module")
def mobilenet() -> MobileNetV2Features:
    torch.manual_seed(0)
    return MobileNetV2Features()


def vgg19_state(last_stage: int = 2) -> dict[str, torch.Tensor]:
    """Random values under torchvision's names, up to `last_stage`, half precision, with a classifier."""
    torch.manual_seed(1)
    shapes = {0: (64, 3), 2: (64, 64), 5: (128, 64), 7: (128, 128), 10: (256, 128)}
    state: dict[str, torch.Tensor] = {"classifier.6.bias": torch.zeros(1000).half()}
    for number in list(shapes)[: 2 * last_stage]:
        state[f"features.{number}.weight"] = (0.05 * torch.randn(*shapes[number], 3, 3)).half()
        state[f"features.{number}.bias"] = (0.05 * torch.randn(shapes[number][0])).half()
    return state


def saved(state: dict, tmp_path) -> str:
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    return str(path)


def normalised(image: torch.Tensor) -> torch.Tensor:
    return (image - torch.tensor(IMAGENET_MEAN)[:, None, None]) / torch.tensor(IMAGENET_STD)[:, None, None]


def test_mobilenet_features_are_the_encoders_first_four(mobilenet):
    encoder = MobileNetV2Encoder().eval()
    encoder.features[:14].load_state_dict(mobilenet.features.state_dict())
    image = torch.rand(2, 3, 40, 48)
    given, expected = mobilenet(image), encoder(normalised(image))[:4]
    assert [tuple(maps.shape[1:]) for maps in given] == [(16, 20, 24), (24, 10, 12), (32, 5, 6), (96, 3, 3)]
    for a, b in zip(given, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_mobilenet_weights_come_from_the_file(tmp_path):
    state = {
        name: torch.rand_like(v) if v.is_floating_point() else v
        for name, v in MobileNetV2Encoder().state_dict().items()
    }
    features = MobileNetV2Features(saved(state, tmp_path))
    torch.testing.assert_close(features.features[13].conv[3].weight, state["features.13.conv.3.weight"])


def test_vgg19_features_are_those_of_torchvisions_layout(tmp_path):
    state = vgg19_state()
    image = torch.rand(2, 3, 12, 18)
    w = {name: value.float() for name, value in state.items()}
    x = F.relu(F.conv2d(normalised(image), w["features.0.weight"], w["features.0.bias"], padding=1))
    conv1_2 = F.conv2d(x, w["features.2.weight"], w["features.2.bias"], padding=1)
    x = F.max_pool2d(F.relu(conv1_2), 2)
    x = F.relu(F.conv2d(x, w["features.5.weight"], w["features.5.bias"], padding=1))
    relu2_2 = F.relu(F.conv2d(x, w["features.7.weight"], w["features.7.bias"], padding=1))
    given = VGG19Features(saved(state, tmp_path), layers=("relu2_2", "conv1_2"))(image)
    torch.testing.assert_close(given[0], conv1_2)  # before the activation, and not overwritten by it
    torch.testing.assert_close(given[1], relu2_2)
    assert given[0].min() < 0 == given[1].min()


def test_default_vgg19_features_have_torchvisions_parameters_and_stop_before_the_fifth_pooling():
    network = VGG19Features()
    assert sum(p.numel() for p in network.parameters()) == 20_024_384  # torchvision's vgg19().features
    assert [tuple(maps.shape) for maps in network(torch.rand(1, 3, 32, 48))] == [(1, 512, 2, 3)]
    names = [name for name in network.state_dict() if name.endswith("weight")]
    numbers = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)
    assert names == [f"features.{number}.weight" for number in numbers]


def test_features_stay_frozen_and_in_evaluation_mode(mobilenet):
    loss = PerceptualDistance(mobilenet)
    loss.train()
    assert not any(module.training for module in mobilenet.modules())
    assert not any(p.requires_grad for p in loss.parameters())


def test_grey_images_and_chosen_bands_are_shown_as_rgb(mobilenet):
    image = torch.rand(1, 5, 32, 32)
    for a, b in zip(mobilenet(image[:, :1]), mobilenet(image[:, [0, 0, 0]]), strict=True):
        torch.testing.assert_close(a, b)
    for a, b in zip(mobilenet(image), mobilenet(image[:, :3]), strict=True):
        torch.testing.assert_close(a, b)
    infrared = MobileNetV2Features(bands=(4, 2, 1))
    infrared.load_state_dict(mobilenet.state_dict())
    for a, b in zip(infrared(image), mobilenet(image[:, [4, 2, 1]]), strict=True):
        torch.testing.assert_close(a, b)


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


def test_missing_weights_name_the_address_to_fetch_them_from():
    with pytest.raises(FileNotFoundError, match="weights='no.pth' is no file: fetch the VGG19 .*vgg19-dcbb9e9d.pth"):
        VGG19Features("no.pth")
    with pytest.raises(FileNotFoundError, match="weights='no.pth' is no file: .*mobilenet_v2-b0353104.pth"):
        MobileNetV2Features("no.pth")


def test_weights_of_something_else_are_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match="have no fitting 'features.10.weight': expected .* torchvision's VGG19"):
        VGG19Features(saved(vgg19_state(2), tmp_path), layers=("conv3_1",))


def test_bad_settings_and_images_are_refused(mobilenet):
    with pytest.raises(ValueError, match=r"layers=\('relu6_1',\) must be some of conv1_1"):
        VGG19Features(layers=("relu6_1",))
    with pytest.raises(ValueError, match=r"bands=\(0, 1\) must name three channels"):
        MobileNetV2Features(bands=(0, 1))
    with pytest.raises(ValueError, match=r"image \(1, 2, 32, 32\) must be .* bands=\(0, 1, 2\)"):
        mobilenet(torch.rand(1, 2, 32, 32))
    with pytest.raises(ValueError, match="image of 3 x 9 pixels is too small for these layers: they need 4 x 4"):
        VGG19Features(layers=("relu3_1",))(torch.rand(1, 3, 3, 9))
    with pytest.raises(ValueError, match="reduction='sum'"):
        ContentLoss(mobilenet, reduction="sum")
    with pytest.raises(ValueError, match="differ in shape"):
        ContentLoss(mobilenet)(torch.rand(1, 3, 32, 32), torch.rand(2, 3, 32, 32))
    with pytest.raises(ValueError, match="must be the same layers"):
        content_distance([torch.zeros(1, 1, 2, 2)], [])


def test_logistic_loss_of_hand_computed_cases():
    loss, logits = LogisticAdversarialLoss(), torch.tensor([[0.0], [2.0]])
    real = loss(logits, target_is_real=True, for_discriminator=True).item()
    fake = loss(logits, target_is_real=False, for_discriminator=True).item()
    assert real == pytest.approx((math.log(2) + math.log(1 + math.exp(-2))) / 2)
    assert fake == pytest.approx((math.log(2) + math.log(1 + math.exp(2))) / 2)
    assert loss(logits, target_is_real=True, for_discriminator=False).item() == pytest.approx(real)


def test_label_smoothing_is_cross_entropy_with_the_smoothed_label_for_the_discriminators_real_images_only():
    smooth, plain = LogisticAdversarialLoss(label_smoothing=0.1), LogisticAdversarialLoss()
    logits = torch.randn(5, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    expected = F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, 0.9))
    torch.testing.assert_close(smooth(logits, target_is_real=True, for_discriminator=True), expected)
    for case in (
        {"target_is_real": False, "for_discriminator": True},
        {"target_is_real": True, "for_discriminator": False},
    ):
        torch.testing.assert_close(smooth(logits, **case), plain(logits, **case))


def test_logistic_loss_equals_monais_bce_at_moderate_logits_and_keeps_its_gradient_at_large_ones():
    ours, monais = LogisticAdversarialLoss(), PatchAdversarialLoss(criterion="bce")
    logits = torch.linspace(-3, 3, 7)[:, None]
    for real in (True, False):
        torch.testing.assert_close(ours(logits, real, True), monais(logits, real, True))
    lost = torch.full((1, 1), -200.0, requires_grad=True)  # a discriminator that is sure
    ours(lost, True, False).backward()
    assert lost.grad.item() == pytest.approx(-1)


def test_logistic_loss_is_float32_of_half_precision_logits():
    loss = LogisticAdversarialLoss()(torch.zeros(2, 1, dtype=torch.bfloat16), True, True)
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(math.log(2))


def test_monais_least_squares_loss_takes_the_discriminators_logits():
    loss = PatchAdversarialLoss(criterion="least_squares", no_activation_leastsq=True)
    logits = SRDiscriminator(features=4, head="patch")(torch.rand(2, 3, 32, 32))
    expected = (logits - 1).square().mean()
    torch.testing.assert_close(loss(logits, target_is_real=True, for_discriminator=False), expected)


def test_gradient_penalty_of_a_linear_discriminator_is_its_squared_weight():
    weight = torch.randn(1, 12, generator=torch.Generator().manual_seed(0))
    discriminator = nn.Sequential(nn.Flatten(), nn.Linear(12, 1))
    discriminator[1].weight.data.copy_(weight)
    images = torch.rand(4, 3, 2, 2, requires_grad=True)
    norms = squared_gradient_norm(discriminator(images), images)
    np.testing.assert_allclose(norms.detach().numpy(), [weight.square().sum().item()] * 4, rtol=1e-6)
    assert R1Penalty(gamma=3)(discriminator, images).item() == pytest.approx(1.5 * weight.square().sum().item())


def test_gradient_penalty_of_a_map_of_logits_is_that_of_its_mean():
    images = torch.rand(2, 1, 3, 3, requires_grad=True)
    # logit map 2 x: its mean over 9 places has the gradient 2/9 at each of 9 pixels
    assert squared_gradient_norm(2 * images, images).tolist() == pytest.approx([9 * (2 / 9) ** 2] * 2)


def test_gradient_penalty_agrees_with_finite_differences():
    torch.manual_seed(0)
    discriminator = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 1)).double()
    image = torch.rand(1, 3, 2, 2, dtype=torch.float64)
    step = 1e-6 * torch.eye(12, dtype=torch.float64).reshape(12, 3, 2, 2)
    with torch.no_grad():
        slopes = (discriminator(image + step) - discriminator(image - step)) / 2e-6
    image.requires_grad_()
    given = squared_gradient_norm(discriminator(image), image).item()
    assert given == pytest.approx(slopes.square().sum().item(), rel=1e-6)


@pytest.mark.parametrize("head", ["dense", "patch"])
def test_training_on_the_penalty_flattens_the_discriminator_and_leaves_the_images_alone(head):
    torch.manual_seed(0)
    discriminator = SRDiscriminator(features=4, norm=None, head=head, pool=1)
    real = torch.rand(2, 3, 32, 32)
    penalty, optimizer = R1Penalty(gamma=1e4), torch.optim.Adam(discriminator.parameters(), lr=2e-3)
    before = penalty(discriminator, real).item()
    for _ in range(5):
        optimizer.zero_grad()
        penalty(discriminator, real).backward()
        optimizer.step()
    assert 0 < penalty(discriminator, real).item() < 0.7 * before
    assert not real.requires_grad and real.grad is None


def test_penalty_is_computed_in_float32_under_autocast():
    torch.manual_seed(0)
    discriminator, real = SRDiscriminator(features=4, norm=None, pool=1), torch.rand(1, 3, 32, 32)
    expected = R1Penalty()(discriminator, real)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(R1Penalty()(discriminator, real), expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LogisticAdversarialLoss(label_smoothing=1.0), r"label_smoothing=1.0 must be in \[0, 1\)"),
        (lambda: LogisticAdversarialLoss()(torch.zeros(1), False, False), "wants its images to be taken for real"),
        (lambda: R1Penalty(gamma=-1), "gamma=-1 must be finite"),
        (lambda: squared_gradient_norm(torch.zeros(2, 1), torch.zeros(2, 3, 4, 4)), "require a gradient"),
    ],
)
def test_bad_adversarial_settings_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_psnr_loss_is_the_negative_score_of_each_image():
    target = torch.full((2, 3, 4, 4), 0.5)
    prediction = target + torch.tensor([0.1, 0.01])[:, None, None, None]  # errors of 20 and 40 dB
    assert PSNRLoss(floor=1e-12)(prediction, target) == pytest.approx(-30.0, abs=1e-4)
    assert PSNRLoss()(target, target) == pytest.approx(-60.0, abs=1e-4)


def test_psnr_loss_speaks_as_loud_for_easy_images_and_stays_finite():
    torch.manual_seed(0)
    target = torch.rand(2, 1, 8, 8)
    noise = torch.randn(1, 1, 8, 8)
    prediction = (target + torch.tensor([0.1, 0.01])[:, None, None, None] * noise).requires_grad_()
    PSNRLoss(floor=1e-12)(prediction, target).backward()
    hard, easy = prediction.grad.flatten(1).norm(dim=1)
    assert easy / hard == pytest.approx(10.0, rel=1e-3)  # per unit of error: both gain as many dB
    perfect = target.clone().requires_grad_()
    PSNRLoss()(perfect, target).backward()
    assert torch.equal(perfect.grad, torch.zeros_like(target))


def test_psnr_loss_names_wrong_input():
    with pytest.raises(ValueError, match="floor=0 must be above 0"):
        PSNRLoss(floor=0)
    with pytest.raises(ValueError, match="differ in shape"):
        PSNRLoss()(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 5))


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

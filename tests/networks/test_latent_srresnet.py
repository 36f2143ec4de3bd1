from __future__ import annotations

import copy
import io
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from bayesian_networks import LATENT, OPERATOR, SCALE, low_resolution, lr_psnr, network
from torch.distributions import Independent, kl_divergence

from monai_ext.networks.gated_sr_net import GatedSRNet
from monai_ext.networks.latent_srresnet import BayesianSRResNet, bayesian_srresnet
from monai_ext.networks.srresnet import SRResNet
from monai_ext.networks.variational import DropoutConv2d


def test_before_training_it_answers_as_its_generator_but_for_the_projection():
    fresh, low = network(lively=False), low_resolution()
    expected = OPERATOR.project_within(fresh.generator(low), low, iterations=4)
    torch.testing.assert_close(fresh(low), expected)
    torch.testing.assert_close(fresh(low, torch.randn(2, LATENT, 6, 7)), expected)
    _, log_scale = fresh.decode(low, torch.zeros(2, LATENT, 6, 7))
    torch.testing.assert_close(log_scale.exp(), torch.full_like(log_scale, 0.05))


def test_a_trained_generator_loads_unchanged():
    torch.manual_seed(5)
    trained = SRResNet(features=16, blocks=1, scale=SCALE, norm=None, residual=True, upsampling="direct")
    built = network(partial(DropoutConv2d, rate=0.2), lively=False)
    built.generator.load_state_dict(trained.state_dict())
    low = low_resolution()
    torch.testing.assert_close(built(low), OPERATOR.project_within(trained(low), low, iterations=4))


def test_a_gated_generator_takes_the_same_place():
    torch.manual_seed(6)
    options = {"features": 16, "blocks": 1, "latent_channels": LATENT, "wide_scale": True}
    built = bayesian_srresnet(3, OPERATOR, generator_name="gated", **options).eval()
    _, log_scale = built.decode(low_resolution(), torch.zeros(2, LATENT, 6, 7))
    torch.testing.assert_close(log_scale.exp(), torch.full_like(log_scale, 0.05))
    trained = GatedSRNet(features=16, blocks=1)
    torch.nn.init.normal_(trained.tail[0].weight, std=0.05)
    built.generator.load_state_dict(trained.state_dict())
    low = low_resolution()
    expected = OPERATOR.project_within(trained(low), low, iterations=4)
    torch.testing.assert_close(built(low), expected)
    torch.testing.assert_close(torch.jit.script(built)(low), expected, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="weight_uncertainty='dropout' needs 'srresnet'"):
        bayesian_srresnet(3, OPERATOR, generator_name="gated", weight_uncertainty="dropout")
    with pytest.raises(ValueError, match="generator_name='edsr': choose srresnet or gated"):
        bayesian_srresnet(3, OPERATOR, generator_name="edsr")


def test_every_sample_is_in_range_and_reduces_to_its_input_after_rounding():
    low = low_resolution()
    samples = network().sample(low, 5, generator=torch.Generator().manual_seed(2))
    assert samples.shape == (2, 5, 3, 24, 28) and samples.min() >= 0 and samples.max() <= 1
    assert all(lr_psnr(samples[:, i], low) > 50 for i in range(5))
    assert samples.std(1).mean() > 1e-3


def test_the_same_generator_draws_the_same_samples_and_modes_of_layers_are_kept():
    built, low = network(), low_resolution()
    built.train()
    first = built.sample(low, 2, generator=torch.Generator().manual_seed(3))
    assert torch.equal(built.sample(low, 2, generator=torch.Generator().manual_seed(3)), first)
    assert not torch.equal(built.sample(low, 2, generator=torch.Generator().manual_seed(4)), first)
    assert built.training and built.generator.training


def test_forward_with_noise_is_the_sample_of_that_noise_and_without_the_prior_mean():
    built, low = network(), low_resolution()
    noise = built.draw_noise(low, 2, torch.Generator().manual_seed(7))
    samples = built.sample(low, 2, generator=torch.Generator().manual_seed(7))
    for i in range(2):
        torch.testing.assert_close(built(low, noise[:, i]), samples[:, i])
    torch.testing.assert_close(built(low), built(low, torch.zeros_like(noise[:, 0])))


def test_noise_cut_with_the_image_makes_parts_of_one_coherent_sample():
    built, low = network(), low_resolution(1, 48, 20)
    noise = built.draw_noise(low, 1)[:, 0]
    whole = built(low, noise)
    part = built(low[:, :, 4:44], noise[:, :, 4:44])
    inner = slice(SCALE * 20, SCALE * 28)  # 16 rows from the cuts
    torch.testing.assert_close(part[:, :, SCALE * 16 : SCALE * 24], whole[:, :, inner], rtol=0, atol=1 / 255)


def test_prior_and_posterior_are_gaussians_and_a_latent_of_the_prior_decodes_to_the_sample():
    built, low = network(), low_resolution()
    high = OPERATOR.project(torch.rand(2, 3, 24, 28), low)
    prior, posterior = built.prior(low), built.posterior(low, high)
    assert isinstance(prior, Independent) and prior.event_shape == posterior.event_shape == (LATENT, 6, 7)
    assert kl_divergence(posterior, prior).shape == (2,) and (kl_divergence(posterior, prior) > 0).all()
    noise = torch.randn(2, LATENT, 6, 7)
    mean, log_scale = built.decode(low, prior.mean + prior.stddev * noise)
    torch.testing.assert_close(mean.clamp(0, 1), built(low, noise), rtol=0, atol=1e-4)
    assert mean.shape == log_scale.shape == high.shape
    torch.testing.assert_close(OPERATOR.reduce(mean), low, rtol=0, atol=2e-6)


def test_training_answer_has_what_the_loss_needs_and_gradients_reach_every_weight():
    built, low = network().train(), low_resolution()
    high = OPERATOR.project(torch.rand(2, 3, 24, 28), low)
    answer = built(low, high_res=high, samples=2)
    assert {name: tuple(value.shape) for name, value in answer.items()} == {
        "mean": (2, 3, 24, 28),
        "log_scale": (2, 3, 24, 28),
        "prior": (2, 2, LATENT, 6, 7),
        "posterior": (2, 2, LATENT, 6, 7),
        "samples": (2, 2, 3, 24, 28),
    }
    assert not torch.equal(answer["samples"][:, 0], answer["samples"][:, 1])
    sum(value.square().mean() for value in answer.values()).backward()
    assert not [name for name, weight in built.named_parameters() if weight.grad is None or not weight.grad.any()]


def test_where_the_posterior_adds_nothing_the_divergence_is_zero():
    built, low = network(), low_resolution()
    with torch.no_grad():
        for parameter in built.posterior_net[-1].parameters():
            parameter.zero_()
    answer = built(low, high_res=torch.rand(2, 3, 24, 28))
    assert torch.equal(answer["prior"], answer["posterior"]) and "samples" not in answer


def test_laplace_has_twice_the_square_of_its_scale_as_variance():
    low = low_resolution()
    with torch.no_grad():
        (first,) = network(lively=False).moments(low, torch.zeros(2, 1, LATENT, 6, 7))
        (second,) = network(lively=False, likelihood="gaussian").moments(low, torch.zeros(2, 1, LATENT, 6, 7))
    torch.testing.assert_close(first[1], 2 * second[1])


# Export
def test_torchscript_gives_equal_answers_with_and_without_noise():
    built = network(partial(DropoutConv2d, rate=0.2))
    scripted = torch.jit.script(built)
    for height, width in ((6, 7), (1, 1), (11, 3)):
        low, noise = low_resolution(1, height, width), torch.randn(1, LATENT, height, width)
        torch.testing.assert_close(scripted(low), built(low), rtol=0, atol=1e-5)
        torch.testing.assert_close(scripted(low, noise), built(low, noise), rtol=0, atol=1e-5)
    with pytest.raises(Exception, match="a scripted network draws from its prior only"):
        scripted(low, None, low)


def test_onnx_gives_equal_answers_at_any_size():
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    built, file = network(), io.BytesIO()
    axes = {"image": {0: "N", 2: "h", 3: "w"}, "pred": {0: "N", 2: "H", 3: "W"}}
    torch.onnx.export(
        built, (low_resolution(1),), file, dynamo=False, input_names=["image"], output_names=["pred"], dynamic_axes=axes
    )
    low = low_resolution(2, 9, 5)
    (answer,) = onnxruntime.InferenceSession(file.getvalue()).run(None, {"image": low.numpy()})
    torch.testing.assert_close(torch.from_numpy(answer), built(low).detach(), rtol=0, atol=1e-5)


def test_copies_have_weights_of_their_own():
    built, low = network(), low_resolution()
    twin = copy.deepcopy(built)
    with torch.no_grad():
        twin.generator.tail[0].bias.add_(1)
        assert not torch.equal(twin(low), built(low))


def mistakes():
    generator = SRResNet(features=8, blocks=1, scale=2, norm=None)
    other_bands = SRResNet(1, 3, features=8, blocks=1, norm=None)
    own = SRResNet(features=8, blocks=1, norm=None)
    built, low = network(), low_resolution()
    return [
        (lambda: BayesianSRResNet(generator, OPERATOR), "at scale 2, the operator has scale 4"),
        (lambda: BayesianSRResNet(other_bands, OPERATOR), "makes 3 bands of 1"),
        (lambda: BayesianSRResNet(own, OPERATOR, latent_channels=0), "latent_channels=0"),
        (lambda: BayesianSRResNet(own, OPERATOR, likelihood="student"), "likelihood='student' must be one of laplace"),
        (lambda: built(low, torch.zeros(2, LATENT, 6, 6)), "noise .* must be"),
        (lambda: built(low, high_res=F.interpolate(low, scale_factor=2)), r"must be \(2, 3, 24, 28\)"),
        (lambda: built.sample(low, 0), "n=0 must be at least 1"),
        (lambda: built.uncertainty(low, weight_samples=0), "weight_samples=0"),
        (lambda: built.uncertainty(low, noise=torch.zeros(2, 3)), r"must be \(2, 8, 4, 3, 6, 7\)"),
    ]


@pytest.mark.parametrize("index", range(9))
def test_mistakes_are_named(index):
    action, message = mistakes()[index]
    with pytest.raises(ValueError, match=message):
        action()

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from onnx_export import onnx_output
from torch import nn

from monai_ext.networks.sr_discriminator import DetailDiscriminator, SRDiscriminator
from monai_ext.transforms.degradation import Degradation


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_default_discriminator_has_the_papers_parameters():
    widths = [3, 64, 64, 128, 128, 256, 256, 512, 512]
    convolutions = sum(9 * a * b for a, b in zip(widths, widths[1:], strict=False)) + 64  # the first one has a bias
    norms = 2 * sum(widths[2:])
    dense = 512 * 6 * 6 * 1024 + 1024 + 1024 + 1  # on the 6 x 6 maps of a 96-pixel crop
    assert parameters(SRDiscriminator()) == convolutions + norms + dense == 23_563_649
    assert parameters(SRDiscriminator(pool=1)) == convolutions + norms + 512 * 1024 + 1024 + 1024 + 1


def test_parameter_names_of_the_discriminator_are_stable():
    names = set(SRDiscriminator(features=4, norm=None).state_dict())
    convolutions = {f"features.{2 * i}.{kind}" for i in range(8) for kind in ("weight", "bias")}
    assert names == convolutions | {f"head.{i}.{kind}" for i in (2, 4) for kind in ("weight", "bias")}


@pytest.mark.parametrize("size", [(1, 1), (33, 48), (96, 96)])
def test_discriminator_gives_one_logit_an_image_at_any_size(size):
    logits = SRDiscriminator(4, features=4)(torch.rand(2, 4, *size))
    assert logits.shape == (2, 1)


def test_patch_head_gives_a_logit_for_every_16_pixels():
    network = SRDiscriminator(features=4, head="patch")
    assert network(torch.rand(2, 3, 64, 96)).shape == (2, 1, 4, 6)
    assert network(torch.rand(2, 3, 65, 1)).shape == (2, 1, 5, 1)


def test_pooling_leaves_the_papers_crop_as_it_is():
    network = SRDiscriminator(features=4).eval()
    maps = network.features(torch.rand(1, 3, 96, 96))
    torch.testing.assert_close(network.head[0](maps), maps, rtol=0, atol=0)


def test_logits_are_not_squashed():
    network = SRDiscriminator(features=4, norm=None)
    with torch.no_grad():
        network.head[-1].bias.fill_(-7.0)
    assert (network(torch.rand(2, 3, 32, 32)) < -5).all()


@pytest.mark.parametrize("head", ["dense", "patch"])
def test_spectral_norm_bounds_every_weight(head):
    torch.manual_seed(0)
    network = SRDiscriminator(features=4, norm=None, spectral_norm=True, head=head, pool=1)
    for _ in range(30):  # power iterations
        network(torch.rand(1, 3, 16, 16))
    layers = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    largest = [torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() for layer in layers]
    assert len(largest) == (10 if head == "dense" else 9)
    assert largest == pytest.approx([1.0] * len(largest), abs=0.05)


def test_first_convolution_of_the_discriminator_has_no_norm():
    kinds = [type(layer) for layer in SRDiscriminator(features=4).features]
    assert kinds[:5] == [nn.Conv2d, nn.LeakyReLU, nn.Conv2d, nn.BatchNorm2d, nn.LeakyReLU]
    assert kinds.count(nn.BatchNorm2d) == 7


def test_scripted_discriminator_agrees_with_eager():
    network = SRDiscriminator(features=4).eval()
    image = torch.rand(2, 3, 40, 56)
    torch.testing.assert_close(torch.jit.script(network)(image), network(image))


def test_traced_discriminator_with_spectral_norm_agrees_with_eager():
    network = SRDiscriminator(features=4, spectral_norm=True, norm=None, head="patch").eval()
    image = torch.rand(2, 3, 40, 56)
    torch.testing.assert_close(torch.jit.trace(network, torch.rand(1, 3, 32, 32))(image), network(image))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head": "unet"}, "head='unet' must be 'dense' or 'patch'"),
        ({"pool": 0}, "pool=0: all are at least 1"),
        ({"norm": "batchnorm"}, "norm='batchnorm' makes no normalisation of 64 channels: choose 'batch', 'instance'"),
        ({"norm": ("group", {"num_groups": 7})}, "'num_groups': 7.* makes no normalisation of 64 channels"),
        ({"norm": 3}, "norm=3 makes no normalisation"),
    ],
)
def test_bad_discriminators_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        SRDiscriminator(**options)


def test_a_discriminator_of_details_sees_what_the_reduction_tells_and_the_rest_magnified():
    operator = Degradation(4)
    seen = []
    network = DetailDiscriminator(lambda x: seen.append(x) or x.mean(), operator, gain=7.0)
    first = torch.rand(2, 3, 16, 24, dtype=torch.float64)
    second = operator.project(torch.rand(2, 3, 16, 24, dtype=torch.float64), operator.reduce(first))
    for image in (first, second):
        network(image)
    (first_told, first_detail), (second_told, second_detail) = (image.chunk(2, dim=1) for image in seen)
    torch.testing.assert_close(first_told, second_told)  # they reduce alike
    torch.testing.assert_close(first_told, operator.pseudo_inverse(operator.reduce(first)))
    torch.testing.assert_close(first_told + first_detail / 7, first)
    torch.testing.assert_close(second_detail - first_detail, 7 * (second - first))


@pytest.mark.parametrize(("gain", "learns"), [(10.0, True), (1.0, False)])
def test_magnified_faint_texture_is_told_from_its_lack_in_few_steps(gain, learns):
    torch.manual_seed(0)
    operator = Degradation(4)
    scenes = torch.rand(8, 3, 8, 8).repeat_interleave(8, 2).repeat_interleave(8, 3)
    fake = operator.pseudo_inverse(operator.reduce(scenes))
    real = fake + operator.null_space(0.005 * torch.randn(8, 3, 64, 64))
    network = DetailDiscriminator(SRDiscriminator(6, features=8, norm=None, head="patch"), operator, gain)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    for _ in range(60):
        loss = F.softplus(-network(real)).mean() + F.softplus(network(fake)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        right = torch.cat([network(real) > 0, network(fake) < 0]).float().mean()
    assert (right > 0.9) if learns else (right < 0.7)


def test_crops_too_small_for_instance_norm_are_refused():
    network = SRDiscriminator(features=4, norm="instance", head="patch")
    with pytest.raises(ValueError, match="images of 16 x 12 pixels .* crops of at least 17 pixels, or another norm"):
        network(torch.rand(2, 3, 16, 12))
    assert network(torch.rand(2, 3, 17, 12)).shape == (2, 1, 2, 1)


def test_onnx_export_with_dynamic_sizes_agrees_with_eager():
    network, image = SRDiscriminator(features=4, head="patch").eval(), torch.rand(2, 3, 17, 23)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    given = onnx_output(network, torch.rand(1, 3, 32, 32), image)
    np.testing.assert_allclose(given, network(image).detach().numpy(), atol=1e-4)

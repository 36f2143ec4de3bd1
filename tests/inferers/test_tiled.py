"""Tiled inference: equal to the network on the whole image, without seams, strip by strip."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.inferers import sliding_window_inference
from tiled_toys import Repeat, whole
from torch import nn
from torch.nn import functional

from monai_ext.commands.bundles.network import load_bundle_network
from monai_ext.data import draw_aerial
from monai_ext.inferers.tiled import TiledInferer
from monai_ext.networks.srresnet import SRResNet
from monai_ext.upscaling.context import needed_context


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("size", [(37, 53), (9, 80), (16, 16), (5, 4), (19, 22)])
def test_halo_of_the_receptive_radius_gives_the_whole_images_answer_up_to_its_borders(network, size, batch_size):
    image = torch.rand(2, 2, *size)
    tiled = TiledInferer(16, 6, batch_size=batch_size)(image, network)
    torch.testing.assert_close(tiled, whole(network, image), atol=1e-6, rtol=0)


def test_an_image_of_one_window_is_the_networks_answer_to_the_bit(network):
    image = torch.rand(1, 2, 16, 11)
    assert torch.equal(TiledInferer(16, 6)(image, network), whole(network, image))
    feathered = TiledInferer(18, 6, mode="feather")(image, network)
    torch.testing.assert_close(feathered, whole(network, image), atol=0, rtol=0)


def test_feathered_windows_give_the_networks_answer_at_the_borders_of_the_image(network):
    image = torch.rand(1, 2, 17, 60)
    tiled = TiledInferer(30, 6, mode="feather")(image, network)  # cores of 20, fades from 17 and from 37 on
    for side in (slice(0, 34), slice(-34, None)):
        torch.testing.assert_close(tiled[..., side], whole(network, image)[..., side], atol=1e-6, rtol=0)


SHIPPED = Path(__file__).parents[2] / "bundles" / "srgan_aerial"


def generators() -> dict[str, nn.Module]:
    """The shipped generator with its weights, and the paper's as it begins."""
    torch.manual_seed(0)
    return {"shipped": load_bundle_network(SHIPPED)[0], "paper": SRResNet(features=16).eval()}


@pytest.mark.parametrize("name", ["shipped", "paper"])
def test_srresnet_with_the_default_overlap_is_within_one_level_of_the_answer_up_to_its_borders(name):
    network = generators()[name]
    image = draw_aerial((176, 160), layout_seed=1)[None].float() / 255
    tiled = TiledInferer(96)(image, network)  # 3 x 3 windows
    assert (tiled - whole(network, image)).abs().max() < 1 / 255
    assert needed_context(network, channels=3) == TiledInferer().overlap // 2


@pytest.mark.parametrize("mode", ["halo", "feather"])
def test_one_map_for_the_whole_image_is_cut_with_the_windows(mode):
    image, latent = torch.rand(2, 3, 33, 40), torch.rand(2, 1, 33, 40)
    inferer = TiledInferer(18, 6, mode=mode)
    found = inferer(image, lambda windows, z, gain: gain * (windows + z), 2.0, aligned=latent)
    torch.testing.assert_close(found, 2 * (image + latent))
    with pytest.raises(ValueError, match="aligned map: rows 0 to .* all maps must have the size of the image"):
        inferer(image, lambda windows, z: windows + z, aligned=[latent[..., :32]])


@pytest.mark.parametrize("mode", ["halo", "feather"])
def test_finish_rounds_and_may_drop_channels(mode):
    image = torch.rand(1, 3, 20, 31)
    inferer = TiledInferer(
        12, 4, mode=mode, finish=lambda values: (values[:, :2] * 255).round().clamp(0, 255).to(torch.uint8)
    )
    found = inferer(image, Repeat(2))
    expected = (functional.interpolate(image[:, :2], scale_factor=2) * 255).round()
    assert found.dtype == torch.uint8
    assert (found.float() - expected).abs().max() <= (0 if mode == "halo" else 1)


def test_it_is_a_monai_inferer_of_a_config_and_agrees_with_monais_own():
    parser = ConfigParser({"inferer": {"_target_": "monai_ext.inferers.tiled.TiledInferer", "tile": 16, "overlap": 4}})
    image = MetaTensor(torch.rand(1, 3, 40, 33))
    found = parser.get_parsed_content("inferer")(image, Repeat(4))
    assert type(found) is torch.Tensor
    expected = sliding_window_inference(image.as_tensor(), (16, 16), 4, Repeat(4), overlap=0.25)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_no_graph_is_kept(network):
    assert not TiledInferer(16, 6)(torch.rand(1, 2, 20, 20), network).requires_grad
    assert not TiledInferer(18, 6, mode="feather")(torch.rand(1, 2, 20, 20), network).requires_grad


@pytest.mark.parametrize(
    ("choices", "sentence"),
    [
        ({"mode": "blend"}, "mode is 'blend': choose 'halo' or 'feather'"),
        ({"overlap": 7}, "overlap is 7: choose an even number from 0 to 31"),
        ({"overlap": 32}, "overlap is 32: choose an even number from 0 to 31"),
        ({"overlap": 12, "mode": "feather"}, "feather needs tile >= 3 \\* overlap"),
        ({"multiple": 5, "overlap": 4}, "tile 32 is no multiple of 5"),
        ({"batch_size": 0}, "batch_size 0"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(choices, sentence):
    with pytest.raises(ValueError, match=sentence):
        TiledInferer(32, **choices)


def test_outputs_that_do_not_fit_are_refused():
    image = torch.rand(1, 1, 8, 8)
    with pytest.raises(ValueError, match="an output of shape .1, 1, 4, 4.: expected one tensor"):
        TiledInferer(8, 0)(image, lambda windows: windows[..., ::2, ::2])
    with pytest.raises(ValueError, match="an output of type list"):
        TiledInferer(8, 0)(image, lambda windows: [windows])
    with pytest.raises(ValueError, match=r"inputs has shape \(1, 8, 8\)"):
        TiledInferer(8, 0)(image[0], Repeat(2))

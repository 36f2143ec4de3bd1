from __future__ import annotations

import pytest
import torch
from imagenet_weights import saved, torchvision_state_dict
from monai.networks.nets import FlexibleUNet

from monai_ext.networks import MobileNetV2Encoder, MobileNetV2UNet
from monai_ext.networks.backbones.mobilenet_v2 import WIDTHS


def test_encoder_has_the_parameter_names_and_count_of_torchvision():
    encoder = MobileNetV2Encoder()
    names = list(encoder.state_dict())
    assert names[0] == "features.0.0.weight"
    assert "features.1.conv.0.0.weight" in names and "features.1.conv.2.running_var" in names
    assert "features.17.conv.3.bias" in names and "features.2.conv.1.0.weight" in names
    # torchvision's mobilenet_v2 has 3,504,872 parameters: less features.18 (412,160) and the classifier (1,281,000)
    assert sum(p.numel() for p in encoder.parameters()) == 3_504_872 - (320 * 1280 + 2 * 1280) - (1280 * 1000 + 1000)


@pytest.mark.parametrize("width", WIDTHS)
def test_every_published_width_gives_five_features_each_half_as_large(width):
    features = MobileNetV2Encoder(width=width)(torch.rand(1, 3, 64, 96))
    assert [tuple(f.shape[2:]) for f in features] == [(32, 48), (16, 24), (8, 12), (4, 6), (2, 3)]
    announced = MobileNetV2Encoder.num_channels_per_output()[WIDTHS.index(width)]
    assert tuple(f.shape[1] for f in features) == announced


def test_encoder_is_registered_as_a_backbone_of_monais_flexible_unet():
    assert FlexibleUNet(3, 2, "mobilenet_v2_0.25")(torch.rand(1, 3, 32, 64)).shape == (1, 2, 32, 64)


def test_official_weights_load_and_the_classifier_is_dropped(tmp_path):
    state = torchvision_state_dict()
    network = MobileNetV2UNet(encoder_weights=saved(state, tmp_path))
    for name, value in network.encoder.state_dict().items():
        torch.testing.assert_close(value, state[name], rtol=0, atol=0)


def test_half_precision_weights_are_widened(tmp_path):
    state = {name: value.half() for name, value in torchvision_state_dict().items()}
    network = MobileNetV2UNet(encoder_weights=saved(state, tmp_path))
    assert next(network.encoder.parameters()).dtype == torch.float32


@pytest.mark.parametrize("channels", [1, 5])
def test_other_channel_counts_repeat_the_rgb_kernels_and_keep_the_response_to_equal_channels(channels, tmp_path):
    state = torchvision_state_dict()
    network = MobileNetV2UNet(in_channels=channels, encoder_weights=saved(state, tmp_path))
    kernel = network.encoder.features[0][0].weight
    assert kernel.shape[1] == channels
    torch.testing.assert_close(kernel[:, 0], state["features.0.0.weight"][:, 0] * 3 / channels)


def test_weights_of_another_width_are_refused_by_name(tmp_path):
    path = saved(torchvision_state_dict(), tmp_path)
    with pytest.raises(ValueError, match=r"'features.*' has shape .* choose the `width`"):
        MobileNetV2UNet(width=0.5, encoder_weights=path)


def test_a_state_dict_of_something_else_is_refused(tmp_path):
    with pytest.raises(ValueError, match="lack 'features.0.0.weight'"):
        MobileNetV2UNet(encoder_weights=saved({"conv.weight": torch.rand(3)}, tmp_path))

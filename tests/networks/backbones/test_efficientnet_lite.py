from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from imagenet_weights import saved
from torch import Tensor

from monai_ext.networks import EfficientNetLite0Encoder, segmentation_backbone


def convolved(state: dict[str, Tensor], name: str, x: Tensor, *, stride: int = 1) -> Tensor:
    """As TensorFlow pads: half of what is missing before, the rest after."""
    weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
    kernel, side = weight.shape[-1], x.shape[-1]
    missing = max((side + stride - 1) // stride * stride - stride + kernel - side, 0)
    before = missing // 2
    padded = torch.zeros(*x.shape[:2], side + missing, side + missing)
    padded[..., before : before + side, before : before + side] = x
    return F.conv2d(padded, weight, bias, stride=stride, groups=x.shape[1] if weight.shape[1] == 1 else 1)


def reference(state: dict[str, Tensor], image: Tensor) -> list[Tensor]:
    """The features, block by block from the table of the paper."""
    strides = [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1]
    x, features = convolved(state, "_conv_stem", image, stride=2).clamp(0, 6), []
    for i, stride in enumerate(strides):
        y = x
        if f"_blocks.{i}._expand_conv.weight" in state:
            y = convolved(state, f"_blocks.{i}._expand_conv", y).clamp(0, 6)
        y = convolved(state, f"_blocks.{i}._depthwise_conv", y, stride=stride).clamp(0, 6)
        y = convolved(state, f"_blocks.{i}._project_conv", y)
        x = x + y if y.shape == x.shape else y
        if i + 1 == len(strides) or strides[i + 1] == 2:
            features.append(x)
    return features


def test_features_agree_with_a_reference_of_the_table():
    torch.manual_seed(0)
    encoder, image = EfficientNetLite0Encoder(), torch.randn(1, 3, 64, 64)
    expected = reference(encoder.state_dict(), image)
    found = encoder(image)
    assert [tuple(f.shape[1:]) for f in found] == [(16, 32, 32), (24, 16, 16), (40, 8, 8), (112, 4, 4), (320, 2, 2)]
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)
    # the published network has 4,652,008 parameters; less its head (with BatchNorm folded: 1280 x 320 + 1280) and
    # classifier (1280 x 1000 + 1000), and less one of the two numbers that a folded BatchNorm has for each channel
    channels = sum(len(value) for name, value in encoder.state_dict().items() if name.endswith("bias"))
    count = sum(p.numel() for p in encoder.parameters())
    assert count + channels + 320 * 1280 + 2 * 1280 + 1280 * 1000 + 1000 == 4_652_008


@pytest.mark.parametrize("channels", [1, 3])
def test_weights_are_loaded_and_their_head_is_dropped(channels, tmp_path):
    torch.manual_seed(0)
    state = {name: value.half() for name, value in EfficientNetLite0Encoder().state_dict().items()}
    path = saved(state | {"_conv_head.weight": torch.rand(3)}, tmp_path)
    network = segmentation_backbone("efficientnet_lite0", in_channels=channels, encoder_weights=path)
    kernel = network.network.encoder.state_dict()["_conv_stem.weight"]
    torch.testing.assert_close(kernel[:, :1], state["_conv_stem.weight"][:, :1].float() * 3 / channels)
    assert network(torch.rand(1, channels, 40, 33)).shape == (1, 1, 40, 33)
    del state["_blocks.3._project_conv.bias"]
    with pytest.raises(ValueError, match="lack '_blocks.3._project_conv.bias' .* an EfficientNet-Lite0"):
        EfficientNetLite0Encoder().load_weights(saved(state, tmp_path))


def test_what_only_weights_of_photographs_have_is_refused():
    with pytest.raises(ValueError, match="spatial_dims=3"):
        EfficientNetLite0Encoder(spatial_dims=3)


def test_real_weights_tell_a_picture_from_noise():
    """Of the public file, where `MONAI_EXT_DATA` names a folder with it: features of real weights are sparse."""
    path = Path(os.environ.get("MONAI_EXT_DATA", ""), "weights", "efficientnet_lite0_imagenet_features_fp16.pt")
    if not path.is_file():
        pytest.skip("no weights")
    encoder = EfficientNetLite0Encoder()
    encoder.load_weights(path)
    assert all(f.isfinite().all() for f in encoder(torch.rand(1, 3, 64, 64) * 2 - 1))

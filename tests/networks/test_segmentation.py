from __future__ import annotations

import pytest
import torch

from monai_ext.networks import MobileNetV2Encoder, segmentation_backbone
from monai_ext.networks.segmentation import BACKBONES, Standardised


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_gives_its_logit_maps_at_any_size(name):
    network = segmentation_backbone(name, in_channels=2, out_channels=3, features=4).eval()
    with torch.no_grad():
        assert network(torch.rand(1, 2, 37, 50)).shape == (1, 3, 37, 50)
    biases = [value for key, value in network.named_parameters() if key.endswith("bias") and value.shape == (3,)]
    assert any((bias == -3).all() for bias in biases)  # training begins near empty masks


def test_images_are_standardised_and_cropped_back():
    image = torch.rand(1, 1, 3, 5)
    assert torch.equal(Standardised(torch.nn.Identity(), 0.5, 0.25, [4, 4])(image), (image - 0.5) / 0.25)


def test_loaded_batch_norms_are_frozen(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save(MobileNetV2Encoder().state_dict(), path)
    assert segmentation_backbone("mobilenet_v2", encoder_weights=path).network.frozen_norm
    assert not segmentation_backbone("mobilenet_v2").network.frozen_norm


def test_an_unknown_backbone_and_weights_that_it_cannot_take_are_refused():
    with pytest.raises(ValueError, match="backbone='vgg' is unknown: choose one of basic_unet"):
        segmentation_backbone("vgg")
    with pytest.raises(ValueError, match="encoder_weights are for backbone='mobilenet_v2' or 'efficientnet_lite0'"):
        segmentation_backbone("dynunet", encoder_weights="x.pt")

"""What holds for every method where K structures are predicted together, in 2-D and in 3-D."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from monai_ext.engines import RATER_METHODS, named_rater_loss, rater_network
from monai_ext.losses import ELBOLoss
from monai_ext.networks import ConsensusNet, HeadSampling, ProbabilisticUNet, StructureMaps
from monai_ext.networks.rater_sampler import SYMMETRIES

NAMES = ["disc", "cup"]
RATERS = 3


def network_of(method: str, **settings) -> nn.Module:
    torch.manual_seed(0)
    if method == "prob_unet_faithful":
        return ProbabilisticUNet(features=(4,) * 5, norm=("group", {"num_groups": 2}), structures=2, **settings)
    return rater_network(method, raters=RATERS, features=2, members=2, structures=NAMES, **settings)


@pytest.mark.parametrize("method", [*RATER_METHODS, "prob_unet_faithful"])
@pytest.mark.parametrize("size", [(9, 14), (9, 6, 3)])
def test_every_method_predicts_and_learns_all_structures(method, size):
    network = network_of(method, spatial_dims=len(size))
    image = torch.rand(2, 1, *size)
    found = network.predict(image, 5, symmetries=SYMMETRIES[:2], generator=torch.Generator().manual_seed(0))
    assert found.share.shape == (2, 1, 2, *size) and found.samples.shape == (2, 5, 2, *size)
    if network.per_rater:
        assert found.heads.shape == (2, RATERS, 2, *size)
    masks = (torch.rand(2, RATERS, 2, *size) > 0.5).byte()
    if method == "prob_unet_faithful":
        loss = ELBOLoss()(network(image, masks[:, 0]), masks[:, 0])
    else:
        presence = torch.tensor([[[1, 1], [1, 0], [0, 0]], [[1, 1], [1, 1], [1, 1]]])
        criterion = named_rater_loss(method, "tversky_bce", structures=NAMES)
        target = {"masks": masks, "presence": presence}
        given = (image, target) if getattr(network, "learns_from_samples", False) else (image,)
        loss = criterion(network(*given), target)
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters() if p.requires_grad)


def test_the_structures_are_the_channels_and_all_are_turned_back_after_test_time_augmentation():
    by_pixel = nn.Conv2d(1, 2, 1)
    network = ConsensusNet(StructureMaps(by_pixel, 2, initial_logit=-1.0))
    image = torch.rand(1, 1, 5, 8)
    plain = network.predict(image, 1).share
    torch.testing.assert_close(plain[:, 0], (by_pixel(image) - 1).sigmoid().detach())
    torch.testing.assert_close(network.predict(image, 1, symmetries=SYMMETRIES).share, plain)


@pytest.mark.parametrize("backbone", ["basic_unet", "mobilenet_v2"])
@pytest.mark.parametrize("method", ["heads", "combined", "majority", "soft_label", "ordered", "holistic", "energy"])
def test_training_begins_near_empty_masks_whatever_the_backbone(method, backbone):
    share = network_of(method, backbone=backbone).predict(torch.rand(1, 1, 32, 32), 1).share
    assert 0.01 < share.mean() < 0.15


def test_a_sample_has_all_its_structures_from_one_head():
    class Constant(HeadSampling):
        per_rater = True

        def forward(self, image):
            heads = torch.arange(1, 4)[None, :, None, None, None] / 10
            return torch.cat([heads, heads + 0.5], dim=2).expand(2, 3, 2, 4, 4).logit()

    samples = Constant().predict(torch.zeros(2, 1, 4, 4), 5, generator=torch.Generator().manual_seed(1)).samples
    torch.testing.assert_close(samples[:, :, 1], samples[:, :, 0] + 0.5)


def test_one_structure_alone_is_predicted_as_ever():
    plain, none = (rater_network("conditioned", raters=2, features=2, structures=names) for names in (None, []))
    assert none.state_dict().keys() == plain.state_dict().keys()
    assert plain(torch.rand(1, 1, 6, 6)).shape == (1, 2, 6, 6)

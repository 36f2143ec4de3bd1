from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from monai_ext.inferers.middle_first import predict_middle_first
from monai_ext.networks import LevelSetNet, RaterHeads
from monai_ext.networks.rater_sampler import SYMMETRIES


class Pixels(nn.Module):
    """Logits of each pixel alone, of `heads` heads."""

    def __init__(self, heads: int = 1):
        super().__init__()
        self.heads = heads

    def forward(self, image: Tensor) -> Tensor:
        return (8 * image - 4).expand(-1, self.heads, -1, -1)


@pytest.fixture
def image() -> Tensor:
    """One case with an object in the middle and another one beside, one with the latter alone, one with nothing."""
    image = torch.zeros(3, 1, 8, 9)
    image[0, :, 3:5, 3:6] = 1
    image[:2, :, 0, 8] = 1
    return image


@pytest.mark.parametrize("symmetries", [SYMMETRIES[:1], SYMMETRIES], ids=["as it is", "eight"])
def test_the_whole_image_counts_only_where_the_middle_is_empty(image, symmetries):
    network = LevelSetNet(Pixels())
    found = predict_middle_first(network, image, 4, middle=(4, 5), symmetries=symmetries)
    whole = network.predict(image, 4)
    assert torch.allclose(found.share[1:], whole.share[1:]) and torch.equal(found.samples[1:], whole.samples[1:])
    assert found.share.shape == (3, 1, 8, 9) and found.samples.shape == (3, 4, 8, 9) and found.heads is None
    assert torch.allclose(found.share[0, :, 2:6, 2:7], whole.share[0, :, 2:6, 2:7])
    assert found.share[0].sum() == pytest.approx(float(found.share[0, :, 2:6, 2:7].sum()))


def test_heads_are_moved_too_and_a_share_of_one_half_is_enough(image):
    network = RaterHeads(Pixels(heads=2))
    found = predict_middle_first(network, image, 2, middle=(4, 5))
    assert found.heads is not None and found.heads[0, :, 0, 8].eq(0).all() and (found.heads[1, :, 0, 8] > 0.9).all()
    image[1, :, 4, 4] = 0.5
    assert predict_middle_first(network, image, 2, middle=(4, 5)).share[1, 0, 0, 8] == 0


def test_an_image_no_larger_than_the_middle_is_predicted_as_a_whole(image):
    network = LevelSetNet(Pixels())
    for each, other in zip(
        predict_middle_first(network, image, 4, middle=(9, 9)), network.predict(image, 4), strict=True
    ):
        assert each is None or torch.equal(each, other)

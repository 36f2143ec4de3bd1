"""The interface of all methods for several raters."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from monai_ext.networks.rater_sampler import AS_IT_IS, SYMMETRIES, LatentSampling, RaterSampler


class Shifted(LatentSampling):
    """Sample i is the image plus its noise, a number and a map of half the size; share: the image, or none."""

    def __init__(self, share: bool = True):
        super().__init__()
        self.has_share = share

    def noise_sizes(self, image: Tensor) -> list[tuple[int, ...]]:
        return [(1,), (1, *(side // 2 for side in image.shape[2:]))]

    def probabilities(self, image: Tensor, noise: list[Tensor]) -> tuple[Tensor | None, Tensor]:
        number, maps = noise
        for axis in range(image.ndim - 2):
            number, maps = number[..., None], maps.repeat_interleave(2, dim=axis + 3)
        return image if self.has_share else None, image + number[:, :, 0] + maps[:, :, 0]


@pytest.mark.parametrize("size", [(4, 6), (4, 6, 3)])
def test_symmetries_are_the_eight_of_the_square_and_can_be_undone(size):
    image = torch.arange(1.0, 1 + torch.Size(size).numel()).view(1, 1, *size)
    moved = [symmetry.of(image) for symmetry in SYMMETRIES]
    assert len({(m.shape, *m.flatten().tolist()) for m in moved}) == 8 and torch.equal(moved[0], image)
    assert all(torch.equal(s.back(m, image), image) for s, m in zip(SYMMETRIES, moved, strict=True))
    assert AS_IT_IS == SYMMETRIES[:1]
    assert len(size) == 2 or all(torch.equal(m.sum((2, 3)), image.sum((2, 3))) for m in moved)  # slices stay in place


@pytest.mark.parametrize("size", [(4, 6), (4, 6, 2)])
def test_samples_are_averaged_over_the_symmetries_with_noise_that_moves_along(size):
    network, image = Shifted().train(), torch.rand(2, 1, *size)
    draw = torch.Generator().manual_seed(0)
    plain = network.predict(image, 3, generator=draw)
    turned = network.predict(image, 3, generator=draw.manual_seed(0), symmetries=SYMMETRIES)
    torch.testing.assert_close(turned.samples, plain.samples)  # the network moves with the image
    torch.testing.assert_close(turned.share, image)
    assert isinstance(network, RaterSampler) and network.training
    assert torch.equal(plain.samples, network.sample(image, 3, generator=draw.manual_seed(0)))
    without = Shifted(share=False).predict(image, 3, generator=draw.manual_seed(0))
    torch.testing.assert_close(without.share, plain.samples.mean(1, keepdim=True))


def test_the_spread_scales_the_noise():
    network, image = Shifted(), torch.zeros(1, 1, 4, 4)
    once = network.sample(image, 2, generator=torch.Generator().manual_seed(1))
    network.spread = 0.5
    torch.testing.assert_close(network.sample(image, 2, generator=torch.Generator().manual_seed(1)), once / 2)

"""The interface of all methods for several raters."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from monai_ext.networks.rater_sampler import AS_IT_IS, SYMMETRIES, LatentSampling, RaterSampler


class Shifted(LatentSampling):
    """Logits of sample i: the image plus its noise, a number and a map of half the size; of the share: the image."""

    def __init__(self, share: bool = True):
        super().__init__()
        self.has_share = share

    def noise_sizes(self, image: Tensor) -> list[tuple[int, ...]]:
        return [(1,), (1, *(side // 2 for side in image.shape[2:]))]

    def probabilities(self, image: Tensor, noise: list[Tensor]) -> tuple[Tensor | None, Tensor]:
        number, maps = noise
        for axis in range(image.ndim - 2):
            number, maps = number[..., None], maps.repeat_interleave(2, dim=axis + 3)
        return image.sigmoid() if self.has_share else None, (image + number[:, :, 0] + maps[:, :, 0]).sigmoid()


@pytest.mark.parametrize("size", [(4, 6), (4, 6, 3)])
def test_symmetries_are_the_eight_of_the_square_and_can_be_undone(size):
    image = torch.arange(1.0, 1 + torch.Size(size).numel()).view(1, 1, *size)
    moved = [symmetry.of(image) for symmetry in SYMMETRIES]
    assert len({(m.shape, *m.flatten().tolist()) for m in moved}) == 8 and torch.equal(moved[0], image)
    assert all(torch.equal(s.back(m, image), image) for s, m in zip(SYMMETRIES, moved, strict=True))
    assert AS_IT_IS == SYMMETRIES[:1]
    assert len(size) == 2 or all(torch.equal(m.sum((2, 3)), image.sum((2, 3))) for m in moved)  # slices stay in place


@pytest.mark.parametrize("size", [(4, 6), (4, 6, 2)])
def test_samples_are_of_one_symmetry_each_with_noise_that_moves_along(size):
    network, image = Shifted().train(), torch.rand(2, 1, *size)
    draw = torch.Generator().manual_seed(0)
    plain = network.predict(image, 3, generator=draw)
    turned = network.predict(image, 3, generator=draw.manual_seed(0), symmetries=SYMMETRIES)
    torch.testing.assert_close(turned.samples, plain.samples)  # the network moves with the image
    torch.testing.assert_close(turned.share, image.sigmoid())
    assert isinstance(network, RaterSampler) and network.training
    few = network.predict(image, 1, generator=draw.manual_seed(0), symmetries=SYMMETRIES)
    torch.testing.assert_close(few.samples, network.sample(image, 1, generator=draw.manual_seed(0)))
    assert torch.equal(plain.samples, network.sample(image, 3, generator=draw.manual_seed(0)))
    without = Shifted(share=False).predict(image, 3, generator=draw.manual_seed(0))
    torch.testing.assert_close(without.share, plain.samples.mean(1, keepdim=True))


def test_the_spread_scales_the_noise():
    network, image = Shifted(), torch.zeros(1, 1, 4, 4)
    once = network.sample(image, 2, generator=torch.Generator().manual_seed(1))
    network.spread = 0.5
    half = network.sample(image, 2, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(half.logit(), once.logit() / 2)


class Drifting(LatentSampling):
    """A share that depends on the symmetry, and samples that add their noise to its logit."""

    def noise_sizes(self, image: Tensor) -> list[tuple[int, ...]]:
        return [(1,)]

    def probabilities(self, image: Tensor, noise: list[Tensor]) -> tuple[Tensor | None, Tensor]:
        logits = image + torch.linspace(-1, 1, image.shape[-1])
        return logits.sigmoid(), (logits + noise[0][..., None]).sigmoid()


def test_what_a_sample_adds_to_its_share_is_added_to_the_mean_share():
    network, image = Drifting(), torch.randn(1, 1, 5, 5)
    found = network.predict(image, 10, symmetries=SYMMETRIES, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(10, 1, generator=torch.Generator().manual_seed(0))
    shares = [s.back(network.probabilities(s.of(image), [torch.zeros(1, 1, 1)])[0], image) for s in SYMMETRIES]
    torch.testing.assert_close(found.share, torch.stack(shares).mean(0))
    expected = (found.share.logit()[0, 0] + noise[..., None]).sigmoid()
    torch.testing.assert_close(found.samples[0], expected, rtol=1e-4, atol=1e-5)

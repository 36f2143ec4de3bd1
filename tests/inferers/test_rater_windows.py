from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from monai_ext.inferers.rater_windows import predict_by_windows
from monai_ext.networks import (
    ConsensusNet,
    DeepEnsemble,
    LevelSetNet,
    MonteCarloDropout,
    ProbabilisticUNet,
    RaterHeads,
)
from monai_ext.networks.rater_sampler import SYMMETRIES, LatentSampling


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def volume(*size: int) -> Tensor:
    return torch.rand(2, 1, *size, generator=generator())


class Heads(nn.Module):
    """Logits of three heads from each voxel alone, so that windows change nothing."""

    def forward(self, image: Tensor) -> Tensor:
        return torch.cat([4 * image - 2, 1 - image, image], dim=1)


class Structures(nn.Module):
    """Two heads of three structures."""

    def forward(self, image: Tensor) -> Tensor:
        return torch.cat([image, 1 - image, 2 * image - 1] * 2, dim=1).unflatten(1, (2, 3))


class Latent(LatentSampling):
    """A latent number with a prior, and noise of its own for each voxel."""

    def noise_sizes(self, image: Tensor) -> list[tuple[int, ...]]:
        return [(1,), (1, *image.shape[2:])]

    def summary(self, image: Tensor) -> Tensor:
        return image.flatten(1).mean(1, keepdim=True)

    def probabilities(self, image, noise, summary=None):
        summary = self.summary(image) if summary is None else summary
        latent = summary[:, None] + noise[0]  # (B, n, 1)
        return None, (latent[..., None, None] + noise[1][:, :, 0] + image).sigmoid()


@pytest.mark.parametrize("symmetries", [SYMMETRIES[:1], SYMMETRIES], ids=["as it is", "eight"])
@pytest.mark.parametrize("network", [RaterHeads(Heads()), RaterHeads(Structures()), Latent()])
def test_windows_give_what_the_whole_volume_gives(network, symmetries):
    image = volume(16, 12, 8)
    expected = network.predict(image, 5, symmetries=symmetries, generator=generator(1))
    found = predict_by_windows(
        network, image, 5, window=(8, 6, 4), overlap=0, symmetries=symmetries, generator=generator(1)
    )
    torch.testing.assert_close(found.share, expected.share, atol=2e-3, rtol=0)
    torch.testing.assert_close(found.samples.float(), expected.samples, atol=2e-3, rtol=0)
    assert found.samples.dtype == torch.float16
    assert (found.heads is None) == (expected.heads is None)


def test_volumes_smaller_than_a_window_are_padded_with_their_lowest_value_and_cropped():
    seen = []

    class Look(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            seen.append(image)
            return image

    image = volume(5, 7, 2) + 1
    found = predict_by_windows(LevelSetNet(Look()), image, 2, window=(8, 4, 5))
    assert found.share.shape == (2, 1, 5, 7, 2)
    torch.testing.assert_close(found.share, image.sigmoid())
    window = seen[0][0, 0]
    torch.testing.assert_close(window[1:6, :, 1:3], image[0, 0, :, :4])
    assert (window[0] == image.min()).all() and (window[..., 3:] == image.min()).all()


def test_samples_of_a_probabilistic_unet_agree_between_windows():
    torch.manual_seed(0)
    network = ProbabilisticUNet(features=(4, 4, 4, 4, 4), spatial_dims=3)
    nn.init.normal_(network.combination.of_latent.weight, std=3)
    image = torch.cat([torch.rand(1, 1, 16, 16, 16), torch.ones(1, 1, 16, 16, 16)], dim=-1)  # two unlike windows
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm3d):
            layer.momentum = 1.0
    network(torch.cat(image.split(16, dim=-1)))  # sees what images are like
    network.eval()
    found = predict_by_windows(network, image, 2, window=(16, 16, 16), overlap=0, generator=generator())
    prior = (network.summary(image[..., :16]) + network.summary(image[..., 16:])) / 2
    assert not torch.allclose(network.summary(image[..., :16]), prior, atol=0.05)
    with torch.no_grad():
        _, expected = network.probabilities(image[..., :16], network.draw_noise(image, 2, generator=generator()), prior)
    torch.testing.assert_close(found.samples[..., :16].float(), expected, atol=2e-3, rtol=0)


def test_ensembles_are_put_together_member_by_member_and_dropout_is_refused():
    members = [LevelSetNet(nn.Identity()), LevelSetNet(nn.Identity())]
    image = volume(6, 6, 6)
    found = predict_by_windows(DeepEnsemble(members), image, 3, window=(4, 4, 4))
    expected = DeepEnsemble(members).predict(image, 3)
    torch.testing.assert_close(found.samples.float(), expected.samples)
    with pytest.raises(ValueError, match="MonteCarloDropout draws its samples anew in each window"):
        predict_by_windows(MonteCarloDropout(ConsensusNet(nn.Dropout(0.5))), image, 2, window=(4, 4, 4))


def test_a_window_has_the_axes_of_the_image():
    with pytest.raises(ValueError, match=r"window=\[4, 4\] for an image \(2, 1, 6, 6, 6\)"):
        predict_by_windows(LevelSetNet(nn.Identity()), volume(6, 6, 6), 2, window=(4, 4))

"""Stochastic segmentation networks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import LowRankMultivariateNormal

from monai_ext.networks.rater_sampler import SYMMETRIES, RaterSampler
from monai_ext.networks.stochastic_segmentation import StochasticSegmentation, expected_logit

SIZES = {2: (3, 4), 3: (2, 3, 2)}
both = pytest.mark.parametrize("dims", [2, 3])


def small(dims: int = 2, rank: int = 2, **settings) -> StochasticSegmentation:
    torch.manual_seed(0)
    conv = nn.Conv2d if dims == 2 else nn.Conv3d
    network = StochasticSegmentation(conv(1, 4, 3, padding=1), features=4, rank=rank, spatial_dims=dims, **settings)
    nn.init.normal_(network.last.weight)
    return network


def distribution(maps: Tensor) -> LowRankMultivariateNormal:
    """PyTorch's own, over the pixels of one case (2 + rank, *spatial)."""
    mean, log_deviation, *factors = maps.flatten(1)
    return LowRankMultivariateNormal(mean, torch.stack(factors, dim=1), (2 * log_deviation).exp())


@both
@pytest.mark.parametrize("spread", [1.0, 0.5])
def test_samples_have_the_mean_and_covariance_of_pytorchs_low_rank_gaussian(dims, spread):
    network, image = small(dims), torch.randn(1, 1, *SIZES[dims])
    network.spread = spread
    maps = network.maps(image)
    samples = network.draw(maps, 20000, generator=torch.Generator().manual_seed(0)).double().logit().flatten(2)[0]
    expected = distribution(maps[0])
    deviation = spread * expected.variance.sqrt().max().item()
    assert (samples.mean(0) - expected.mean).abs().max() < 5 * deviation / 20000**0.5
    covariance = spread**2 * expected.covariance_matrix
    assert (samples.T.cov() - covariance).abs().max() < 0.05 * covariance.abs().max()


@both
def test_training_gives_samples_of_the_same_distribution_and_the_share(dims):
    network, image = small(dims), torch.randn(2, 1, *SIZES[dims])
    network.train_samples = 4000
    output = network(image, {"masks": torch.zeros(2, 1, *SIZES[dims])})
    expected = distribution(network.maps(image)[1])
    logits = output["logits"][1].flatten(1)
    assert (logits.mean(0) - expected.mean).abs().max() < 5 * expected.variance.sqrt().max() / 4000**0.5
    assert (logits.T.cov() - expected.covariance_matrix).abs().max() < 0.1 * expected.covariance_matrix.abs().max()
    torch.testing.assert_close(output["share"], network(image))
    torch.testing.assert_close(network.predict(image, 1).share, output["share"].sigmoid())


def test_the_share_is_about_the_mean_of_the_samples():
    for mean, deviation in ((0.0, 2.0), (1.5, 1.0), (-3.0, 3.0)):
        maps = torch.tensor([mean, -20.0, deviation * 0.6, deviation * 0.8])[None, :, None, None]
        numbers = mean + deviation * torch.randn(100000, generator=torch.Generator().manual_seed(0))
        assert expected_logit(maps).sigmoid().item() == pytest.approx(numbers.sigmoid().mean().item(), abs=0.02)


def test_test_time_augmentation_does_not_mix_up_the_signs_of_factors():
    network = small()
    maps = torch.randn(1, 4, 3, 4)
    turned = maps * torch.tensor([1.0, 1.0, -1.0, 1.0])[:, None, None]
    torch.testing.assert_close(network.averaged([maps, turned]), maps)
    found = network.predict(torch.randn(2, 1, 3, 4), 3, symmetries=SYMMETRIES)
    assert found.share.shape == (2, 1, 3, 4) and found.samples.shape == (2, 3, 3, 4) and found.heads is None
    assert isinstance(network, RaterSampler) and not found.samples.requires_grad


def test_impossible_counts_are_refused():
    with pytest.raises(ValueError, match="rank=0"):
        StochasticSegmentation(nn.Identity(), features=1, rank=0)


@both
def test_structures_have_the_factors_in_common(dims):
    network, image = small(dims, rank=1, structures=2), torch.randn(1, 1, *SIZES[dims])
    output = network(image, {"masks": torch.ones(1, 3, 2, *SIZES[dims])})
    assert output["logits"].shape == (1, 16, 2, *SIZES[dims]) and output["share"].shape == (1, 1, 2, *SIZES[dims])
    maps = network.maps(image)
    maps[:, 1] = -20.0  # no noise of single pixels
    samples = network.draw(maps, 50, generator=torch.Generator().manual_seed(0)).double().logit()[0]
    assert samples.shape == (50, 2, *SIZES[dims])
    scaled = (samples - maps[0, 0]) / maps[0, 2]  # the one number of each sample
    torch.testing.assert_close(scaled, scaled[:, :1].expand_as(scaled), rtol=0.01, atol=0.01)
    assert network.predict(image, 4, symmetries=SYMMETRIES).samples.shape == (1, 4, 2, *SIZES[dims])

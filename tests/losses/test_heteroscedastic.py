from __future__ import annotations

import pytest
import torch
from torch.distributions import Laplace, Normal

from monai_ext.losses.heteroscedastic import negative_log_likelihood


@pytest.mark.parametrize(("name", "family"), [("laplace", Laplace), ("gaussian", Normal)])
def test_likelihood_is_that_of_torch_distributions(name, family):
    mean, log_scale, target = torch.randn(3, 2, 3, 4, 5).unbind(0)
    expected = -family(mean, log_scale.exp()).log_prob(target).flatten(1).mean(1)
    torch.testing.assert_close(negative_log_likelihood(mean, log_scale, target, likelihood=name), expected)


def test_the_best_scale_of_a_laplace_likelihood_is_the_mean_absolute_error():
    target = torch.randn(1, 1, 8, 8)
    scales = torch.linspace(-2, 1, 301)
    losses = [negative_log_likelihood(torch.zeros(1, 1, 8, 8), s.expand(1, 1, 8, 8), target).item() for s in scales]
    best = scales[torch.tensor(losses).argmin()].exp().item()
    assert best == pytest.approx(target.abs().mean().item(), rel=0.02)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="mean .*, log_scale .* and target .* differ in shape"):
        negative_log_likelihood(*torch.zeros(2, 1, 1, 2, 2), torch.zeros(1, 1, 2, 3))
    with pytest.raises(ValueError, match="likelihood='t' must be one of laplace"):
        negative_log_likelihood(*torch.zeros(3, 1, 1, 2, 2), likelihood="t")

"""The three parts of a variance against a table computed by hand, against simulation, and in their corners."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from monai_ext.networks.variance_parts import combine_samples, summarise_latents

PARTS = ("aleatoric", "ambiguity", "epistemic")


def decomposed(means: torch.Tensor, variances: torch.Tensor) -> dict[str, torch.Tensor]:
    """The parts of a whole stack, (T, L, ...)."""
    summaries = [summarise_latents(m, v) for m, v in zip(means, variances, strict=True)]
    return combine_samples(summaries, latent_samples=means.shape[1])


def reference(means: np.ndarray, variances: np.ndarray) -> dict[str, float]:
    """Of one pixel, (T, L), written as the analysis of variance is taught: sums of squares over degrees of freedom."""
    draws, latents = means.shape
    grand = sum(means.ravel()) / means.size
    rows = [sum(row) / latents for row in means]
    ss_within = sum((value - row) ** 2 for line, row in zip(means, rows, strict=True) for value in line)
    ss_between = latents * sum((row - grand) ** 2 for row in rows)
    within, between = ss_within / (draws * (latents - 1)), ss_between / (draws - 1)
    epistemic = (between - within) / latents
    if epistemic < 0:  # restricted maximum likelihood on the border
        within, epistemic = (ss_within + ss_between) / (draws * latents - 1), 0.0
    noise = sum(variances.ravel()) / variances.size
    return {"mean": grand, "aleatoric": noise, "ambiguity": within, "epistemic": epistemic}


@pytest.mark.parametrize("spread", [0.0, 0.3, 3.0])
def test_parts_are_those_of_the_analysis_of_variance_pixel_by_pixel(spread):
    rng = np.random.default_rng(3)
    means = rng.normal(size=(4, 3, 5)) + spread * rng.normal(size=(4, 1, 5))
    variances = rng.uniform(0.1, 1, size=(4, 3, 5))
    parts = decomposed(torch.from_numpy(means), torch.from_numpy(variances))
    for pixel in range(5):
        for name, value in reference(means[..., pixel], variances[..., pixel]).items():
            assert parts[name][pixel].item() == pytest.approx(value, abs=1e-12), (name, pixel)


def test_parts_add_up_to_the_total_and_are_never_negative_also_where_the_epistemic_part_is_clipped():
    torch.manual_seed(0)
    means = torch.randn(5, 4, 1000)  # no difference between weights: clipped in about half of the places
    parts = decomposed(means, torch.rand(5, 4, 1000))
    clipped = parts["epistemic"] == 0
    assert 0.3 < clipped.float().mean() < 0.9
    torch.testing.assert_close(sum(parts[name] for name in PARTS), parts["total"], rtol=0, atol=0)
    assert all((parts[name] >= 0).all() for name in PARTS)
    # where it is clipped, the ambiguity is the variance of all means together
    torch.testing.assert_close(parts["ambiguity"][clipped], means.flatten(0, 1).var(0)[clipped])


def test_estimates_are_unbiased_where_the_plain_variance_between_weights_is_not():
    torch.manual_seed(1)
    places, weights, latents = 20_000, 6, 3
    means = 2.0 * torch.randn(weights, 1, places) + 1.5 * torch.randn(weights, latents, places)
    parts = decomposed(means, torch.full_like(means, 0.25))
    found = {name: parts[name].mean().item() for name in PARTS}
    assert found["aleatoric"] == pytest.approx(0.25)
    assert found["ambiguity"] == pytest.approx(1.5**2, rel=0.02)
    assert found["epistemic"] == pytest.approx(2.0**2, rel=0.03)
    naive = means.mean(1).var(0).mean().item()
    assert naive == pytest.approx(2.0**2 + 1.5**2 / latents, rel=0.02)


def test_what_one_draw_cannot_tell_is_zero():
    means, variances = torch.rand(1, 1, 3), torch.rand(1, 1, 3)
    parts = decomposed(means, variances)
    assert (
        torch.equal(parts["total"], variances[0, 0]) and not parts["ambiguity"].any() and not parts["epistemic"].any()
    )
    means = torch.rand(4, 1, 3)
    parts = decomposed(means, torch.zeros(4, 1, 3))
    torch.testing.assert_close(parts["total"], means[:, 0].var(0))
    assert torch.equal(parts["total"], parts["epistemic"])
    means = torch.rand(1, 4, 3)
    torch.testing.assert_close(decomposed(means, torch.zeros(1, 4, 3))["ambiguity"], means[0].var(0))

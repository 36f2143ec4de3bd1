from __future__ import annotations

import sys

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from uncertain_predictions import predictions

from monai_ext.formulas.likelihoods import (
    family_of,
    interval_score,
    laplace_crps,
    laplace_nll,
)
from monai_ext.metrics.uncertainty import UNCERTAINTY_SCORES, UncertaintyScores
from monai_ext.metrics.uncertainty_tables import (
    binned_sparsification_error,
    uncertainty_table,
)


def test_scores_of_images_are_means_of_their_formulae():
    mean, variance, target = predictions(3, 2, 8, 8)
    scores = UncertaintyScores(family="laplace", alpha=0.2)
    rows = scores(mean.float(), target.float(), variance=variance.float())
    assert rows.shape == (3, len(UNCERTAINTY_SCORES)) and tuple(scores.per_image()) == UNCERTAINTY_SCORES
    mean, target, variance = (x.float().double() for x in (mean, target, variance))
    half = family_of("laplace").half_width(torch.tensor(0.8).double()) * variance.sqrt()
    expected = {
        "rmse": (target - mean).square().flatten(1).mean(1).sqrt(),
        "sd": variance.flatten(1).mean(1).sqrt(),
        "nll": laplace_nll(mean, variance, target).flatten(1).mean(1),
        "crps": laplace_crps(mean, variance, target).flatten(1).mean(1),
        "coverage": ((target >= mean - half) & (target <= mean + half)).double().flatten(1).mean(1),
        "width": 2 * half.flatten(1).mean(1),
        "winkler": interval_score(mean - half, mean + half, target, alpha=0.2).flatten(1).mean(1),
        "ause": binned_sparsification_error(uncertainty_table(mean, variance, target)),
    }
    for name, values in scores.per_image().items():
        torch.testing.assert_close(values, expected[name], msg=name)


def test_aggregate_is_the_same_for_any_batches_and_memory_for_curves_does_not_grow():
    mean, variance, target = predictions(6, 1, 10, 10)
    together, apart = UncertaintyScores(), UncertaintyScores()
    together(mean, target, variance=variance)
    for i in range(6):
        apart(mean[i : i + 1], target[i : i + 1], variance=variance[i : i + 1])
        size = sum(part.numel() for part in apart.table())
    assert size == sum(part.numel() for part in together.table())
    assert together.aggregate() == pytest.approx(apart.aggregate(), rel=1e-9)
    assert set(together.aggregate()) == {*UNCERTAINTY_SCORES, "uce", "ence"}
    apart.reset()
    with pytest.raises(ValueError, match="no image has been scored"):
        apart.aggregate()


def _score_half(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    mean, variance, target = predictions(4, 1, 10, 10)
    own = slice(0, 3) if rank == 0 else slice(3, 4)
    scores = UncertaintyScores()
    scores(mean[own], target[own], variance=variance[own])
    torch.save(scores.aggregate(), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_score_as_one(tmp_path):
    method = "fork" if sys.platform == "linux" else "spawn"  # spawned processes import everything again
    mp.start_processes(_score_half, args=(str(tmp_path),), nprocs=2, start_method=method)
    mean, variance, target = predictions(4, 1, 10, 10)
    alone = UncertaintyScores()
    alone(mean, target, variance=variance)
    for rank in range(2):
        assert torch.load(tmp_path / f"{rank}.pt") == pytest.approx(alone.aggregate(), rel=1e-9)


def test_errors_name_what_does_not_fit():
    mean = torch.zeros(1, 1, 2, 2)
    with pytest.raises(ValueError, match="family='cauchy' must be one of laplace, gaussian"):
        UncertaintyScores(family="cauchy")
    for alpha in (0, 1):
        with pytest.raises(ValueError, match=f"alpha={alpha}"):
            UncertaintyScores(alpha=alpha)
    with pytest.raises(ValueError, match="y is None"):
        UncertaintyScores()(mean, variance=mean)
    with pytest.raises(ValueError, match="needs the predicted variance"):
        UncertaintyScores()(mean, mean)
    with pytest.raises(ValueError, match="the target reaches from 0 to 255"):
        UncertaintyScores()(mean, torch.tensor([[[[0.0, 255.0], [1.0, 2.0]]]]), variance=mean + 1)

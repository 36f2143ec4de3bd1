"""Inference with uncertainty: what it asks of a network, and the same samples in every run."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Events
from torch import Tensor, nn
from uncertainty_runs import Toy

from monai_ext.engines.uncertainty import KINDS, UncertaintyEvaluator, UncertaintyInferer


class Noise(nn.Module):
    """Images of noise from the generator; the mean holds the numbers of samples behind the variances."""

    def uncertainty(
        self, low_res: Tensor, *, weight_samples: int, latent_samples: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        noise = torch.randn(low_res.shape, generator=generator)
        counts = torch.tensor([weight_samples, latent_samples], dtype=torch.bfloat16)
        return {"mean": counts, "other": noise} | dict.fromkeys(KINDS, noise.bfloat16())

    def sample(self, low_res: Tensor, n: int, *, generator: torch.Generator) -> Tensor:
        return torch.randn(len(low_res), n, *low_res.shape[1:], generator=generator).bfloat16()


def test_the_output_is_the_mean_the_parts_of_the_variance_and_samples_in_float32():
    output = UncertaintyInferer(weight_samples=3, latent_samples=5, samples=2)(torch.zeros(4, 1, 2, 2), Noise())
    assert set(output) == {"mean", *KINDS, "samples"}
    assert output["mean"].tolist() == [3, 5] and output["samples"].shape == (4, 2, 1, 2, 2)
    assert {value.dtype for value in output.values()} == {torch.float32}
    assert "samples" not in UncertaintyInferer(samples=0)(torch.zeros(1, 1, 2, 2), Noise())


def test_every_validation_draws_the_same_samples_and_every_batch_others():
    batches = [{"image": torch.zeros(1, 1, 2, 2), "label": torch.zeros(1, 1, 2, 2)}] * 2
    evaluator = UncertaintyEvaluator("cpu", batches, Noise(), inferer=UncertaintyInferer(seed=3), precision="fp32")
    drawn = []
    evaluator.add_event_handler(Events.ITERATION_COMPLETED, lambda e: drawn.append(e.state.output["pred"]["samples"]))
    evaluator.run()
    evaluator.run()
    assert torch.equal(drawn[0], drawn[2]) and torch.equal(drawn[1], drawn[3]) and not torch.equal(drawn[0], drawn[1])


@pytest.mark.parametrize("settings", [{"weight_samples": 0}, {"latent_samples": 0}, {"samples": -1}])
def test_numbers_out_of_range_are_named(settings):
    ((name, value),) = settings.items()
    with pytest.raises(ValueError, match=f"{name}={value}"):
        UncertaintyInferer(**settings)


def test_every_run_of_the_inferer_draws_the_same_samples_and_calls_differ():
    low_res = torch.rand(1, 1, 4, 4)
    inferer = UncertaintyInferer(samples=2)
    first, second = (inferer(low_res, Toy())["samples"] for _ in range(2))
    inferer.restart()
    assert torch.equal(inferer(low_res, Toy())["samples"], first) and not torch.equal(first, second)

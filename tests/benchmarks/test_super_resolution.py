"""The benchmarks of super-resolution: the same work on both sides, counted; ratios with room to spare."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from benchmarks import adversarial_step, goals, tiling
from benchmarks.measure import in_turn, timed, times_cheaper
from benchmarks.workbench import Bench
from monai_ext.inferers.tiled import TiledInferer

CPU = torch.device("cpu")


@pytest.fixture
def quick() -> Bench:
    return Bench(CPU, Path(), rounds=1, quick=True)


@pytest.mark.parametrize(
    ("build", "generator", "backward"),
    [(partial(adversarial_step.our_trainer, precision="fp32"), 1, 1), (adversarial_step.usual_trainer, 2, 2)],
    ids=["lean", "usual"],
)
def test_a_lean_step_has_half_the_passes_of_the_generator_and_of_gradients_of_the_discriminators_weights(
    build, generator, backward
):
    pair = adversarial_step.Pair(CPU, features=4, blocks=1)
    counts: Counter = Counter()
    pair.generator.register_forward_hook(lambda *_: counts.update(generator=1))
    pair.discriminator.register_forward_hook(lambda *_: counts.update(discriminator=1))
    weight = pair.discriminator.features[0].weight
    weight.register_post_accumulate_grad_hook(lambda *_: counts.update(gradients=1))
    batches = DataLoader(adversarial_step.pictures(6, 16), batch_size=2)
    build(pair, batches, epochs=1).run()
    assert counts == {"generator": 3 * generator, "discriminator": 9, "gradients": 3 * backward}


def test_both_trainers_teach_the_same_losses():
    """The discriminator's first step is the same; the generator's differ in the discriminator that they face."""
    after = []
    for build in (partial(adversarial_step.our_trainer, precision="fp32"), adversarial_step.usual_trainer):
        pair = adversarial_step.Pair(CPU, features=4, blocks=1)
        build(pair, DataLoader(adversarial_step.pictures(2, 16), batch_size=2), epochs=1).run()
        after.append([weight.detach().clone() for weight in pair.discriminator.parameters()])
    for ours, theirs in zip(*after, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=0)  # a fifth of a step of Adam


def test_tiling_costs_less_time_and_memory_than_monais():
    work = tiling.variants(CPU, 512)
    names = (tiling.HALO, tiling.CONSTANT)
    costs = in_turn({name: partial(timed, work[name], CPU) for name in names}, rounds=3)
    assert times_cheaper(costs[tiling.HALO], costs[tiling.CONSTANT], "cpu") > 1.4  # 2 and more on larger images
    ours, theirs = (tiling.peak_bytes(work[name]) for name in names)
    assert not ours > 0.7 * theirs  # 0.25 on larger images; NaN where it is hidden


@pytest.mark.parametrize("mode", ["halo", "feather"])
def test_a_strip_is_made_in_memory_that_files_of_rows_can_take_as_it_is(mode):
    image = torch.rand(1, 3, 40, 30)
    inferer = TiledInferer(24, 8, mode=mode, finish=lambda values: (values * 255).to(torch.uint8))
    network, grid = torch.nn.Upsample(scale_factor=2), inferer.grid((40, 30))
    for row in grid.rows_from(0):
        top, bottom = grid.span(row)
        grid.load(row, [image[..., top:bottom, :]])
        for column, windows in grid.windows():
            grid.place(network(*windows), row, column)
        assert grid.strip(row)[0].transpose(0, 1).is_contiguous()  # (rows, C, W)


@pytest.mark.parametrize("module", [adversarial_step, tiling])
def test_the_benchmarks_return_the_values_of_their_goals(module, quick):
    result = module.run(quick)
    known = {goal.value for goal in goals.GOALS}
    assert set(result.values) & known
    assert all(row[1] for row in result.tables[0].rows)

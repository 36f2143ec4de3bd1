"""Cost of validation beyond the forward passes, at the same Dice."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from benchmarks import loops
from benchmarks.measure import excess, in_turn, middle, one_thread, timed
from benchmarks.report import Result, Table
from benchmarks.workbench import BATCH_SIZE, Bench, batches_on_device, small_network

BARE = "forward passes alone"
OURS = "BatchEvaluator, MeanSegmentationScores (seven scores)"
USUAL = "SupervisedEvaluator, post-processing, MeanDice"


@torch.no_grad()
def centred(network: nn.Sequential, batches: list[dict[str, Tensor]]) -> nn.Sequential:
    """`network` with a last layer that calls half of the first batch's pixels foreground, by logits of deviation 1.

    Else a network at random predicts background alone, and any two ways to score that agree; or its logits lie so near
    to 0 that the sigmoid of some negative ones is rounded to 0.5, foreground for all who threshold probabilities.
    """
    logits, last = network(batches[0]["image"].cpu()), network[-1]
    for parameter in (last.weight, last.bias):
        parameter /= logits.std()
    last.bias -= (logits / logits.std()).median()
    return network


@one_thread()
def run(bench: Bench) -> Result:
    clock = "cpu" if bench.device.type == "cpu" else "wall"
    tables, values, gaps = [], {}, []
    for key, size, count in (("", (8, 8), bench.pick(32, 4)), ("_full", (256, 256), bench.pick(4, 1))):
        batches = batches_on_device(bench.device, count, size)
        network = centred(small_network(), batches).to(bench.device, memory_format=torch.channels_last)
        ours = loops.our_evaluator(bench.device, batches, network)
        usual = loops.usual_evaluator(bench.device, batches, network)
        variants = {
            BARE: partial(timed, partial(loops.bare_validation, batches, network), bench.device),
            OURS: partial(timed, ours.run, bench.device),
            USUAL: partial(timed, usual.run, bench.device),
        }
        costs = in_turn(variants, rounds=bench.rounds)
        added = {name: 1000 * excess(costs[name], costs[BARE], clock) / count for name in costs}
        dice = {OURS: ours.state.metrics["val_mean_dice"], USUAL: usual.state.metrics["val_mean_dice"]}
        gaps.append(abs(dice[OURS] - dice[USUAL]))
        rows = [
            [
                name,
                f"{1000 * middle(costs[name], clock) / count:.3f}",
                f"{added[name]:.3f}",
                f"{added[name] / added[OURS]:.1f}",
                f"{dice[name]:.7f}" if name in dice else "",
            ]
            for name in costs
        ]
        tables.append(
            Table(
                f"{count} batches of {BATCH_SIZE} pictures of {size[0]} x {size[1]}, {clock} time with one thread, "
                f"median of {bench.rounds} rounds.",
                ["validation", "ms/iteration", "ms over the forward passes", "x ours", "mean Dice"],
                rows,
            )
        )
        values[f"validation.ratio{key}"] = added[USUAL] / added[OURS]
    values["validation.dice_gap"] = max(gaps)
    return Result("Validation overhead", tables, values)

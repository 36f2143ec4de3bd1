"""Goals of the package, and whether a run met them."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.report import Table

SIGNS = {">=": operator.ge, "<=": operator.le}


@dataclass(frozen=True)
class Goal:
    """A number that a run measures, and where it should lie.

    Attributes:
        name: G1 ... as in the list of goals; empty where there is no such number.
        what: in words.
        value: its name among the values of the results.
        sign, target: the value is to be `>=` or `<=` this.
        form: how to print value and target.
        where: "", "cuda" or "bfloat16": the only place where the goal counts.
    """

    name: str
    what: str
    value: str
    sign: str
    target: float
    form: str = "{:.1f}x"
    where: str = ""


GOALS = (
    Goal("G1", "host time of a cached batch against MONAI's fast recipe", "host.fast", ">=", 50),
    Goal("G1", "the same against CacheDataset with its defaults", "host.default", ">=", 250),
    Goal("G1", "with colour, against the fast recipe", "host.colour_fast", ">=", 20),
    Goal("G2", "operations a batch, flips and rotation", "host.operations", "<=", 45, "{:.0f}"),
    Goal("G2", "operations a batch with colour", "host.operations_colour", "<=", 120, "{:.0f}"),
    Goal("G2", "waits for the device a batch", "host.waits", "<=", 0, "{:.0f}"),
    Goal("G3", "images/s against PyTorch's Dataset and DataLoader", "data.plain", ">=", 4),
    Goal("G3", "images/s against MONAI's Dataset", "data.monai", ">=", 8),
    Goal("G3", "images/s against CacheDataset and DataLoader", "data.cached", ">=", 4),
    Goal("G3", "images/s against MONAI's fast recipe", "data.fast", ">=", 4),
    Goal("G4", "data path as a share of the train step", "step.data_share", "<=", 0.03, "{:.1%}", "cuda"),
    Goal("G5", "epoch against PyTorch's DataLoader, same precision", "epoch.plain_same", ">=", 1.5, where="cuda"),
    Goal("G5", "epoch against MONAI's fast recipe, same precision", "epoch.fast", ">=", 1.5, where="cuda"),
    Goal("G5", "epoch against the typical MONAI bundle, float32 both", "epoch.default", ">=", 3, where="cuda"),
    Goal("G6", "epoch against PyTorch's DataLoader, float32 both", "epoch.same_precision", ">=", 1.1, "{:.2f}x"),
    Goal("G6", "epoch against PyTorch's DataLoader in float32", "epoch.plain", ">=", 3, where="bfloat16"),
    Goal("G7", "trainer and handlers over a bare loop", "engine.overhead_ms", "<=", 0.25, "{:.3f} ms"),
    Goal("G7", "the same as a share of a real step", "engine.step_share", "<=", 0.03, "{:.2%}"),
    Goal("G7", "the same against the typical MONAI bundle", "engine.typical_ratio", ">=", 30),
    Goal("G8", "validation overhead against MONAI's evaluator", "validation.ratio", ">=", 10),
    Goal("G8", "difference in mean Dice", "validation.dice_gap", "<=", 1e-6, "{:.0e}"),
    Goal("G9", "step against GanTrainer, float32 both", "adversarial.same", ">=", 1.2, "{:.2f}x"),
    Goal("G9", "step against GanTrainer in float32", "adversarial.fast", ">=", 2.2, "{:.2f}x", "bfloat16"),
    Goal("G10", "tiling against sliding_window_inference", "tiling.time", ">=", 2),
    Goal("G10", "peak memory of tiling, as a share of its", "tiling.memory", "<=", 0.25, "{:.2f}"),
    Goal("G11", "bytes of the cache against CacheDataset", "cache.bytes", ">=", 4),
    Goal("G11", "build of the cache against CacheDataset, a core", "cache.build", ">=", 1.6),
    Goal("G11", "reading the cache against building it", "cache.reload", ">=", 20),
    Goal("G13", "CPU time of a picture against albumentations", "augment.plain", ">=", 1.3, "{:.2f}x"),
    Goal("G13", "the same with colour", "augment.colour", ">=", 1.3, "{:.2f}x"),
    Goal("G14", "host time of a batch of 3-D crops against MONAI's fast recipe", "volumes.fast", ">=", 10),
    Goal("G14", "waits for the device a batch of 3-D crops", "volumes.waits", "<=", 0, "{:.0f}"),
    Goal("G14", "bytes of volumes against the cache of MONAI's fast recipe", "volumes.bytes", ">=", 4),
    Goal("", "time per image, worst against best number of images", "scaling.linear", "<=", 1.25, "{:.2f}x"),
    Goal("", "energy distance, 16 v 4 masks, against a forward pass", "raters.ged_share", "<=", 1, "{:.4f}"),
    Goal("", "memory grown over the epochs", "scaling.memory_grown_mib", "<=", 8, "{:.1f} MiB"),
)


def with_shares(values: Mapping[str, float], batch_size: int) -> dict[str, float]:
    """`values` with those that two benchmarks give together: shares of the train step."""
    together = dict(values)
    step = values.get("step.ms_per_image")
    if step and "data.ms_per_image" in values:
        together["step.data_share"] = values["data.ms_per_image"] / step
    if step and "engine.overhead_ms" in values:
        together["engine.step_share"] = values["engine.overhead_ms"] / (step * batch_size)
    return together


def judge(values: Mapping[str, float], device: str) -> list[dict[str, str]]:
    """One row for each goal: goal, what, target, measured, and "met", "missed", or why there is neither."""
    rows = []
    for goal in GOALS:
        value = values.get(goal.value)
        if goal.where == "cuda" and device != "cuda":
            verdict = "needs a GPU"
        elif value is None:
            verdict = "not measured"
        elif goal.where == "bfloat16" and (device != "cpu" or not values.get(f"{goal.value.split('.')[0]}.bfloat16")):
            verdict = "needs a CPU fast in bfloat16"
        else:
            verdict = "met" if SIGNS[goal.sign](value, goal.target) else "missed"
        rows.append(
            {
                "goal": goal.name,
                "what": goal.what,
                "target": f"{goal.sign} {goal.form.format(goal.target)}",
                "measured": "" if value is None or verdict == "needs a GPU" else goal.form.format(value),
                "verdict": verdict,
            }
        )
    return rows


def with_earlier(rows: list[dict[str, str]], earlier: str) -> list[dict[str, str]]:
    """`rows`, and for what was not measured now the row of `earlier`, a table as `table` makes it."""
    known = {}
    for line in earlier.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        known[tuple(cells[:3])] = cells
    result = []
    for row in rows:
        cells = known.get((row["goal"], row["what"], row["target"]), [])
        use = row["verdict"] == "not measured" and len(cells) == len(row)
        result.append(dict(zip(row, cells, strict=True)) if use else row)
    return result


def table(rows: list[dict[str, str]]) -> Table:
    """The rows of `judge` for people."""
    return Table("", ["goal", "what", "target", "measured", "verdict"], [list(row.values()) for row in rows])

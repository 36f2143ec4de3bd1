"""`uncertainty_report`: what each kind of uncertainty responds to, from calibrated runs of a bundle."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu

from monai_ext.commands.command_line import Paths
from monai_ext.commands.comparison.results import ResultsError
from monai_ext.commands.plotting import plain_axis
from monai_ext.handlers.super_resolution.uncertainty import CALIBRATION_GROUP
from monai_ext.handlers.super_resolution.uncertainty_figures import KIND_COLOURS
from monai_ext.runtime.errors import one_line
from monai_ext.runtime.run_log import tell
from monai_ext.storage.files import table_rows
from monai_ext.storage.pictures import save_figure
from monai_ext.storage.records import read_record, write_record

__all__ = [
    "CalibratedRun",
    "PlaceEffect",
    "Trend",
    "UncertaintyReportOptions",
    "draw_trend",
    "place_effect",
    "read_run",
    "report",
    "run",
    "trend",
]

SEEN = "training"
NEARBY = (SEEN, CALIBRATION_GROUP)  # all other groups are of other places
LEVELS = 255  # figures and tables show standard deviations as levels of 8 bits
SEEN_COLOUR = "#BBBBBB"


@dataclass(frozen=True)
class UncertaintyReportOptions:
    """Check what each kind of uncertainty responds to, with a figure for each, from calibrated runs of a bundle.

    Epistemic uncertainty should be higher in places that training never saw, and fall with more training tiles;
    ambiguity should rise with the scale factor; aleatoric uncertainty should follow the noise added to the low
    resolution. Give one run for the first question, and for each of the others runs that differ in nothing else, on the
    same test tiles.
    """

    runs: Paths
    """output folders of runs that calibrate.json was run on"""
    output_dir: Path
    """for uncertainty.json and the figures"""
    group: str = "test"
    """group of tiles that trends are computed on"""


@dataclass(frozen=True)
class Question:
    """What should happen to the mean standard deviation of `kind` when `setting` grows: +1 rises, -1 falls."""

    kind: str
    setting: str
    direction: int
    label: str


QUESTIONS = (
    Question("epistemic", "training_tiles", -1, "Training tiles"),
    Question("ambiguity", "scale", 1, "Scale factor"),
    Question("aleatoric", "noise", 1, "Noise added to the low resolution\n(sd, levels of 255)"),
)
SETTINGS = tuple(question.setting for question in QUESTIONS)


class CalibrationSummary(msgspec.Struct, frozen=True):
    """summary.json of a calibration, as far as it is compared."""

    settings: dict[str, Any]


@dataclass(frozen=True)
class CalibratedRun:
    """Standard deviations of every tile, levels of 255, by kind: kind -> group -> id -> value."""

    name: str
    settings: Mapping[str, float]
    deviations: Mapping[str, Mapping[str, Mapping[str, float]]]


@dataclass(frozen=True)
class PlaceEffect:
    """Epistemic standard deviation (levels of 255) of tiles that were learnt from, and of tiles of another group.

    `probability`: that a tile of the other group is the more uncertain of two drawn at random, ties count half.
    """

    run: str
    group: str
    seen: NDArray[np.float64]
    unseen: NDArray[np.float64]
    probability: float

    @property
    def rises(self) -> bool:
        return bool(self.unseen.mean() > self.seen.mean() and self.probability > 0.5)


@dataclass(frozen=True)
class Trend:
    """Standard deviations (levels of 255) of the tiles that all runs have, for each value of the setting.

    Runs of one value, such as of several seeds, are taken in the mean. `moved`: share of tiles on which the last value
    lies on the expected side of the first.
    """

    question: Question
    values: NDArray[np.float64]  # (V,), ascending
    tiles: NDArray[np.float64]  # (V, N)
    runs: tuple[int, ...]  # of each value
    moved: float

    @property
    def as_expected(self) -> bool:
        """Whether the mean over tiles moves the expected way from each value to the next."""
        return bool(np.all(self.question.direction * np.diff(self.tiles.mean(1)) > 0))


def read_run(folder: str | Path) -> CalibratedRun:
    """The report that calibration left in `folder`, or in `folder/uncertainty`.

    Raises:
        ResultsError: there is none, or it is damaged.
    """
    folder = Path(folder)
    report = next((f for f in (folder, folder / "uncertainty") if (f / "summary.json").is_file()), None)
    if report is None:
        raise ResultsError(
            f"no summary.json in '{folder}' or '{folder / 'uncertainty'}': run calibrate.json on the run."
        )
    deviations: dict = {kind: defaultdict(dict) for kind in KIND_COLOURS}
    try:
        summary = read_record(report / "summary.json", CalibrationSummary)
        settings = {name: float(value) for name, value in summary.settings.items() if name in SETTINGS}
        needed = ("group", "id", *(f"{kind}_sd" for kind in deviations))
        for _, row in table_rows(report / "tiles.csv", needed=needed):
            for kind, groups in deviations.items():
                groups[row["group"]][row["id"]] = LEVELS * float(row[f"{kind}_sd"])
    except (OSError, LookupError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise ResultsError(
            f"the report in '{report}' is damaged ({one_line(error)}): run calibrate.json again."
        ) from None
    return CalibratedRun(str(folder), settings, deviations)


def place_effect(run: CalibratedRun, unseen: str = "test") -> PlaceEffect | None:
    """The effect of place in one run; None where it has no tiles of one of the groups."""
    groups = run.deviations["epistemic"]
    if not (groups.get(SEEN) and groups.get(unseen)):
        return None
    inside, outside = (np.array(list(groups[name].values())) for name in (SEEN, unseen))
    wins = mannwhitneyu(outside, inside).statistic / (len(inside) * len(outside))
    return PlaceEffect(run.name, unseen, inside, outside, float(wins))


def trend(runs: Sequence[CalibratedRun], question: Question, *, group: str = "test") -> Trend | None:
    """The trend over the runs; None where no two of them differ in the setting of the question alone.

    Among families of runs that agree in the other settings, the one with most values is taken; then the first.
    """
    families: dict[tuple, dict[float, list]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        tiles = run.deviations[question.kind].get(group)
        if tiles and question.setting in run.settings:
            others = tuple(run.settings.get(name) for name in SETTINGS if name != question.setting)
            families[others][run.settings[question.setting]].append(tiles)
    family = max(families.values(), key=len, default={})
    common = set.intersection(*(set(tiles) for members in family.values() for tiles in members)) if family else set()
    if len(family) < 2 or not common:
        return None
    ids, values = sorted(common), sorted(family)
    rows = np.array([[np.mean([tiles[name] for tiles in family[value]]) for name in ids] for value in values])
    moved = np.mean(question.direction * (rows[-1] - rows[0]) > 0)
    return Trend(question, np.array(values), rows, tuple(len(family[value]) for value in values), float(moved))


def report(runs: Sequence[CalibratedRun], output: str | Path, *, group: str = "test") -> dict[str, Any]:
    """Write `uncertainty.json` and epistemic.png, ambiguity.png and aleatoric.png as far as the runs allow.

    Returns:
        What the JSON holds: question -> whether it was answered, whether as expected, and the numbers.
    """
    output = Path(output)
    elsewhere = dict.fromkeys(name for run in runs for name in run.deviations["epistemic"] if name not in NEARBY)
    effects = [effect for run in runs for name in elsewhere if (effect := place_effect(run, name)) is not None]
    trends = {question.kind: trend(runs, question, group=group) for question in QUESTIONS}
    answers = {
        f"epistemic_rises_in_group_{name}": _place_answer([effect for effect in effects if effect.group == name])
        for name in elsewhere or (group,)
    }
    for question in QUESTIONS:
        verb = "rises" if question.direction > 0 else "falls"
        answers[f"{question.kind}_{verb}_with_{question.setting}"] = _trend_answer(trends[question.kind], question)
    figures = {kind: trends[kind] for kind in trends if trends[kind] is not None or (kind == "epistemic" and effects)}
    for kind, found in figures.items():
        save_figure(_figure(found, effects if kind == "epistemic" else []), output / f"{kind}.png")
    document = {"runs": {run.name: dict(run.settings) for run in runs}, "group": group, "unit": "levels of 255"}
    write_record(output / "uncertainty.json", document | {"answers": answers})
    return answers


def _place_answer(effects: Sequence[PlaceEffect]) -> dict[str, Any]:
    if not effects:
        return {"answered": False, "why": f"no run has tiles of both this group and '{SEEN}'"}
    rows = [
        {
            "run": effect.run,
            "training_mean": float(effect.seen.mean()),
            "mean": float(effect.unseen.mean()),
            "training_tiles": len(effect.seen),
            "tiles": len(effect.unseen),
            "probability": effect.probability,
        }
        for effect in effects
    ]
    return {"answered": True, "as_expected": all(effect.rises for effect in effects), "runs": rows}


def _trend_answer(found: Trend | None, question: Question) -> dict[str, Any]:
    if found is None:
        return {"answered": False, "why": f"no two runs differ in {question.setting} alone and share tiles"}
    count = found.tiles.shape[1]
    spreads = found.tiles.std(1, ddof=min(1, count - 1))
    rows = zip(found.values, found.tiles.mean(1), spreads, found.runs, strict=True)
    return {
        "answered": True,
        "as_expected": found.as_expected,
        "tiles": count,
        "tiles_moved_as_expected": found.moved,
        "values": [{question.setting: float(x), "mean": float(m), "sd": float(s), "runs": n} for x, m, s, n in rows],
    }


def _figure(found: Trend | None, effects: Sequence[PlaceEffect]) -> Figure:
    widths = [max(4.2, 1.2 * len(effects) + 1)] * bool(effects) + [4.2] * (found is not None)
    figure = Figure(figsize=(1 + sum(widths), 4), layout="constrained")
    axes = list(figure.subplots(1, len(widths), squeeze=False, width_ratios=widths)[0])
    for axis in axes:
        plain_axis(axis)
    if effects:
        _draw_places(axes[0], effects)
    if found is not None:
        draw_trend(axes[-1], found)
    return figure


def _draw_places(axis: Axes, effects: Sequence[PlaceEffect]) -> None:
    boxes: list[tuple[int, str, NDArray[np.float64], str]] = []
    ticks: list[tuple[float, str]] = []
    for name in dict.fromkeys(effect.run for effect in effects):
        own = [effect for effect in effects if effect.run == name]
        start = len(boxes) + len(ticks)  # one place is left free between runs
        groups = [(SEEN, own[0].seen, SEEN_COLOUR)]
        groups += [(effect.group, effect.unseen, KIND_COLOURS["epistemic"]) for effect in own]
        for i, (group, values, colour) in enumerate(groups):
            boxes.append((start + i, f"{group}\nn = {len(values)}", values, colour))
        ticks.append((start + (len(groups) - 1) / 2, Path(name).name))
    for place, _, values, colour in boxes:
        axis.boxplot(
            values, positions=[place], widths=0.7, showfliers=False, patch_artist=True,
            boxprops={"facecolor": colour}, medianprops={"color": "black"},
        )  # fmt: skip
    axis.set_xticks([box[0] for box in boxes], [box[1] for box in boxes], fontsize=7)
    for middle, name in ticks:
        axis.annotate(name, (middle, -0.2), xycoords=("data", "axes fraction"), ha="center", fontsize=8)
    axis.set(ylabel="Epistemic sd of a tile (levels of 255)", ylim=(0, None))
    axis.set_title("Tiles learnt from (grey), tiles of other places (green)", fontsize=9)


def draw_trend(axis: Axes, found: Trend, *, of: str = "tiles") -> None:
    """Mean over the images for each value of the setting, with their quartiles; `of`: what the images are."""
    question = found.question
    x = found.values * (LEVELS if question.setting == "noise" else 1)
    low, high = np.quantile(found.tiles, [0.25, 0.75], axis=1)
    colour = KIND_COLOURS[question.kind]
    axis.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0, label=f"quartiles of the {of}")
    axis.plot(x, found.tiles.mean(1), "o-", color=colour, label="mean")
    if question.setting == "training_tiles":
        axis.set_xscale("log")
    axis.set_xticks(x, [f"{value:g}" for value in x])
    axis.minorticks_off()
    axis.set(
        xlabel=question.label.replace("tiles", of),
        ylabel=f"{question.kind.capitalize()} sd (levels of 255)",
        ylim=(0, None),
    )
    axis.set_title(f"{found.tiles.shape[1]} {of}, {sum(found.runs)} runs", fontsize=9)
    axis.legend(fontsize=8)


def run(options: UncertaintyReportOptions) -> int:
    """`python -m monai_ext uncertainty_report`."""
    answers = report([read_run(folder) for folder in options.runs], options.output_dir, group=options.group)
    for question, answer in answers.items():
        verdict = ("yes" if answer["as_expected"] else "NO") if answer["answered"] else f"not answered: {answer['why']}"
        print(f"{question.replace('_', ' ')}: {verdict}")
    tell(f"figures and numbers in {options.output_dir}")
    return 0

"""`uncertainty_checks`: what each kind of uncertainty responds to, with networks trained on synthetic scenes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm

from monai_ext.commands.plotting import OKABE_ITO, plain_axis
from monai_ext.commands.uncertainty.known_truth import (
    coverage_figure,
    find_modes,
    interval_coverage,
    known_modes,
    modes_figure,
    train_on_modes,
)
from monai_ext.commands.uncertainty.phantom_training import PhantomTraining, scene_deviations, train_on_scenes
from monai_ext.commands.uncertainty.report import (
    LEVELS,
    QUESTIONS,
    SEEN,
    CalibratedRun,
    PlaceEffect,
    Question,
    Trend,
    draw_trend,
    place_effect,
    trend,
)
from monai_ext.networks.uncertain_sr import UncertainSuperResolution, WeightEnsemble
from monai_ext.phantoms.aerial import draw_aerial
from monai_ext.phantoms.modes import draw_fields
from monai_ext.runtime.run_log import shows_progress, tell
from monai_ext.storage.pictures import save_figure
from monai_ext.storage.records import write_record

__all__ = ["CheckSettings", "UncertaintyChecksOptions", "run", "uncertainty_checks"]

WAYS = ("ensemble", "dropout", "variational")  # of uncertain weights
UNSEEN, COARSER, FURROWS = "unseen", "coarser", "furrows"
GROUPS = {
    SEEN: "learnt from",
    UNSEEN: "others like them",
    COARSER: "at 1.2 m a pixel",
    FURROWS: "furrowed fields",
}
SEEN_SIZE_M, COARSER_SIZE_M = 0.3, 1.2
ENOUGH_RECALL, ENOUGH_COVERAGE = 0.8, 0.02  # of modes; of nominal coverage, how far off it may be


@dataclass(frozen=True)
class CheckSettings:
    """What is trained and measured.

    Attributes:
        training: of every network.
        members: of the ensemble.
        scenes: numbers of training scenes, ascending. The first, which leaves most uncertainty, is that of the question
            of place, the last that of scale and noise.
        scales, noises: of the other questions; noise on the [0, 1] scale.
        asked: scenes of each group that are evaluated.
        size: side of a scene in pixels.
        weight_samples: of dropout and variational weights; an ensemble has its members.
        latent_samples: for each sample of the weights.
        interval_scenes: that intervals are calibrated on, and as many that their coverage is found on.
        mode_fields, mode_steps, mode_samples: fields with known modes to learn from, steps of that training, samples of
            each of as many further fields.
        seed: of everything.

    Raises:
        ValueError: fewer than two members or numbers, or numbers that do not ascend.
    """

    training: PhantomTraining = field(default_factory=PhantomTraining)
    members: int = 3
    scenes: tuple[int, ...] = (8, 32, 128)
    scales: tuple[int, ...] = (2, 4, 8)
    noises: tuple[float, ...] = (0.0, 0.02, 0.04, 0.08)
    asked: int = 24
    size: int = 64
    weight_samples: int = 8
    latent_samples: int = 32
    interval_scenes: int = 96
    mode_fields: int = 24
    mode_steps: int = 400
    mode_samples: int = 32
    seed: int = 0

    def __post_init__(self):
        for name in ("scenes", "scales", "noises"):
            values = getattr(self, name)
            if len(values) < 2 or list(values) != sorted(set(values)):
                raise ValueError(f"{name}={list(values)}: give two numbers or more, ascending.")
        for name, least in (("members", 2), ("asked", 2), ("weight_samples", 2), ("latent_samples", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)} must be at least {least}.")


@dataclass(frozen=True)
class UncertaintyChecksOptions:
    """Check what each kind of uncertainty responds to, with small networks trained on synthetic scenes.

    Epistemic uncertainty should be higher for scenes unlike those learnt from, and fall with more of these: measured
    for an ensemble, dropout and variational weights, side by side. Ambiguity should rise with the scale factor,
    aleatoric uncertainty follow the noise added to the low resolution. And where the distribution is known: samples
    should find all modes, and calibrated intervals reach their nominal coverage. Needs no data. For trained runs of a
    bundle on photographs: uncertainty_report.
    """

    output_dir: Path
    """folder of checks.json and a figure for each question"""
    steps: int = PhantomTraining().steps
    """of each training"""
    members: int = 3
    """of the ensemble"""
    scenes: tuple[int, ...] = (8, 32, 128)
    """numbers of training scenes, ascending"""
    seed: int = 0
    """of everything"""


def uncertainty_checks(output: str | Path, settings: CheckSettings | None = None) -> dict[str, Any]:
    """Train, measure, and write `checks.json` and a figure for each question.

    The figures are place.png, amount.png, ambiguity.png, aleatoric.png, intervals.png and modes.png.

    Returns:
        What the JSON holds.
    """
    settings, output = settings or CheckSettings(), Path(output)
    lab = _Laboratory(settings)
    amounts = {way: [lab.ask_way(way, count) for count in settings.scenes] for way in WAYS}
    plain = replace(settings.training, weights="none")
    scales = [lab.ask_plain(replace(plain, scale=scale)) for scale in settings.scales]
    noises = [lab.ask_plain(replace(plain, noise=noise)) for noise in settings.noises]
    intervals = lab.ask_intervals()
    modes, modes_picture = lab.ask_modes()
    lab.bar.close()
    questions = {question.kind: question for question in QUESTIONS}
    falls = {way: _answer(runs, questions["epistemic"], group=UNSEEN) for way, runs in amounts.items()}
    places = {
        way: [effect for group in GROUPS if (effect := place_effect(runs[0], group)) is not None and group != SEEN]
        for way, runs in amounts.items()
    }
    ambiguity = _answer(scales, questions["ambiguity"], group=UNSEEN)
    aleatoric = _answer(noises, questions["aleatoric"], group=UNSEEN)
    document = {
        "unit": f"levels of {LEVELS}, root of the mean variance of a scene",
        "settings": asdict(settings),
        "epistemic_by_place": {way: [_place_numbers(effect) for effect in found] for way, found in places.items()},
        "epistemic_by_amount": {way: _trend_numbers(found) for way, found in falls.items()},
        "ambiguity_by_scale": _trend_numbers(ambiguity),
        "aleatoric_by_noise": _trend_numbers(aleatoric),
        "intervals": {
            "coverage": intervals,
            "as_expected": all(abs(row["after"] - row["nominal"]) <= ENOUGH_COVERAGE for row in intervals),
        },
        "modes": modes,
    }
    figures = {
        "place": _places_figure(places),
        "amount": _amounts_figure(falls),
        "ambiguity": _trend_figure(ambiguity),
        "aleatoric": _trend_figure(aleatoric),
        "intervals": coverage_figure(intervals, scenes=settings.interval_scenes),
        "modes": modes_picture,
    }
    for name, figure in figures.items():
        save_figure(figure, output / f"{name}.png")
    write_record(output / "checks.json", document)
    return document


def _answer(runs: Sequence[CalibratedRun], question: Question, *, group: str) -> Trend:
    """`trend` of runs that differ in the setting of the question alone."""
    found = trend(runs, question, group=group)
    if found is None:
        raise ValueError(f"no two networks differ in {question.setting}: give two numbers or more.")
    return found


class _Laboratory:
    """Scenes of all groups, and networks trained on the first ones; what is needed twice is trained once."""

    def __init__(self, settings: CheckSettings):
        self.settings = settings
        most, asked, size = max(settings.scenes), settings.asked, (settings.size, settings.size)
        field_side = settings.size // 2
        self.training = _drawn(most, (settings.seed, 0), size, SEEN_SIZE_M)
        self.groups = {
            UNSEEN: _drawn(asked, (settings.seed, 1), size, SEEN_SIZE_M),
            COARSER: _drawn(asked, (settings.seed, 2), size, COARSER_SIZE_M),
            FURROWS: torch.stack(
                [draw_fields(size, layout_seed=(settings.seed, 3, i), field=field_side) for i in range(asked)]
            ),
        }
        self._networks: dict[tuple, UncertainSuperResolution] = {}
        one_of = len(settings.scenes) * (settings.members + len(WAYS) - 1)
        # the plain network of the usual scale and noise is a member of the ensemble
        more = {(scale, settings.training.noise) for scale in settings.scales}
        more |= {(settings.training.scale, noise) for noise in settings.noises}
        more -= {(settings.training.scale, settings.training.noise)}
        self.bar = tqdm(
            total=one_of + len(more) + 1, desc="training networks", unit="network", disable=not shows_progress()
        )

    def ask_way(self, way: str, count: int) -> CalibratedRun:
        """The deviations of networks with `count` training scenes and this kind of uncertain weights."""
        settings = self.settings
        if way == "ensemble":
            plan = replace(settings.training, weights="none")
            members = [self._network(plan, count, member) for member in range(settings.members)]
            return self._asked(WeightEnsemble(members), plan, count, settings.members)
        plan = replace(settings.training, weights=way)
        return self._asked(self._network(plan, count, 0), plan, count, settings.weight_samples)

    def ask_plain(self, plan: PhantomTraining) -> CalibratedRun:
        """The deviations of one network with all training scenes."""
        count = max(self.settings.scenes)
        return self._asked(self._network(plan, count, 0), plan, count, 1)

    def ask_intervals(self) -> list[dict[str, float]]:
        """Coverage by one network with all training scenes, on further scenes; see `interval_coverage`."""
        settings, plan = self.settings, replace(self.settings.training, weights="none")
        size, count = (settings.size, settings.size), settings.interval_scenes
        calibration, test = (_drawn(count, (settings.seed, part), size, SEEN_SIZE_M) for part in (4, 5))
        network = self._network(plan, max(settings.scenes), 0)
        return interval_coverage(
            network,
            plan.degradation,
            calibration,
            test,
            family=str(network.likelihood),
            latent_samples=settings.latent_samples,
            seed=settings.seed,
        )

    def ask_modes(self) -> tuple[dict[str, Any], Figure]:
        """What samples find of fields that training never saw, and a picture of it; see `find_modes`."""
        settings, count = self.settings, self.settings.mode_fields
        learnt, unseen = (known_modes(count, 2 * settings.seed + part) for part in (0, 1))
        network = train_on_modes(learnt, steps=settings.mode_steps, seed=settings.seed)
        self.bar.update()
        found = find_modes(network, unseen, samples=settings.mode_samples, seed=settings.seed)
        numbers = {
            "samples": settings.mode_samples,
            "recall": found.recall,
            "near_a_mode": found.near,
            "shares": list(found.shares),
            "recall_of_one_answer": found.recall_of_one,
            "as_expected": found.recall >= ENOUGH_RECALL,
        }
        return numbers, modes_figure(unseen, found, rows=min(3, count), samples=min(6, settings.mode_samples))

    def _network(self, plan: PhantomTraining, count: int, member: int) -> UncertainSuperResolution:
        key = (plan, count, member)
        if key not in self._networks:
            seed = 1000 * self.settings.seed + member
            self._networks[key] = train_on_scenes(self.training[:count], plan, seed=seed)
            self.bar.update()
        return self._networks[key]

    def _asked(
        self, network: UncertainSuperResolution, plan: PhantomTraining, count: int, weight_samples: int
    ) -> CalibratedRun:
        deviations: dict[str, dict[str, dict[str, float]]] = {}
        draws = {"weight_samples": weight_samples, "latent_samples": self.settings.latent_samples}
        for group, scenes in {SEEN: self.training[:count][: self.settings.asked], **self.groups}.items():
            generator = torch.Generator().manual_seed(self.settings.seed)
            low_res = plan.degradation(scenes, generator=generator)
            for kind, values in scene_deviations(network, low_res, generator=generator, **draws).items():
                named = {f"{group} {i}": LEVELS * value for i, value in enumerate(values.tolist())}
                deviations.setdefault(kind, {})[group] = named
        settings = {"training_tiles": float(count), "scale": float(plan.scale), "noise": plan.noise}
        return CalibratedRun(f"{plan.weights} {count}", settings, deviations)


def _drawn(count: int, seed: Sequence[int], size: Sequence[int], pixel_size_m: float) -> Tensor:
    """(count, 3, H, W) in [0, 1]"""
    scenes = [
        draw_aerial(size, layout_seed=(*seed, i), texture_seed=(*seed, i), pixel_size_m=pixel_size_m)
        for i in range(count)
    ]
    return torch.stack(scenes).float() / LEVELS


def _place_numbers(effect: PlaceEffect) -> dict[str, Any]:
    return {
        "group": effect.group,
        "seen_mean": float(effect.seen.mean()),
        "mean": float(effect.unseen.mean()),
        "probability": effect.probability,
        "as_expected": effect.rises,
    }


def _trend_numbers(found: Trend) -> dict[str, Any]:
    means = dict(zip((f"{value:g}" for value in found.values), found.tiles.mean(1).tolist(), strict=True))
    return {"means": means, "scenes_moved_as_expected": found.moved, "as_expected": found.as_expected}


def _places_figure(places: Mapping[str, Sequence[PlaceEffect]]) -> Figure:
    figure, axes = _panels(len(places), "Epistemic sd of a scene (levels of 255)")
    for axis, (way, effects) in zip(axes, places.items(), strict=True):
        values = [effects[0].seen, *(effect.unseen for effect in effects)]
        boxes = axis.boxplot(values, widths=0.7, showfliers=False, patch_artist=True, medianprops={"color": "black"})
        for box, colour in zip(boxes["boxes"], ("#BBBBBB", *OKABE_ITO), strict=False):
            box.set_facecolor(colour)
        labels = [
            f"{GROUPS[SEEN]}\nn = {len(values[0])}",
            *(f"{GROUPS[e.group]}\nn = {len(e.unseen)}, P = {e.probability:.2f}" for e in effects),
        ]
        axis.set_xticklabels(labels, fontsize=7, rotation=30, ha="right")
        axis.set_ylim(0, None)
        axis.set_title(way, fontsize=9)
    figure.suptitle("P: probability that such a scene is more uncertain than one learnt from", fontsize=8)
    return figure


def _amounts_figure(falls: Mapping[str, Trend]) -> Figure:
    figure, axes = _panels(len(falls), "")
    for axis, (way, found) in zip(axes, falls.items(), strict=True):
        draw_trend(axis, found, of="scenes")
        axis.set_title(f"{way}, {found.tiles.shape[1]} scenes", fontsize=9)
    return figure


def _trend_figure(found: Trend) -> Figure:
    figure, (axis,) = _panels(1, "")
    draw_trend(axis, found, of="scenes")
    axis.set_title(f"{found.tiles.shape[1]} scenes, {sum(found.runs)} networks", fontsize=9)
    return figure


def _panels(count: int, label: str) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(0.9 + 3.1 * count, 3.4), layout="constrained")
    axes = list(figure.subplots(1, count, squeeze=False)[0])
    for axis in axes:
        plain_axis(axis)
    axes[0].set_ylabel(label)
    return figure, axes


def run(options: UncertaintyChecksOptions) -> int:
    """`python -m monai_ext uncertainty_checks`."""
    settings = CheckSettings(
        training=PhantomTraining(steps=options.steps),
        members=options.members,
        scenes=options.scenes,
        seed=options.seed,
    )
    document = uncertainty_checks(options.output_dir, settings)
    for way in WAYS:
        for found in document["epistemic_by_place"][way]:
            print(
                f"epistemic, {way}: {found['seen_mean']:.2f} levels on scenes learnt from, {found['mean']:.2f} on "
                f"{GROUPS[found['group']]}: {_verdict(found)}"
            )
    for way in WAYS:
        print(f"epistemic, {way}, falls with training scenes: {_means(document['epistemic_by_amount'][way])}")
    print(f"ambiguity rises with scale: {_means(document['ambiguity_by_scale'])}")
    print(f"aleatoric rises with noise: {_means(document['aleatoric_by_noise'])}")
    intervals, modes = document["intervals"], document["modes"]
    covered = ", ".join(f"{row['nominal']:.0%}: {row['after']:.1%}" for row in intervals["coverage"])
    print(f"calibrated intervals reach their nominal coverage: {_verdict(intervals)} ({covered})")
    print(
        f"{modes['samples']} samples find all modes: {_verdict(modes)} (recall {modes['recall']:.2f}; "
        f"{modes['near_a_mode']:.0%} of the samples are near a mode)"
    )
    tell(f"figures and numbers in {options.output_dir}")
    return 0


def _verdict(answer: Mapping[str, Any]) -> str:
    return "yes" if answer["as_expected"] else "NO"


def _means(answer: Mapping[str, Any]) -> str:
    means = ", ".join(f"{value}: {mean:.2f}" for value, mean in answer["means"].items())
    return f"{_verdict(answer)} ({means})"

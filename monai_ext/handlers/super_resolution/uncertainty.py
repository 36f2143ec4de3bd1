"""Conformal calibration of uncertainty on some places and its report on others: table, summary in JSON, figures."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence, Sized
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from monai_ext.data import tile_set
from monai_ext.engines.uncertainty import KINDS
from monai_ext.handlers.engine import Engine
from monai_ext.handlers.epochs import EpochHandler
from monai_ext.handlers.super_resolution.scores import places_of
from monai_ext.handlers.super_resolution.uncertainty_figures import reliability_figure, sparsification_figure
from monai_ext.handlers.training.run_settings import RunSettings
from monai_ext.handlers.training.weight_digests import weight_digests
from monai_ext.metrics.conformal import (
    Calibration,
    ConformalRule,
    coverage_of_places_left_out,
    write_calibration,
)
from monai_ext.metrics.sample_sets import SampleSetScores
from monai_ext.metrics.uncertainty import UncertaintyScores
from monai_ext.metrics.uncertainty_tables import (
    LEVELS,
    UncertaintyTable,
    covered_share,
    interval_quality,
    reliability_curve,
    sparsification_curves,
)
from monai_ext.storage.files import write_table
from monai_ext.storage.pictures import save_figure
from monai_ext.storage.records import write_record

__all__ = ["CALIBRATION_GROUP", "UncertaintyReport", "foreign_tiles", "group_tiles"]

CALIBRATION_GROUP = "calibration"
NOTICEABLE = 0.02  # coverage above the nominal one
CONVENTIONS = {
    "unit": "values are those of single pixels and bands on the [0, 1] scale; means are over tiles",
    "floor": "but in sd, no standard deviation counts as less than that of rounding to 8 bits, 1 / (255 sqrt 12)",
    "coverage, width, winkler": "central intervals of the family at 1 - alpha; width not cut to [0, 1]",
    "calibrated": "the same with the conformal multiplier, chosen on the group 'calibration' alone",
    "coverage_of_places_left_out": "of the group 'calibration': each place by a multiplier chosen on the other places",
    "uce, ence": "15 groups of values of equal count by predicted variance, all tiles together",
    "ause": "mean over removed shares 0, 0.01 ... 0.99 of the gap in RMSE to the oracle, relative to the RMSE of all",
    "diversity": "NTIRE: 100 (global best - local best) / global best, squared differences, mean over bands",
    "energy_score": "E d(x, y) - E d(x, x') / 2 with d the root mean square difference, different draws",
}

_logger = logging.getLogger(__name__)


def group_tiles(parts: Mapping[str, Sequence[Mapping]], *, at_most: int | None = None) -> list[dict[str, Any]]:
    """All tiles of "calibration" and at most as many of each other part, at equal steps, with the part as "group".

    >>> tiles = [{"id": name} for name in "abcdef"]
    >>> [(item["id"], item["group"]) for item in group_tiles({"calibration": tiles[:1], "test": tiles[2:]}, at_most=2)]
    [('a', 'calibration'), ('c', 'test'), ('e', 'test')]

    Args:
        parts: name of the group -> its items, with "id".
        at_most: None: all tiles.

    Raises:
        ValueError: a tile is in two groups, or `at_most` is below 1.
    """
    if at_most is not None and at_most < 1:
        raise ValueError(f"at_most={at_most}: take at least one tile of each group, or None for all.")
    items: dict[str, dict[str, Any]] = {}
    for group, members in parts.items():
        count = len(members) if at_most is None or group == CALIBRATION_GROUP else min(at_most, len(members))
        for item in (members[i * len(members) // count] for i in range(count)):
            if item["id"] in items:
                other = items[item["id"]]["group"]
                raise ValueError(f"tile '{item['id']}' is in the groups '{other}' and '{group}'.")
            items[item["id"]] = {**item, "group": group}
    return list(items.values())


def foreign_tiles(folder: str | Path | None, *, block: int = 8) -> list[dict[str, Any]]:
    """`tile_items` of a folder unrelated to the tiles of the run, renamed and with places of their own; [] without."""
    items = [] if folder is None else tile_set(folder, block=block, whole=True)
    return [item | {"id": f"foreign {item['id']}", "place": f"foreign {item['place']}"} for item in items]


class UncertaintyReport(EpochHandler):
    """Chooses conformal intervals on one group of tiles and scores every kind of uncertainty on each group.

    For an evaluator in one process that returns what `UncertaintyInferer` does. When the epoch ends, each file at once
    or not at all:

    * `calibration_path`: the intervals of the total variance, see `Calibration`;
    * `summary.json`: per group and kind all scores, calibrated intervals and curves, with every convention; and the
      coverage of each calibration place by intervals chosen on the others, `coverage_of_places_left_out`;
    * `tiles.csv`: a row for each tile;
    * `reliability.png` and `sparsification.png`.

    Args:
        folder: of all files but the first.
        items: tiles with their id, "group" and "place" (without one, a tile is a place of its own), see `group_tiles`;
            intervals are chosen on the group "calibration".
        rule: how.
        checkpoints: the files of weights, whose `weight_digests` are kept in the calibration.
        calibration_path: None: `calibration.json` beside the first checkpoint, or in the folder.
        family: of likelihood, CRPS and nominal intervals: "laplace" or "gaussian".
        degradation: for the consistency of samples with their input, see `SampleSetScores`.
        settings: what distinguishes this run, kept in the summary with the numbers at the top of the config.
        counts: names -> items, whose number becomes a setting.

    Raises:
        ValueError: no tile is of the group "calibration", or they are too few for the rule.
    """

    only_finite = True

    def __init__(
        self,
        folder: str | Path,
        items: Sequence[Mapping[str, Any]],
        *,
        rule: ConformalRule,
        checkpoints: Sequence[str | Path] = (),
        calibration_path: str | Path | None = None,
        family: str = "laplace",
        degradation: Any = None,
        settings: Mapping[str, Any] | None = None,
        counts: Mapping[str, Sized] | None = None,
    ):
        self.groups: dict[str, str] = {item["id"]: item["group"] for item in items}
        self.places = places_of(items)
        if CALIBRATION_GROUP not in self.groups.values():
            raise ValueError(
                "no tile is of the group 'calibration': intervals need tiles that nothing was learnt from."
            )
        self.folder, self.rule = Path(folder), rule
        self.settings = RunSettings(settings, counts=counts)
        beside = Path(checkpoints[0]).parent if checkpoints else self.folder
        self.calibration_path = Path(calibration_path or beside / "calibration.json")
        self.family, self.degradation, self.weights = family, degradation, weight_digests(checkpoints)

    def reset(self, engine: Engine) -> None:
        self._scores: defaultdict[tuple[str, str], UncertaintyScores] = defaultdict(
            lambda: UncertaintyScores(family=self.family, alpha=self.rule.alpha)
        )
        self._sets: defaultdict[str, SampleSetScores] = defaultdict(
            lambda: SampleSetScores(degradation=self.degradation)
        )
        self._ids: dict[str, list[str]] = defaultdict(list)
        self._shares: dict[str, list[Tensor]] = defaultdict(list)  # of each tile by |e| / s of the total, 10 kB

    def collect(self, engine: Engine) -> None:
        low_res, label, predicted = (engine.state.output[key] for key in ("image", "label", "pred"))
        levels, names = engine.state.output.get("levels"), engine.state.batch["id"]
        members = [self.groups[name] for name in names]
        for group in dict.fromkeys(members):
            rows = [i for i, member in enumerate(members) if member == group]
            mean, target = predicted["mean"][rows], label[rows]
            for kind in KINDS:
                self._scores[group, kind](mean, target, variance=predicted[kind][rows])
            if "samples" in predicted:
                given = None if levels is None else levels[rows]
                self._sets[group](predicted["samples"][rows], target, low_res=low_res[rows], levels=given)
            latest = self._scores[group, "total"].latest
            assert latest is not None  # it was just updated
            shares = latest.ratios[..., 0]  # (b, C, Q)
            self._shares[group].append(shares.float().cpu())
            self._ids[group] += [names[i] for i in rows]

    def finish(self, engine: Engine) -> None:
        if CALIBRATION_GROUP not in self._ids:
            raise ValueError("the data set held none of the tiles of the group 'calibration'.")
        draws = {name: getattr(engine.inferer, name, None) for name in ("weight_samples", "latent_samples")}
        known: dict[str, Any] = {"places": self._place_count(CALIBRATION_GROUP), "weights": self.weights, **draws}
        tables = {key: scores.table() for key, scores in self._scores.items()}
        chosen = {kind: self.rule.choose(tables[CALIBRATION_GROUP, kind], kind=kind, **known) for kind in KINDS}
        _warn_of_caution(chosen["total"])
        covered = {group: self._covered(group, chosen["total"]) for group in self._ids}
        groups = {
            group: self._summary(group, {kind: tables[group, kind] for kind in KINDS}, chosen, covered[group])
            for group in self._ids
        }
        left_out = self._left_out()
        summary = {
            "settings": self.settings.read(),
            "draws": draws | {"samples": getattr(engine.inferer, "samples", None)},
            "rule": vars(self.rule),
            "family": self.family,
            "coverage_of_places_left_out": left_out,
            "groups": groups,
            "conventions": CONVENTIONS,
        }
        write_calibration(chosen["total"], self.calibration_path)
        write_table(self.folder / "tiles.csv", self._tiles(covered), digits=".6g")
        write_record(self.folder / "summary.json", _rounded(summary))
        self._draw(groups)
        for group, part in groups.items():
            share = part["kinds"]["total"]["calibrated"]["coverage"]
            _logger.info(
                f"{group}: {share:.1%} of the values of {part['tiles']} tiles lie in intervals of nominally "
                f"{1 - self.rule.alpha:.0%}; report in '{self.folder}'"
            )
        known_shares = {place: share for place, share in left_out.items() if share is not None}
        if known_shares:
            lowest, highest = (choice(known_shares, key=known_shares.__getitem__) for choice in (min, max))
            _logger.info(
                f"each calibration place by the others: {known_shares[lowest]:.1%} ({lowest}) to "
                f"{known_shares[highest]:.1%} ({highest}) of its values; expect as much of a further place"
            )

    def _place_count(self, group: str) -> int:
        return len({self.places.get(name, name) for name in self._ids[group]})

    def _left_out(self) -> dict[str, float | None]:
        """Coverage of each calibration place by the others; tiles without a place are not places to leave out."""
        names = self._ids[CALIBRATION_GROUP]
        if not all(name in self.places for name in names):
            return {}
        shares = torch.cat(self._shares[CALIBRATION_GROUP]).double()
        return coverage_of_places_left_out(shares, [self.places[name] for name in names], self.rule)

    def _covered(self, group: str, calibration: Calibration) -> list[float]:
        """Share of each tile's values inside the calibrated intervals."""
        shares = torch.cat(self._shares[group]).double()
        return covered_share(shares, calibration.multiplier).mean(1).tolist()

    def _summary(
        self,
        group: str,
        tables: Mapping[str, UncertaintyTable],
        chosen: Mapping[str, Calibration],
        covered: list[float],
    ) -> dict[str, Any]:
        kinds = {}
        for kind, table in tables.items():
            quality = interval_quality(table, chosen[kind].multiplier, alpha=self.rule.alpha)
            nominal, found = reliability_curve(table, levels=LEVELS, family=self.family)
            curves = sparsification_curves(table)
            kinds[kind] = self._scores[group, kind].aggregate() | {
                "calibrated": {"multiplier": chosen[kind].multiplier}
                | {name: values.mean().item() for name, values in quality.items()},
                "reliability": {"nominal": nominal.tolist(), "found": found.tolist()},
                "sparsification": {name: values.tolist() for name, values in curves._asdict().items()},
            }
        by_place = defaultdict(list)
        for name, share in zip(self._ids[group], covered, strict=True):
            by_place[self.places.get(name, name)].append(share)
        means = sorted(sum(shares) / len(shares) for shares in by_place.values())
        return {
            "tiles": len(self._ids[group]),
            "places": len(by_place),
            "calibrated_coverage_of_places": {"lowest": means[0], "highest": means[-1]},
            "kinds": kinds,
            "samples": self._sets[group].aggregate() if group in self._sets else None,
        }

    def _tiles(self, covered: Mapping[str, list[float]]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for group, names in self._ids.items():
            total = self._scores[group, "total"].per_image()
            columns = {name: total[name] for name in ("rmse", "nll", "crps", "coverage", "width", "winkler")}
            columns["calibrated_coverage"] = torch.tensor(covered[group])
            for score in ("sd", "ause"):
                columns |= {f"{kind}_{score}": self._scores[group, kind].per_image()[score] for kind in KINDS}
            if group in self._sets:
                columns |= self._sets[group].per_image()
            values = {name: column.tolist() for name, column in columns.items()}
            for i, name in enumerate(names):
                place = {"id": name, "place": self.places.get(name, name), "group": group}
                rows.append(place | {key: column[i] for key, column in values.items()})
        return sorted(rows, key=lambda row: (row["group"], row["id"]))

    def _draw(self, groups: Mapping[str, Mapping]) -> None:
        titles = {group: f"{group}: {part['tiles']} tiles, {part['places']} places" for group, part in groups.items()}
        reliability, rest, oracles, calibrated = {}, {}, {}, {}
        for group, title in titles.items():
            kinds = groups[group]["kinds"]
            reliability[title] = {k: (v["reliability"]["nominal"], v["reliability"]["found"]) for k, v in kinds.items()}
            curves = {kind: values["sparsification"] for kind, values in kinds.items()}
            rest[title] = {kind: (curve["removed"], curve["by_uncertainty"]) for kind, curve in curves.items()}
            oracles[title] = (curves["total"]["removed"], curves["total"]["oracle"])
            calibrated[title] = kinds["total"]["calibrated"]["coverage"]
        figure = reliability_figure(reliability, calibrated, nominal=1 - self.rule.alpha)
        save_figure(figure, self.folder / "reliability.png")
        save_figure(sparsification_figure(rest, oracles), self.folder / "sparsification.png")


def _warn_of_caution(calibration: Calibration) -> None:
    covered = sum(calibration.coverage) / len(calibration.coverage)
    if covered > 1 - calibration.alpha + NOTICEABLE:
        _logger.warning(
            f"{calibration.images} calibration tiles are few for '{calibration.method}': intervals of nominally "
            f"{1 - calibration.alpha:.0%} cover {covered:.1%} of their values; set more tiles apart."
        )


def _rounded(value: Any) -> Any:
    """Six digits of every number in a document."""
    if isinstance(value, Mapping):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(part) for part in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value

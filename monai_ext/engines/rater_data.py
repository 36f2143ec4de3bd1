"""The cases that a method for several raters learns from, and those by which it is scored."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from monai_ext.data import DatasetLayoutError, fold_items, identified_raters, qubiq_items
from monai_ext.data.folds import Group
from monai_ext.data.raters.qubiq import find_parts
from monai_ext.data.raters.structures import rater_labels, structure_count
from monai_ext.data.run_cases import RunCases
from monai_ext.engines.rater_methods import FAITHFUL, PER_RATER_METHODS, check_method
from monai_ext.raster.labels import Labels
from monai_ext.runtime.hosts import in_monai_label
from monai_ext.runtime.settings import as_bool

__all__ = ["RaterCases", "rater_cases"]

_logger = logging.getLogger(__name__)


def rater_cases(
    dataset_dir: str | os.PathLike,
    *,
    method: str,
    raters: Sequence[int] | None = None,
    region: str | None = None,
    part: str = "Training",
    task: int = 1,
    tasks: Sequence[int] | None = None,
    anonymous: bool | str = False,
    slices: bool | str = False,
    labels: Labels = None,
    evaluation: bool = False,
) -> list[dict]:
    """`qubiq_items` of the raters `raters`, if `method` may learn from them, or be scored by them.

    A method that predicts each rater needs raters who are the same people in all cases, and to learn from
    them at least one mask of each. Raters of the data set who are left out are named in a warning. The other
    methods take all raters, or those of `raters` that there are.

    Args:
        method: as for `rater_network`, or "prob_unet_faithful".
        raters: numbers of the raters, in the order of the heads; None or [], for the other methods: all there are.
        region, part, task, tasks, anonymous, slices, labels: see `qubiq_items`.
        evaluation: list cases to be scored; `raters` are those of the training, and all of them are kept as columns,
            whoever marked nothing here being None in all cases.

    Raises:
        ValueError: no such method; anonymous or no raters for a method that predicts each.
        DatasetLayoutError: `raters` are not in the data set (`evaluation`: none of them is), or as `qubiq_items`.
    """
    if method != FAITHFUL:
        check_method(method)
    items = qubiq_items(
        dataset_dir,
        region=region,
        part=part,
        task=task,
        tasks=tasks,
        anonymous=as_bool(anonymous, "anonymous"),
        slices=as_bool(slices, "slices"),
        labels=labels,
    )
    place = f"{dataset_dir} ({part})"
    columns = items[0]["raters"]
    marking = [number for r, number in enumerate(columns) if any(any(rater_labels(item)[r]) for item in items)]
    wanted = [int(number) for number in raters or marking]
    if method in PER_RATER_METHODS:
        identified_raters(items)
        if not raters:
            raise ValueError(f"method={method!r} has a head for each rater: set --raters '{marking}'.")
    if not evaluation:
        wanted = _to_learn_from(wanted, marking, place, all_needed=method in PER_RATER_METHODS)
    elif not set(wanted) & set(marking):
        raise DatasetLayoutError(
            f"none of the raters of the training, {_listed(wanted)}, marked a case of {place}, only "
            f"{_listed(marking)} did: nobody is left to score by."
        )
    _warn_of_others(wanted, marking, place, evaluation=evaluation)
    places = [columns.index(number) if number in columns else None for number in wanted]
    chosen = []
    for item in items:
        own = rater_labels(item)
        of_wanted = [[None] * structure_count(item) if p is None else own[p] for p in places]
        chosen.append(item | {"raters": list(wanted), "label": [path for paths in of_wanted for path in paths]})
    unmarked = [item["id"] for item in chosen if not any(item["label"])]
    if unmarked:
        way_out = "take the cases out" if evaluation else "add raters to --raters, or take the cases out"
        raise DatasetLayoutError(
            f"case {unmarked[0]} of {place} has no mask by any of the raters {_listed(wanted)} "
            f"({len(unmarked)} such cases): {way_out}."
        )
    if method in (FAITHFUL, "prob_unet", "hierarchical") and not evaluation:
        _refuse_incomplete(chosen, place)
    return chosen


def _refuse_incomplete(items: Sequence[Mapping], place: str) -> None:
    """A probabilistic U-Net learns a sample, all structures of one rater, at a time: each case must have one."""
    incomplete = [item["id"] for item in items if not any(all(own) for own in rater_labels(item))]
    if incomplete:
        raise DatasetLayoutError(
            f"case {incomplete[0]} of {place} has no rater who marked all of {', '.join(items[0]['structures'])} "
            f"({len(incomplete)} such cases), and a probabilistic U-Net learns all masks of a rater at once: take the "
            "cases out, or name fewer tasks."
        )


class RaterCases:
    """The cases that a method learns from and those by which it is scored, each listed when first asked for.

    Known raters are those of the training. A data set without a training part, such as a folder of test cases alone,
    has no validation fold; its raters are those that marked it, unless `raters` names those in the training.

    Args:
        dataset_dir, method, raters, region, anonymous, kwargs: as for `rater_cases`.
        fold, folds, seed, group, split_file: see `fold_items`.
        validation_part: the part of the data set by which a run is scored; None: the validation fold of its training
            part.
        recorded: cases of the run that is scored, which decide what is held out.

    Attributes:
        training: cases of all other folds.
        validation: cases of the fold, or of `validation_part`.
        known_raters: numbers of the raters, the same people in all cases; None where they are anonymous.
    """

    def __init__(
        self,
        dataset_dir: str | os.PathLike,
        *,
        method: str,
        raters: Sequence[int] | None = None,
        region: str | None = None,
        anonymous: bool | str = False,
        fold: int | Literal["all"] = 0,
        folds: int = 5,
        seed: int = 0,
        group: Group = None,
        validation_part: str | None = None,
        recorded: RunCases | None = None,
        split_file: str | os.PathLike | None = None,
        **kwargs: Any,
    ):
        self.dataset_dir, self.raters, self.validation_part = dataset_dir, raters, validation_part
        self.recorded = recorded
        self.options: dict[str, Any] = {"method": method, "region": region, "anonymous": anonymous, **kwargs}
        self.folds: dict[str, Any] = {
            "fold": fold,
            "folds": folds,
            "seed": seed,
            "group": group,
            "split_file": split_file,
        }

    @cached_property
    def _labelled(self) -> list[dict]:
        return rater_cases(self.dataset_dir, raters=self.raters, **self.options)

    @cached_property
    def training(self) -> list[Mapping]:
        return fold_items(self._labelled, **self.folds)

    @cached_property
    def validation(self) -> list[Mapping]:
        if self.validation_part is None:
            return fold_items(self._labelled, part="validation", recorded=self.recorded, **self.folds)
        raters = self.raters
        if not raters and "training" in find_parts(Path(self.dataset_dir), self.options["region"]):
            raters = None if self._are_anonymous else self._labelled[0]["raters"]
        of_part: dict[str, Any] = {"part": self.validation_part, "evaluation": True, **self.options}
        cases = rater_cases(self.dataset_dir, raters=raters, **of_part)
        return [*cases] if self.recorded is None else self.recorded.check(cases)

    @property
    def known_raters(self) -> list[int] | None:
        if in_monai_label():  # which hands in the cases itself, with one mask each
            if (method := self.options["method"]) in PER_RATER_METHODS:
                raise DatasetLayoutError(
                    f"MONAI Label keeps one mask of each image, and {method} learns from those of each rater: train "
                    "prob_unet there, or qubiq_holistic by a command, from a folder in the QUBIQ layout."
                )
            return None
        if self._are_anonymous:
            return None
        return list(self.validation[0]["raters"])

    @property
    def _are_anonymous(self) -> bool:
        return as_bool(self.options["anonymous"], "anonymous")


def _to_learn_from(wanted: Sequence[int], marking: Sequence[int], place: str, *, all_needed: bool) -> list[int]:
    """Those of `wanted` who marked anything, or a DatasetLayoutError where that is nobody, or not all that must."""
    unknown = [number for number in wanted if number not in marking]
    if all_needed and unknown:
        raise DatasetLayoutError(
            f"no case of {place} has a mask by rater {_listed(unknown)}, who should have a head: the raters "
            f"there are {_listed(marking)}, so set --raters '{list(marking)}'."
        )
    if len(unknown) == len(wanted):
        raise DatasetLayoutError(
            f"raters {_listed(unknown)} marked nothing in {place}, only {_listed(marking)} did: set --raters "
            f"'{list(marking)}'."
        )
    return [number for number in wanted if number in marking]


def _warn_of_others(wanted: Sequence[int], marking: Sequence[int], place: str, *, evaluation: bool) -> None:
    left_out = [number for number in marking if number not in wanted]
    if left_out:
        reason = "the training had none of them" if evaluation else f"--raters '{list(marking)}' takes all of them"
        _logger.warning(f"raters {_listed(left_out)} of {place} are left out: {reason}")
    missing = [number for number in wanted if number not in marking]
    if missing:  # in an evaluation alone
        _logger.warning(f"raters {_listed(missing)} of the training marked no case of {place}: no score with them")


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))

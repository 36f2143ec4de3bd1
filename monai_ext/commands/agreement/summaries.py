"""What the measures of the cases of one structure come to: agreement beyond chance, pairs, habits, order of cases."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import friedmanchisquare

from monai_ext.commands.agreement.measures import HABITS, PAIR_SCORES, CaseMeasures
from monai_ext.commands.agreement.records import CaseAgreement, ChanceAgreement, PairAgreement, RaterHabits
from monai_ext.commands.agreement.reliability import (
    area_features,
    fleiss_kappa,
    intraclass_correlations,
    krippendorff_alpha,
)
from monai_ext.commands.agreement.study import StudySize
from monai_ext.commands.agreement.suspects import SuspectMask
from monai_ext.commands.scoring.records import Interval
from monai_ext.commands.scoring.summaries import mean_intervals
from monai_ext.commands.statistics import mean_of_known
from monai_ext.data.item_numbers import MaskNumbers
from monai_ext.formulas.bootstrap import resampled_means
from monai_ext.storage.records import finite_or_none

__all__ = [
    "Measured",
    "beyond_chance",
    "case_means",
    "design_effect",
    "known_quantiles",
    "left_out",
    "ordered_cases",
    "pair_agreements",
    "rater_habits",
    "sizes_differ",
]

QUANTILES = (0.05, 0.5, 0.95)
Numbers = NDArray[np.float64]


class Measured(NamedTuple):
    """A case of a structure, without its pixels."""

    item: Mapping
    measures: CaseMeasures
    suspects: list[SuspectMask]
    look: tuple[MaskNumbers, ...]
    spacing: tuple[float, ...] | None


def case_means(measured: Sequence[Measured], name: str) -> Numbers:
    """Mean over the pairs of raters of each case."""
    return np.array([float(mean_of_known(case.measures.pairs[name])) for case in measured])


def known_quantiles(values: Numbers) -> list[float]:
    """5 %, 50 % and 95 % of the values that are there; none of none."""
    known = values[~np.isnan(values)]
    return [float(value) for value in np.quantile(known, QUANTILES)] if known.size else []


def beyond_chance(
    measured: Sequence[Measured], areas: Numbers, draw: Mapping[str, Any], *, anonymous: bool
) -> list[ChanceAgreement]:
    """Agreement beyond chance of pixels and areas, with intervals; what does not exist is left out.

    Args:
        draw: groups, resamples and seed of the bootstrap.
        anonymous: raters differ from case to case.
    """
    found = []
    for place, region in enumerate(("image", "box around the masks")):
        tables = np.stack([case.measures.votes[place] for case in measured])
        size = tables.shape[1]
        drawn = resampled_means(tables.reshape(len(tables), -1).T, **draw).reshape(-1, size, size) * len(tables)
        for name, function in (("Krippendorff's alpha", krippendorff_alpha), ("Fleiss' kappa", fleiss_kappa)):
            found.append(_with_interval(name, f"pixels of the {region}", function(tables.sum(0)), function(drawn)))
    complete = ~np.isnan(areas).any(1)
    cases = int(complete.sum())
    if cases > 1:
        features = np.full((len(areas), 3 + areas.shape[1]), np.nan)
        features[complete] = area_features(areas[complete])
        values = intraclass_correlations(features[complete].mean(0), cases=cases)
        drawn_values = intraclass_correlations(resampled_means(features.T, **draw), cases=cases)
        for name in ("ICC(1)",) if anonymous else values:
            found.append(_with_interval(name, "areas", values[name], drawn_values[name]))
    return [entry for entry in found if entry.value is not None]


def _with_interval(name: str, of: str, value: Numbers, drawn: Numbers) -> ChanceAgreement:
    known = drawn[~np.isnan(drawn)]
    low, high = np.quantile(known, [0.025, 0.975]).tolist() if known.size else (math.nan, math.nan)
    return ChanceAgreement(
        name=name, of=of, value=finite_or_none(float(value)), low=finite_or_none(low), high=finite_or_none(high)
    )


def design_effect(dice: Numbers, draw: Mapping[str, Any]) -> float:
    """Variance of the mean with groups drawn over that of independent cases."""
    if draw["groups"] is None:
        return 1.0
    known = dice[~np.isnan(dice)]
    drawn = resampled_means(dice, **draw)[:, 0]
    alone = known.var(ddof=1) / known.size if known.size > 1 else 0.0
    return float(np.nanvar(drawn) / alone) if alone > 0 else 1.0


def pair_agreements(
    measured: Sequence[Measured], raters: Sequence[int], draw: Mapping[str, Any]
) -> list[PairAgreement]:
    """How well each two raters agree."""
    found = []
    for i in range(len(raters)):
        for j in range(i + 1, len(raters)):
            rows = [np.array([case.measures.pairs[name][i, j] for case in measured]) for name in PAIR_SCORES]
            if np.isnan(rows[0]).all():
                continue
            found.append(
                PairAgreement(
                    first=raters[i],
                    second=raters[j],
                    equal=sum(bool(case.measures.equal[i, j]) for case in measured),
                    scores=dict(zip(PAIR_SCORES, mean_intervals(rows, **draw), strict=True)),
                )
            )
    return found


def rater_habits(measured: Sequence[Measured], raters: Sequence[int], draw: Mapping[str, Any]) -> list[RaterHabits]:
    """How each rater draws, beside the others."""
    table = np.stack([case.measures.habits for case in measured])
    found = []
    for r, number in enumerate(raters):
        intervals = mean_intervals(table[:, r].T, **draw)
        own = dict(zip(HABITS, intervals[: len(HABITS)], strict=True))
        own["size"] = _exponential(own["size"])
        found.append(
            RaterHabits(
                rater=number,
                cases=int((~np.isnan(np.stack([case.measures.areas for case in measured])[:, r])).sum()),
                empty=int(sum(case.measures.areas[r] == 0 for case in measured)),
                habits=own,
                shift=intervals[len(HABITS) :],
            )
        )
    return found


def _exponential(value: Interval) -> Interval:
    """From a mean log ratio to a relative difference."""
    mean, low, high = (None if part is None else math.expm1(part) for part in (value.mean, value.low, value.high))
    return Interval(mean=mean, low=low, high=high, cases=value.cases)


def sizes_differ(areas: Numbers, groups: Sequence[str] | None) -> float | None:
    """p value of Friedman's test that all raters draw one size; None of fewer than three raters or ten groups.

    Cases of one group, such as slices of one patient, are not independent, and enter as their mean.
    """
    complete = ~np.isnan(areas).any(1)
    areas = areas[complete]
    if groups is not None and len(areas):
        place = np.unique(np.asarray(groups)[complete], return_inverse=True)[1]
        areas = np.stack([np.bincount(place, weights=column) / np.bincount(place) for column in areas.T], axis=1)
    if areas.shape[1] < 3 or len(areas) < 10 or (areas == areas[:, :1]).all():
        return None
    return finite_or_none(float(friedmanchisquare(*areas.T).pvalue))


def ordered_cases(measured: Sequence[Measured], by_case: Mapping[str, Numbers]) -> list[CaseAgreement]:
    """All cases, those with most disagreement first."""
    order = np.argsort(by_case["dice"], kind="stable")  # NaN last
    return [
        CaseAgreement(
            case=measured[i].item["id"],
            raters=int((~np.isnan(measured[i].measures.areas)).sum()),
            scores={name: finite_or_none(float(values[i])) for name, values in by_case.items()},
            area=finite_or_none(float(np.nanmean(measured[i].measures.areas))),
            smallest=finite_or_none(float(np.nanmin(measured[i].measures.areas))),
            largest=finite_or_none(float(np.nanmax(measured[i].measures.areas))),
            share=finite_or_none(measured[i].measures.share),
        )
        for i in order.tolist()
    ]


def left_out(
    raters: Sequence[int], complete: NDArray[np.bool_], study: StudySize | None, *, anonymous: bool
) -> list[str]:
    """Sentences on what does not exist or has fewer cases, and why."""
    lines = []
    if anonymous:
        lines.append(
            "Raters differ from case to case: means of single raters and of pairs of raters, their habits, and the ICC "
            "of two factors do not exist, and are left out."
        )
    if not complete.all():
        lines.append(
            f"Fleiss' kappa, the ICC and the sizes of studies are over the {int(complete.sum())} of {len(complete)} "
            "cases that all raters marked; Krippendorff's alpha is over all."
        )
    if len(raters) == 2:
        lines.append(
            "With two raters each habit is relative to one other person, a likely wrong mask cannot be told from the "
            "other, and what a further rater would bring cannot be estimated."
        )
    if study is None:
        lines.append("Fewer than two cases have all raters: sizes of studies cannot be estimated.")
    return lines

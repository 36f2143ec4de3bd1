"""What agreement.json holds."""

from __future__ import annotations

import msgspec

from monai_ext.commands.agreement.study import StudySize
from monai_ext.commands.agreement.suspects import SuspectMask
from monai_ext.commands.scoring.records import Interval

__all__ = ["Agreement", "CaseAgreement", "ChanceAgreement", "PairAgreement", "RaterHabits", "StructureAgreement"]


class ChanceAgreement(msgspec.Struct, frozen=True, kw_only=True):
    """A chance-corrected measure with its 95 % interval."""

    name: str
    of: str
    value: float | None
    low: float | None
    high: float | None


class PairAgreement(msgspec.Struct, frozen=True, kw_only=True):
    """Two raters over the cases that both marked; `equal`: cases in which their masks are the same, and not empty."""

    first: int
    second: int
    equal: int
    scores: dict[str, Interval]


class RaterHabits(msgspec.Struct, frozen=True, kw_only=True):
    """A rater against the others: means over cases.

    "size" and "roughness" are relative differences, "over" and "under" shares, `shift` distances along the axes.
    """

    rater: int
    cases: int
    empty: int
    habits: dict[str, Interval]
    shift: list[Interval]


class CaseAgreement(msgspec.Struct, frozen=True, kw_only=True):
    """A case: means over its pairs of raters, and areas of its masks."""

    case: str
    raters: int
    scores: dict[str, float | None]
    area: float | None
    smallest: float | None
    largest: float | None
    share: float | None


class StructureAgreement(msgspec.Struct, frozen=True, kw_only=True):
    """One task.

    Attributes:
        alone: cases that fewer than two raters marked, left out.
        marked: number of cases of each rater.
        unit: of distances.
        scores: means over cases, each the mean over its pairs; `quantiles` 5, 50 and 95 % of the cases.
        same_sizes: p of Friedman's test that all columns have masks of one size.
        disagreement: all cases, the lowest Dice first.
        doubtful: what the masks show as a set.
        left_out: what could not be computed.
    """

    task: int
    cases: int
    alone: int
    raters: list[int]
    marked: dict[str, int]
    unit: str
    scores: dict[str, Interval]
    quantiles: dict[str, list[float]]
    chance: list[ChanceAgreement]
    pairs: list[PairAgreement]
    habits: list[RaterHabits]
    same_sizes: float | None
    disagreement: list[CaseAgreement]
    suspects: list[SuspectMask]
    study: StudySize | None
    doubtful: list[str]
    left_out: list[str]


class Agreement(msgspec.Struct, frozen=True, kw_only=True):
    """agreement.json"""

    data: str
    anonymous: bool
    tolerance: float
    group: str | None
    resamples: int
    seed: int
    structures: list[StructureAgreement]

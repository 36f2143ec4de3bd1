"""Choose the spread of the samples of a method on cases whose raters' diversity is known."""

from __future__ import annotations

import logging
import math
import os
from pathlib import Path
from typing import Annotated, Any

import msgspec
from torch import nn

from monai_ext.storage.records import write_record

__all__ = ["ChosenSpread", "choose_spread", "set_spread"]

LEAST_STEP = 0.01  # of the search

_logger = logging.getLogger(__name__)


class ChosenSpread(msgspec.Struct, frozen=True, kw_only=True):
    """The record of `choose_spread`."""

    spread: Annotated[float, msgspec.Meta(ge=0)]
    sample_diversity: float
    rater_diversity: float


def set_spread(network: nn.Module, spread: float) -> None:
    """Set the spread of a method, or of all members of an ensemble.

    Raises:
        ValueError: the method has none.
    """
    for module in _with_spread(network):
        module.spread = spread


def choose_spread(
    evaluator: Any, path: str | os.PathLike, *, highest: float = 16.0, tolerance: float = 0.02
) -> ChosenSpread:
    """The spread at which the mean diversity of the samples is that of the raters, by regula falsi.

    The evaluator is run once for each spread that is tried, first that of its network. Choose on other cases than those
    of the final scores: the energy distance of samples can be lowered by more diversity than the raters have.

    Args:
        evaluator: a `RaterEvaluator` whose metrics are `MeanRaterScores`; its network keeps the spread.
        path: of the JSON record.
        highest: spread that is tried at most; it is kept where even that gives too little diversity.
        tolerance: difference of the diversities, as a share of the raters', at which the search ends.
    """
    below, above = (0.0, 0.0), (math.inf, math.inf)  # spread and share of the raters' diversity, on each side of 1
    spread = min(_with_spread(evaluator.network)[0].spread or 1.0, highest)
    while True:
        set_spread(evaluator.network, spread)
        evaluator.run()
        samples, raters = (evaluator.state.metrics[f"val_{kind}_diversity"] for kind in ("sample", "rater"))
        share = samples / raters if raters else math.inf
        below, above = ((spread, share), above) if share < 1 else (below, (spread, share))
        done = abs(share - 1) <= tolerance or above[0] - below[0] < LEAST_STEP
        if done or not math.isfinite(share) or (spread >= highest and share < 1):
            break
        spread = _between(below, above, highest)
    chosen = ChosenSpread(spread=round(spread, 4), sample_diversity=samples, rater_diversity=raters)
    write_record(Path(path), chosen)
    _logger.info(
        f"spread {chosen.spread:g}: diversity {samples:.3f} of the samples, {raters:.3f} of the raters; use it by "
        f"--spread {chosen.spread:g}"
    )
    return chosen


def _with_spread(network: nn.Module) -> list[Any]:
    found: list[Any] = [module for module in network.modules() if hasattr(module, "spread")]
    if not found:
        raise ValueError(f"{type(network).__name__} has samples without a spread that could be chosen.")
    return found


def _between(below: tuple[float, float], above: tuple[float, float], highest: float) -> float:
    """The next spread to try, from the spread and share on each side of 1.

    Where the line through both is 1, but at least an eighth of the way from either. While only one side is known, in
    proportion to it and a little beyond, by a factor between 1/4 and 4.4.
    """
    if math.isinf(above[0]):
        return min(below[0] * min(4.0, 1 / max(below[1], 0.25)) * 1.1, highest)
    if below == (0.0, 0.0):
        return above[0] * max(0.25, 0.9 / above[1])
    place = (1 - below[1]) / (above[1] - below[1])
    return below[0] + min(max(place, 0.125), 0.875) * (above[0] - below[0])

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
    found: list[Any] = [module for module in network.modules() if hasattr(module, "spread")]
    if not found:
        raise ValueError(f"{type(network).__name__} has samples without a spread that could be chosen.")
    for module in found:
        module.spread = spread


def choose_spread(
    evaluator: Any, path: str | os.PathLike, *, highest: float = 16.0, tolerance: float = 0.02
) -> ChosenSpread:
    """The spread at which the mean diversity of the samples is that of the raters, by bisection.

    The evaluator is run once for each spread that is tried. Choose on other cases than those of the final scores: the
    energy distance of samples can be lowered by more diversity than the raters have.

    Args:
        evaluator: a `RaterEvaluator` whose metrics are `MeanRaterScores`; its network keeps the spread.
        path: of the JSON record.
        highest: spread that is tried at most; it is kept where even that gives too little diversity.
        tolerance: difference of the diversities, as a share of the raters', at which the search ends.
    """

    def diversities(spread: float) -> tuple[float, float]:
        set_spread(evaluator.network, spread)
        evaluator.run()
        metrics = evaluator.state.metrics
        return tuple(metrics[f"val_{kind}_diversity"] for kind in ("sample", "rater"))

    low, high, spread = 0.0, highest, highest
    samples, raters = diversities(spread)
    while samples > raters * (1 + tolerance) or (spread < highest and samples < raters * (1 - tolerance)):
        low, high = (low, spread) if samples > raters else (spread, high)
        if high - low < LEAST_STEP:
            break
        spread = 1.0 if math.isclose(high, highest) and low == 0 else math.sqrt(low * high) if low else high / 2
        samples, raters = diversities(spread)
    chosen = ChosenSpread(spread=round(spread, 4), sample_diversity=samples, rater_diversity=raters)
    write_record(Path(path), chosen)
    _logger.info(
        f"spread {chosen.spread:g}: diversity {samples:.3f} of the samples, {raters:.3f} of the raters; use it by "
        f"--spread {chosen.spread:g}"
    )
    return chosen

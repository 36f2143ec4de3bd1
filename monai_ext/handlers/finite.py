"""Refuse predictions that hold NaN or infinite values before anything is made of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from ignite.engine import Events
from monai.engines import Workflow
from monai.engines.utils import IterationEvents
from torch import Tensor

from monai_ext.handlers.engine import Engine
from monai_ext.runtime.errors import some_of

__all__ = ["refuse_non_finite_predictions"]


def refuse_non_finite_predictions(engine: Engine) -> None:
    """From now on let an iteration whose prediction is not finite end the run, before its post-processing.

    For inference and evaluation: the host waits for each batch.
    """
    event = IterationEvents.FORWARD_COMPLETED if isinstance(engine, Workflow) else Events.ITERATION_COMPLETED
    if not engine.has_event_handler(_check, event):
        engine.add_event_handler(event, _check)


def _check(engine: Engine) -> None:
    output = engine.state.output
    outputs = output if isinstance(output, (list, tuple)) else [output]
    finite = [_finite(each["pred"]) for each in outputs]
    if all(bool(each.all()) for each in finite):
        return
    flags = torch.cat([each.cpu().reshape(-1) for each in finite]).tolist()
    names = _names(engine.state.batch)
    bad = names if len(names) != len(flags) else [name for name, good in zip(names, flags, strict=True) if not good]
    raise ValueError(
        f"the prediction for {some_of(bad)} holds NaN or infinite values: nothing is made of it. See that the images "
        "hold none and are normalised as in the training; other weights may help."
    )


def _finite(prediction: Tensor | Mapping[str, Tensor]) -> Tensor:
    """Which items of a batch are finite in all of their maps, (B,)."""
    maps = list(prediction.values()) if isinstance(prediction, Mapping) else [prediction]
    # By the extremes, which NaN passes on: isfinite would take twice the memory of the samples of a volume.
    extremes = [torch.stack(each.flatten(1).aminmax(dim=1)) for each in maps if each.is_floating_point()]
    return torch.stack([each.isfinite().all(0) for each in extremes]).all(0)


def _names(batch: Any) -> list[str]:
    names = [item["id"] for item in batch] if isinstance(batch, (list, tuple)) else batch.get("id", "a case")
    return [str(name) for name in names] if isinstance(names, (list, tuple)) else [str(names)]

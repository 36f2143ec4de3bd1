"""Load the weights of a finished run, or of a point between two; other networks' are refused in one sentence."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from monai_ext.handlers.training.checkpoints import load_finite_weights

__all__ = ["interpolated_weights", "load_weights", "with_weights"]


def interpolated_weights(path: str | Path, towards: str | Path, share: float) -> dict[str, Any]:
    """(1 - share) times the weights of `path` plus share times those of `towards`, in single precision.

    Network interpolation (Wang et al. 2018, ESRGAN): of a generator before and after its adversarial stage, it trades
    fidelity for texture. `towards` is not read for a share of 0.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: a share outside [0, 1], a damaged file, or files of different networks.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"realism={share}: choose a share from 0 (the first weights) to 1 (the others).")
    first = load_finite_weights(path)
    if not share:
        return first
    second = load_finite_weights(towards)
    if _shapes(first) != _shapes(second):
        raise ValueError(f"'{path}' and '{towards}' hold different networks: nothing lies between their weights.")
    return {name: _between(value, second[name], share) for name, value in first.items()}


def load_weights(
    network: nn.Module, path: str | Path | None, *, towards: str | Path | None = None, realism: float = 0.0
) -> None:
    """Give `network` the weights that `BestCheckpoint` or `FinalCheckpoint` saved.

    Args:
        path: of the checkpoint; None: the network keeps its own.
        towards, realism: a second checkpoint and the share of it, see `interpolated_weights`.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: it is damaged, or it holds another network.
    """
    if path is None:
        return
    state = load_finite_weights(path) if towards is None else interpolated_weights(path, towards, realism)
    there, wanted = _shapes(state), _shapes(network.state_dict())
    if there != wanted:
        left_over = len(there.keys() - wanted.keys())
        more = f" and {left_over} of the checkpoint are left over" if left_over else ""
        raise ValueError(
            f"checkpoint '{path}' holds another network, {len(there.items() & wanted.items())} of the {len(wanted)} "
            f"tensors fit{more}: name weights of this bundle, and set what shapes the network as in their training "
            "(see the run.json beside them)."
        )
    network.load_state_dict(state)


def with_weights(network: nn.Module, files: Mapping[str, str | Path]) -> dict[str, nn.Module]:
    """Name -> a copy of `network` with the weights of that file, in evaluation mode; see `load_weights`."""
    copies = {name: copy.deepcopy(network).eval() for name in files}
    for name, path in files.items():
        load_weights(copies[name], path)
    return copies


def _between(first: Any, second: Any, share: float) -> Any:
    floating = isinstance(first, Tensor) and first.is_floating_point()
    return first.float().lerp(second.float(), share) if floating else first


def _shapes(state: Mapping) -> dict[str, tuple]:
    return {name: tuple(getattr(value, "shape", ())) for name, value in state.items()}

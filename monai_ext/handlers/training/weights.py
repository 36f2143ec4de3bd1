"""Load the weights of a finished run; those of another network are refused in one sentence."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

from torch import nn

from monai_ext.handlers.training.checkpoints import load_checkpoint

__all__ = ["load_weights", "with_weights"]


def load_weights(network: nn.Module, path: str | Path) -> None:
    """Give `network` the weights that `BestCheckpoint` or `FinalCheckpoint` saved.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: it is damaged, or it holds another network.
    """
    state = load_checkpoint(path)
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


def _shapes(state: Mapping) -> dict[str, tuple]:
    return {name: tuple(getattr(value, "shape", ())) for name, value in state.items()}

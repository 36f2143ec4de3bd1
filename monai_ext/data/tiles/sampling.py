"""How often each tile is drawn, so that places and kinds with many tiles do not crowd out the others."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from monai_ext.data.device.dataset import DeviceDataset

__all__ = ["tile_weights"]


def tile_weights(
    dataset: DeviceDataset, *, place_power: float = 1.0, kind_power: float = 1.0, size_power: float = 0.0
) -> Tensor | None:
    """Weights of the tiles of a data set for `DeviceLoader`, (N,) float64; None where all powers leave them alike.

    A tile's weight is (its pixels) ** `size_power`. Then the tiles of each place are scaled together so that the place
    has the sum S ** `place_power` instead of S, and after that those of each kind likewise. With a power of 1 nothing
    changes, with 0 all places (or kinds) are drawn alike, and 0.5 is halfway between. Places and kinds are those of
    the items, see `tile_items`.

    Raises:
        ValueError: a negative power, or items without a place or kind where its power is not 1.

    >>> from monai_ext.data import DeviceDataset
    >>> items = [{"n": i, "place": "town" if i < 4 else "shore"} for i in range(5)]
    >>> tiles = DeviceDataset(items, lambda item: {"image": torch.zeros(3, 8, 8)}, progress=False)
    >>> tile_weights(tiles, place_power=0.5).tolist()
    [0.5, 0.5, 0.5, 0.5, 1.0]
    """
    if min(place_power, kind_power, size_power) < 0:
        raise ValueError(f"place_power={place_power}, kind_power={kind_power}, size_power={size_power}: 0 or more.")
    if (place_power, kind_power, size_power) == (1, 1, 0):
        return None
    pixels = torch.tensor([prod(shape[-2:]) for shape in dataset.shapes("image")], dtype=torch.float64)
    weights = (pixels / pixels.max()) ** size_power
    for key, power in (("place", place_power), ("kind", kind_power)):
        if power != 1:
            weights *= _sums(weights, [item.get(key) for item in dataset.data], key) ** (power - 1)
    return weights


def _sums(weights: Tensor, names: list[str | None], key: str) -> Tensor:
    """For each tile the sum of the weights of all tiles with its name."""
    if not all(names):
        raise ValueError(f"tile {names.index(None)} has no {key}: add the column {key} to manifest.csv, or a pattern.")
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    group = torch.tensor([numbers[name] for name in names])
    return torch.zeros(len(numbers), dtype=weights.dtype).index_add_(0, group, weights)[group]

"""Masks of several raters as bits: eight of them share a byte for each voxel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

__all__ = ["count_key", "pack_bits", "pack_keys", "unpack_bits"]


def pack_bits(masks: Tensor) -> Tensor:
    """Masks (R, ...) of 0 and 1 as bits, uint8 (ceil(R / 8), ...): mask r is bit r mod 8 of entry r // 8.

    >>> pack_bits(torch.tensor([[1, 0], [1, 1], [0, 1]])).tolist()
    [[3, 6]]

    Raises:
        ValueError: there are other values.
    """
    if masks.dtype != torch.bool and len(masks) and ((masks != 0) & (masks != 1)).any():
        raise ValueError(f"masks hold {masks.min().item():g} to {masks.max().item():g}: only 0 and 1 can be bits.")
    packed = torch.zeros((-(-len(masks) // 8), *masks.shape[1:]), dtype=torch.uint8, device=masks.device)
    for number, mask in enumerate(masks):
        packed[number // 8] |= mask.to(torch.uint8) << (number % 8)
    return packed


def unpack_bits(packed: Tensor, count: int) -> Tensor:
    """`count` masks of each item of a batch, uint8 (B, count, ...), from their bits (B, ceil(count / 8), ...)."""
    shifts = torch.arange(min(count, 8), dtype=torch.uint8, device=packed.device)
    bits = (packed[:, :, None] >> shifts.view(-1, *[1] * (packed.ndim - 2))) & 1
    return bits.flatten(1, 2)[:, :count]


def count_key(key: str) -> str:
    """The key of the number of masks that are packed under `key`."""
    return f"{key}_bit_count"


def pack_keys(transform: Callable[[Mapping], Mapping], keys: Sequence[str]) -> Callable[[Mapping], dict]:
    """`transform`, with the tensors `keys` of what it gives as bits and their numbers beside them."""

    def packed(item: Mapping) -> dict:
        result = dict(transform(item))
        for key in keys:
            if key in result:
                value = result[key]
                masks = torch.from_numpy(value) if isinstance(value, np.ndarray) else value.as_subclass(Tensor)
                result[key], result[count_key(key)] = pack_bits(masks), len(masks)
        return result

    return packed

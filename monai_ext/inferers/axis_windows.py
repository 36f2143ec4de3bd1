"""One axis of an image cut into windows: cores of nearly equal length, with context on both sides."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["AxisWindows"]


@dataclass(frozen=True)
class AxisWindows:
    """How one axis of an image is cut.

    Window i covers `size` positions from `edges[i] - context` on, mirrored beyond the image; its core is `edges[i]` to
    `edges[i + 1]`.
    """

    edges: tuple[int, ...]
    context: int
    size: int

    @classmethod
    def cut(cls, length: int, *, tile: int, overlap: int, multiple: int = 1) -> AxisWindows:
        """The fewest windows of at most `tile` pixels, their cores as equal as whole pixels allow.

        >>> AxisWindows.cut(300, tile=256, overlap=32)
        AxisWindows(edges=(0, 150, 300), context=16, size=182)
        """
        count = -(-length // (tile - overlap))
        size = -(-length // count) + overlap
        edges = tuple(length * number // count for number in range(count + 1))
        return cls(edges, overlap // 2, -(-size // multiple) * multiple)

    @property
    def count(self) -> int:
        return len(self.edges) - 1

    def core(self, index: int) -> int:
        """Length of the core of window `index`."""
        return self.edges[index + 1] - self.edges[index]

    def mirrored(self, start: int, stop: int) -> Tensor:
        """Positions `start` ... `stop - 1` of the endless axis as positions in the image: -1 is 1, -2 is 2."""
        last = self.edges[-1] - 1
        if last == 0:
            return torch.zeros(stop - start, dtype=torch.long)
        positions = torch.arange(start, stop).remainder(2 * last)
        return torch.minimum(positions, 2 * last - positions)

"""One axis of an image cut into windows: cores of nearly equal length, with context where the image goes on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["AxisWindows"]


@dataclass(frozen=True)
class AxisWindows:
    """How one axis of an image is cut.

    The core of window i is `edges[i]` to `edges[i + 1]`. All windows have `size` positions, with `context` around the
    core; a window ends where the image ends, so that a network pads there, and nowhere else, as in the whole image.
    """

    edges: tuple[int, ...]
    context: int
    size: int

    @classmethod
    def cut(cls, length: int, *, tile: int, overlap: int, multiple: int = 1) -> AxisWindows:
        """The fewest windows of at most `tile` pixels, their cores as equal as whole pixels allow.

        >>> AxisWindows.cut(300, tile=256, overlap=32)
        AxisWindows(edges=(0, 150, 300), context=16, size=166)
        """
        count, context = 1, overlap // 2

        def size() -> int:
            return -(-length // count) + context * min(count - 1, 2)

        while size() > tile:
            count += 1
        edges = tuple(length * number // count for number in range(count + 1))
        return cls(edges, context, -(-size() // multiple) * multiple)

    @property
    def count(self) -> int:
        return len(self.edges) - 1

    @property
    def length(self) -> int:
        """Of the axis."""
        return self.edges[-1]

    def core(self, index: int) -> int:
        """Length of the core of window `index`."""
        return self.edges[index + 1] - self.edges[index]

    def start(self, index: int) -> int:
        """First position of window `index`."""
        return max(0, min(self.edges[index] - self.context, self.length - self.size))

    def stop(self, index: int) -> int:
        """The position after the last one of window `index` inside the image."""
        return min(self.start(index) + self.size, self.length)

    def offset(self, index: int) -> int:
        """Where in window `index` its core begins."""
        return self.edges[index] - self.start(index)

    def reach(self, index: int) -> tuple[int, int]:
        """First and last position (exclusive) of the core of window `index` with its context, inside the image."""
        return max(self.edges[index] - self.context, 0), min(self.edges[index + 1] + self.context, self.length)

    def mirrored(self, start: int, stop: int) -> Tensor:
        """Positions `start` ... `stop - 1` of the endless axis as positions in the image: -1 is 1, -2 is 2.

        For windows that are larger than the image, because their sides are multiples of a number.
        """
        last = self.length - 1
        if last == 0:
            return torch.zeros(stop - start, dtype=torch.long)
        positions = torch.arange(start, stop).remainder(2 * last)
        return torch.minimum(positions, 2 * last - positions)

"""Random crops of volumes (or pictures) of any sizes, a share of them around what raters marked or disagree on.

Where the crops of an epoch lie is drawn at once on the host; the voxels are copied on the device that holds them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from monai_ext.data.device.dataset import DeviceDataset

__all__ = ["CropPlaces", "RandomCrops"]

KEPT_PLACES = 10_000  # voxels of an item that crops may be centred on, drawn among all of them


class CropPlaces(NamedTuple):
    """Where crops may lie in each of N items with d axes; on the host."""

    sizes: Tensor  # (N, d) int64
    foreground: tuple[Tensor, Tensor]  # places of all items, flat indices into each, and where each one's begin, (N+1,)
    disagreement: tuple[Tensor, Tensor]


class RandomCrops:
    """Crops of one size for `DeviceLoader`.

    A crop is centred on a voxel of its kind, and moved inside where it reaches beyond a border; the rest lie anywhere.
    Where an item has no disagreement, its foreground is taken, and without that any place. An item that is smaller than
    the crop along an axis lies in the middle of it, surrounded by its lowest value, and its masks by 0.

    Args:
        size: *S of a crop, (H, W) or (H, W, D).
        foreground_share: of the crops are centred on a voxel that any rater marked, in any structure.
        disagreement_share: of the crops are centred on a voxel that some of the raters marked, but not all that are
            present.
        per_item: crops of each item in an epoch.
        label_key: where the masks are, (R, *S) or (R, K, *S); "presence" (R,) is beside them, or all are present.

    Raises:
        ValueError: a size or number below 1, or shares that are negative or exceed 1 together.
    """

    def __init__(
        self,
        size: Sequence[int],
        *,
        foreground_share: float = 0.0,
        disagreement_share: float = 0.0,
        per_item: int = 1,
        label_key: str = "label",
    ) -> None:
        self.size = tuple(int(side) for side in size)
        if len(self.size) not in (2, 3) or min(self.size) < 1 or per_item < 1:
            raise ValueError(f"size={list(size)} and per_item={per_item}: give two or three sides, and at least 1.")
        if min(foreground_share, disagreement_share) < 0 or foreground_share + disagreement_share > 1:
            raise ValueError(
                f"foreground_share={foreground_share} and disagreement_share={disagreement_share} must not be "
                "negative, and together not above 1."
            )
        self.foreground_share, self.disagreement_share = float(foreground_share), float(disagreement_share)
        self.per_item, self.label_key = int(per_item), label_key

    def places(self, dataset: DeviceDataset, key: str) -> CropPlaces:
        """Where crops of the tensors `key` may lie, found once.

        Raises:
            ValueError: shares are wanted and the items have no masks.
        """
        sizes = torch.tensor([shape[-len(self.size) :] for shape in dataset.shapes(key)])
        wanted = self.foreground_share > 0 or self.disagreement_share > 0
        foreground, disagreement = [], []
        for index in range(len(dataset) if wanted else 0):
            marked, disputed = self._marks(dataset.masks(index, self.label_key), dataset.row(index, "presence"))
            generator = torch.Generator().manual_seed(index)
            foreground.append(_some_of(marked, generator))
            disagreement.append(_some_of(disputed, generator) if self.disagreement_share else marked.new_zeros(0))
        return CropPlaces(sizes, _joined(foreground, len(sizes)), _joined(disagreement, len(sizes)))

    def _marks(self, masks: Tensor, presence: Tensor | None) -> tuple[Tensor, Tensor]:
        """Whether any rater marked a voxel, and whether those present disagree, (*S) of bool."""
        axes = len(self.size)
        if presence is not None:
            masks = masks[presence.to(masks.device) != 0]
        marked, agreed = (masks != 0).any(0), (masks != 0).all(0)
        disputed = marked & ~agreed
        structures = marked.ndim - axes
        if structures:
            marked, disputed = marked.flatten(0, structures - 1).any(0), disputed.flatten(0, structures - 1).any(0)
        return marked, disputed

    def draw(self, items: Tensor, places: CropPlaces, generator: torch.Generator | None = None) -> Tensor:
        """First voxel of a crop of each of `items` (n,), (n, d); negative where the item is smaller than the crop."""
        axes = len(self.size)
        numbers = torch.rand(len(items), axes + 2, generator=generator, dtype=torch.float64)
        size, sides = torch.tensor(self.size), places.sizes[items]
        room = (sides - size).clamp(min=0)
        starts = (numbers[:, 2:] * (room + 1)).long().clamp(max=room)
        for (flat, begins), share in (
            (places.foreground, self.foreground_share + self.disagreement_share),
            (places.disagreement, self.disagreement_share),  # last, so that it is kept where there is any
        ):
            count = begins[items + 1] - begins[items]
            chosen = ((numbers[:, 0] < share) & (count > 0)).nonzero()[:, 0]
            if not len(chosen):
                continue
            picked = (numbers[chosen, 1] * count[chosen]).long()
            flat_index = flat[begins[items[chosen]] + picked]
            centres = []
            for axis in reversed(range(axes)):
                side = sides[chosen, axis]
                centres.append(flat_index % side)
                flat_index = flat_index // side
            centred = torch.stack(centres[::-1], dim=1) - size // 2
            starts[chosen] = torch.minimum(centred.clamp(min=0), room[chosen])
        return torch.where(sides < size, -((size - sides) // 2), starts)


def _some_of(marked: Tensor, generator: torch.Generator) -> Tensor:
    """Flat indices of marked voxels, on the host, a random part of them where they are many."""
    flat = marked.flatten().nonzero()[:, 0].cpu()
    if len(flat) > KEPT_PLACES:
        flat = flat[torch.randperm(len(flat), generator=generator)[:KEPT_PLACES]]
    return flat


def _joined(parts: Sequence[Tensor], count: int) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([len(part) for part in parts] or [0] * count)
    begins = torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)])
    return (torch.cat([*parts]) if parts else torch.zeros(0, dtype=torch.long)), begins

"""Whole batches of a `DeviceDataset`, picked by index.

The order and the augmentation of an epoch depend on seed and epoch alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from monai_ext.data.device.crops import RandomCrops
from monai_ext.data.device.dataset import DeviceDataset


class DeviceLoader:
    """Iterates over a `DeviceDataset` in whole batches; each iteration is one epoch.

    The order is drawn on the host and copied to the device once an epoch, and so are the random numbers of a transform
    that has `draw` and `apply` (see `monai_ext.transforms.BatchAugment`). The n-th sample of an epoch has the same
    numbers whatever the batch size.

    Every rank has the same number of batches, that of the longest shard (of the shortest with `drop_last`), and every
    item is seen exactly once an epoch: a rank with fewer items makes some batches smaller. Only where it has fewer
    items than batches (then of size 1) are items repeated. Where items of different sizes stay apart, the number is
    that of the rank with most batches (fewest with `drop_last`), for which all ranks must build the loader.

    Args:
        dataset: where the batches come from.
        batch_size: number of items of a batch, at most.
        shuffle: draw a new order each epoch; items of different sizes stay in separate batches.
        drop_last: leave out batches with fewer items, so that all shapes are equal; fewer items than a batch holds are
            one batch.
        seed: of the orders and of the augmentation.
        transform: batch -> batch; called with the batch, or, if it has `draw` and `apply`, through those.
        weights: of the items held, (N,): an epoch has as many items as without, drawn with replacement in proportion to
            their weights; needs `shuffle`. None: every item once.
        mixed_sizes: items of different sizes share batches. `transform` is applied to those of each size apart and must
            give equal sizes, as random crops are; the results are joined.
        crops: crops of the items instead of whole ones, drawn anew each epoch; items of any sizes share batches, and an
            epoch has `crops.per_item` of each.

    Raises:
        ValueError: there is no batch, items of ranks that do not run under torch.distributed differ in size without
            `mixed_sizes`, or weights without `shuffle`, of another number, negative or all 0, or of items of different
            sizes without `mixed_sizes`.
    """

    def __init__(
        self,
        dataset: DeviceDataset,
        batch_size: int,
        *,
        shuffle: bool = False,
        drop_last: bool = False,
        seed: int = 0,
        transform: Callable[[dict], dict] | None = None,
        weights: Sequence[float] | Tensor | None = None,
        mixed_sizes: bool = False,
        crops: RandomCrops | None = None,
    ) -> None:
        if batch_size < 1 or seed < 0:
            raise ValueError(f"batch_size={batch_size} and seed={seed} must be at least 1 and 0.")
        self.crops, self._copies = crops, 1 if crops is None else crops.per_item
        self._places = None if crops is None else crops.places(dataset, "image")
        self._mixed = mixed_sizes or crops is not None
        self.members = [torch.arange(len(dataset)).repeat(self._copies)] if self._mixed else dataset.members
        self.weights = None if weights is None else torch.as_tensor(weights, dtype=torch.float64)
        if self.weights is not None:
            self._check_weights(self.weights, dataset, shuffle=shuffle)
        self.dataset, self.batch_size = dataset, batch_size
        self.shuffle, self.drop_last, self.seed, self.transform = shuffle, drop_last, seed, transform
        self.epoch = 0
        self._count: int | None = None
        self._count = self._common_count()
        self._sizes = self._batch_sizes()
        if not self._sizes:
            raise ValueError(f"no batch of {batch_size} among {len(dataset)} items: choose a smaller batch_size.")

    def __len__(self) -> int:
        return len(self._sizes)

    def __iter__(self) -> Iterator[dict]:
        return map(self.make, self.plans())

    def plans(self) -> Iterator[dict]:
        """The plans of an epoch's batches: "index" (B,) on the device, "host_index" and "starts", "parameters"."""
        epoch, self.epoch = self.epoch, self.epoch + 1
        batches = self.order(epoch)
        sizes = [len(batch) for batch in batches]
        indices = torch.cat(batches).to(self.dataset.device).split(sizes)
        parts: Sequence[Any] = [None] * len(batches)
        transform: Any = self.transform
        if hasattr(transform, "draw") and hasattr(transform, "apply"):
            parts = transform.draw(sum(sizes), self._generator(epoch, 1)).to(self.dataset.device).split(sizes)
        starts: Sequence[Any] = [None] * len(batches)
        if self.crops is not None and self._places is not None:
            starts = self.crops.draw(torch.cat(batches), self._places, self._generator(epoch, 2)).split(sizes)
        for host, index, start, parameters in zip(batches, indices, starts, parts, strict=True):
            first = None if start is None else start.tolist()
            yield {"index": index, "host_index": host.tolist(), "starts": first, "parameters": parameters}

    def make(self, plan: Mapping) -> dict:
        """The batch of a plan of `plans`."""
        apart = self.crops is None and len(self.members) < len(self.dataset.members)
        sizes = self.dataset.runs(plan["host_index"]) if apart else []
        if len(sizes) < 2:
            return self._of_one_size(plan)
        host = torch.tensor(plan["host_index"]).split(sizes)
        parts = [None] * len(sizes) if plan["parameters"] is None else plan["parameters"].split(sizes)
        pieces = zip(plan["index"].split(sizes), [each.tolist() for each in host], parts, strict=True)
        return _joined(
            [self._of_one_size(dict(zip(("index", "host_index", "parameters"), each, strict=True))) for each in pieces]
        )

    def _of_one_size(self, plan: Mapping) -> dict:
        if self.crops is None:
            batch = self.dataset.batch(plan["index"], host_indices=plan["host_index"])
        else:
            batch = self.dataset.crops(plan["host_index"], plan["starts"], self.crops.size, plan["index"])
        transform: Any = self.transform
        if plan["parameters"] is not None:
            return transform.apply(batch, plan["parameters"])
        return batch if transform is None else transform(batch)

    def set_epoch(self, epoch: int) -> None:
        """Number of the epoch that the next iteration is (the first is 0), for a run that is resumed."""
        self.epoch = epoch

    def order(self, epoch: int) -> list[Tensor]:
        """Indices of the batches of an epoch, on the host."""
        generator = self._generator(epoch, 0)
        if self.weights is not None:
            drawn = torch.multinomial(self.weights, sum(self._sizes), replacement=True, generator=generator)
            return [self._beside(batch) for batch in drawn.split(self._sizes)]
        pieces = []
        for members in self.members:
            pieces.append(members[torch.randperm(len(members), generator=generator)] if self.shuffle else members)
        if len(pieces) == 1 and self._count is None:
            wanted = sum(self._sizes)
            repeated = pieces[0].repeat(-(-wanted // len(pieces[0])))
            return [self._beside(batch) for batch in repeated[:wanted].split(self._sizes)]
        batches = [batch for piece in pieces for batch in piece.split(self.batch_size)]
        batches = [batch for batch in batches if len(batch) == self.batch_size or not self.drop_last]
        if self.shuffle:
            batches = [batches[i] for i in torch.randperm(len(batches), generator=generator)]
        return batches if self._count is None else _as_many(batches, self._count)

    def _beside(self, batch: Tensor) -> Tensor:
        """The batch with whole items of one size beside each other."""
        return batch if self.crops is not None else self.dataset.by_size(batch)

    def _batch_sizes(self) -> list[int]:
        size, lengths = self.batch_size, [self._copies * length for length in self.dataset.shard_lengths]
        if len(self.members) > 1 or self._count is not None:
            return [len(batch) for batch in self.order(0)]
        if self.drop_last:
            shortest = min(lengths)
            return [min(size, shortest)] * max(shortest // size, int(shortest > 0))
        count, length = -(-max(lengths) // size), self._copies * len(self.dataset)
        if length > (count - 1) * size:
            return [size] * (count - 1) + [length - (count - 1) * size]
        even, larger = divmod(max(length, count), count)
        return [even + 1] * larger + [even] * (count - larger)

    def _common_count(self) -> int | None:
        """The number of batches of every rank where items of different sizes stay apart in one of them, else None."""
        apart = len(self.members) > 1
        if len(self.dataset.shard_lengths) == 1 or self._mixed:
            return None
        if not (dist.is_available() and dist.is_initialized()):
            if apart:
                raise ValueError("ranks cannot share items of different sizes: set spatial_size in the transform.")
            return None
        found: list[Any] = [None] * len(self.dataset.shard_lengths)
        dist.all_gather_object(found, (apart, len(self._batch_sizes())))
        counts = [count for _, count in found]
        if not any(apart for apart, _ in found):
            return None
        return min(counts) if self.drop_last else max(counts)

    def _check_weights(self, weights: Tensor, dataset: DeviceDataset, *, shuffle: bool) -> None:
        if weights.shape != (len(dataset),):
            raise ValueError(f"weights of shape {tuple(weights.shape)} are not for {len(dataset)} items: one for each.")
        if not (weights.isfinite().all() and weights.min() >= 0 and weights.sum() > 0):
            raise ValueError("weights must be finite, not negative and not all 0.")
        if not shuffle or len(self.members) > 1:
            raise ValueError("weights need shuffle=True, and mixed_sizes=True where items differ in size.")

    def _generator(self, epoch: int, purpose: int) -> torch.Generator:
        state = np.random.SeedSequence([self.seed, epoch, self.dataset.rank, purpose]).generate_state(1, np.uint64)
        return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))


def _as_many(batches: list[Tensor], count: int) -> list[Tensor]:
    """`count` batches of the same items: the largest ones halved, or, if all have one item, some repeated."""
    batches = batches[:count]
    while 0 < len(batches) < count:
        number = max(range(len(batches)), key=lambda i: len(batches[i]))
        batches[number : number + 1] = batches[number].chunk(2) if len(batches[number]) > 1 else [batches[number]] * 2
    return batches


def _joined(pieces: Sequence[Mapping]) -> dict:
    """Batches as one, key by key."""
    joined: dict[str, Any] = {}
    for key, first in pieces[0].items():
        parts = [piece[key] for piece in pieces]
        if isinstance(first, Tensor):
            sizes = {tuple(part.shape[1:]) for part in parts}
            if len(sizes) > 1:
                raise ValueError(
                    f"{key} has the sizes {', '.join(map(str, sorted(sizes)))} in one batch: mixed_sizes needs a "
                    "transform that makes them equal, such as random crops."
                )
            joined[key] = torch.cat(parts)
        else:
            joined[key] = [each for part in parts for each in part]
    return joined

"""A data set decoded once and kept on the device as compact tensors, from which whole batches are picked by index."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import Dataset

from monai_ext.data.device.bits import count_key, pack_keys, unpack_bits
from monai_ext.data.device.cache_file import DecodedFileError, file_key, read_decoded, write_decoded
from monai_ext.data.device.decoded_set import DecodedSet, collect
from monai_ext.data.device.decoding import decode_items
from monai_ext.data.first_look import review
from monai_ext.data.item_numbers import IMAGE_KEY, MASKS_KEY, SetNumbers, set_numbers
from monai_ext.data.raters.structures import column_names
from monai_ext.runtime.memory import DeviceMemoryError, free_memory, in_words

logger = logging.getLogger(__name__)

HOST = torch.device("cpu")


class DeviceDataset(Dataset):
    """Items decoded once, in parallel threads, and held on `device` in the type in which they were decoded.

    To MONAI and PyTorch it is a map-style data set of dicts; `DeviceLoader` takes whole batches from it. Tensors are
    plain; texts other than the id stay in `data`. Items of equal shapes form a group; a batch comes from one group.

    Args:
        data: items, mappings that `transform` takes.
        transform: deterministic decoder, item -> mapping of tensors, arrays or numbers, and optionally "id".
        device: where the tensors lie.
        cache_dir: folder of the decoded-set file, which lets the next start skip the decoding; None: no file. On a CPU
            that start maps the file after a check of its bytes. It is renewed when it is damaged or when a source or a
            setting of `transform` has changed.
        num_workers: decoding threads, see `decode_items`.
        progress: show a bar while decoding.
        on_error: "raise" at an item that cannot be decoded, or "skip" it with a warning.
        shard: under torch.distributed hold every world-size-th item only, starting with the rank; or the pair
            (rank, world size) itself; False holds everything. With on_error="skip" all ranks must build the data set,
            since they exchange what is left.
        spill: "host" keeps the tensors in host memory where the device has too little, and copies batch by batch;
            "error" raises.
        memory_fraction: largest part of the free memory to take.
        bit_keys: masks (R, ...) of 0 and 1, such as "label", to be held as bits, eight of them in a byte; batches have
            them as uint8.

    Attributes:
        data: the items held, in the order of the indices.
        ids: their ids.
        nbytes: size of all tensors.
        spilled: whether they lie in host memory instead of on the device.
        rank: whose shard it is.
        look: numbers of all images and masks, whose `monai_ext.data.first_look` is logged; None where
            `transform` has no method `with_look`.
        shard_lengths: number of items of each rank.

    Raises:
        DecodeError: an item cannot be decoded; names the item and its files.
        DataSetError: the set cannot be meant as it is, such as masks that are all inverted.
        DeviceMemoryError: not enough memory, found before decoding, or as soon as differing sizes show it.
    """

    def __init__(
        self,
        data: Sequence[Mapping],
        transform: Callable[[Mapping], Mapping],
        *,
        device: torch.device | str = "cpu",
        cache_dir: str | Path | None = None,
        num_workers: int | None = None,
        progress: bool = True,
        on_error: str = "raise",
        shard: bool | tuple[int, int] = True,
        spill: str = "host",
        memory_fraction: float = 0.8,
        bit_keys: Sequence[str] = (),
    ) -> None:
        if spill not in ("host", "error"):
            raise ValueError(f"spill={spill!r} must be 'host' or 'error'.")
        self.device = _with_index(torch.device(device))
        self.spill, self.memory_fraction = spill, memory_fraction
        self.rank, world_size = _rank_and_world_size(shard)
        if len(data) < world_size:
            raise ValueError(f"{len(data)} items are too few for {world_size} rank(s): each needs at least one.")
        items = list(data)[self.rank :: world_size]

        def decode() -> DecodedSet:
            bar = progress and self.rank == 0
            described = getattr(transform, "with_look", transform)
            described = pack_keys(described, bit_keys) if bit_keys else described
            stream = decode_items(items, described, num_workers=num_workers, on_error=on_error, progress=bar)
            with closing(stream):
                return collect(stream, len(items), self._place)

        if cache_dir is None:
            decoded = decode()
        else:
            key = file_key(items, transform, bit_keys)
            decoded = self._from_file(Path(cache_dir) / key.name, key.fingerprint, len(items), decode, on_error)
        self.ids, self._groups, self.nbytes = decoded.ids, decoded.groups, decoded.nbytes
        self.data = [items[position] for position in decoded.kept]
        self.look = self._first_look(decoded)
        self._bits = {key: self._bit_count(key) for key in bit_keys if key in self._groups[0]}
        self.spilled = self._groups[0][next(iter(self._groups[0]))].device != self.device
        self.members = [torch.tensor(members) for members in decoded.members]
        self._group_of, self._row_of = torch.zeros(2, len(self.ids), dtype=torch.long).unbind()
        for number, members in enumerate(self.members):
            self._group_of[members], self._row_of[members] = number, torch.arange(len(members))
        self._rows_on_device = self._row_of.to(self.device)
        self._where = list(zip(self._group_of.tolist(), self._row_of.tolist(), strict=True))
        self._lowest: dict[tuple[str, int], Tensor] = {}
        self.shard_lengths = [len(range(rank, len(data), world_size)) for rank in range(world_size)]
        if on_error == "skip" and world_size > 1 and dist.is_initialized():
            dist.all_gather_object(self.shard_lengths, len(self.ids))

    def _first_look(self, decoded: DecodedSet) -> SetNumbers | None:
        """The numbers that the transform found beside its tensors, taken out of the groups, and what they show."""
        if IMAGE_KEY not in decoded.groups[0]:
            return None
        images, masks = {}, {}
        for group, members in zip(decoded.groups, decoded.members, strict=True):
            for index, image, mask in zip(members, group.pop(IMAGE_KEY).cpu(), group.pop(MASKS_KEY).cpu(), strict=True):
                images[index], masks[index] = image, mask
        order = range(len(decoded.ids))
        columns = column_names(self.data[0])
        numbers = set_numbers(decoded.ids, [images[i] for i in order], [masks[i] for i in order], columns)
        found = review(numbers, labelled=any(item.get("label_values") is not None for item in self.data))
        if self.rank == 0 or found.refused:
            found.log()
        return numbers

    def _bit_count(self, key: str) -> int:
        """The number of masks under each key of bits, taken out of the groups."""
        counts = {int(count) for group in self._groups for count in group.pop(count_key(key)).tolist()}
        if len(counts) > 1:
            raise ValueError(
                f"items have {min(counts)} to {max(counts)} masks under {key!r}: bit_keys need one number."
            )
        return counts.pop()

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, Tensor | str]:
        """Tensors of one item, copied, on the device, and its "id"."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is out of range: the data set has {len(self)} items.")
        index %= len(self)
        group, row = self._where[index]
        tensors = {key: tensor[row].clone()[None] for key, tensor in self._groups[group].items()}
        return {"id": self.ids[index], **{key: v[0].to(self.device) for key, v in self._unpacked(tensors).items()}}

    def _unpacked(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Tensors of a batch, with masks instead of their bits."""
        return {key: unpack_bits(v, self._bits[key]) if key in self._bits else v for key, v in tensors.items()}

    def row(self, index: int, key: str) -> Tensor | None:
        """The tensor `key` of an item as it is held and where it lies, not copied; None where there is none."""
        group, row = self._where[index]
        return self._groups[group][key][row] if key in self._groups[group] else None

    def masks(self, index: int, key: str) -> Tensor:
        """The masks `key` (R, ...) of an item, where they lie.

        Raises:
            ValueError: the item has none.
        """
        held = self.row(index, key)
        if held is None:
            raise ValueError(f"item {self.ids[index]} has no {key!r}, the masks around which crops are wanted.")
        return unpack_bits(held[None], self._bits[key])[0] if key in self._bits else held

    def shapes(self, key: str) -> list[tuple[int, ...]]:
        """Shape of the tensor `key` of every item."""
        of_group = [tuple(group[key].shape[1:]) for group in self._groups]
        if key in self._bits:
            of_group = [(self._bits[key], *shape[1:]) for shape in of_group]
        return [of_group[number] for number in self._group_of.tolist()]

    def runs(self, indices: Sequence[int]) -> list[int]:
        """Lengths of the runs of items of one size in `indices`."""
        return torch.unique_consecutive(self._group_of[indices], return_counts=True)[1].tolist()

    def by_size(self, indices: Tensor) -> Tensor:
        """The same indices, on the host, with items of one size beside each other, else in their order."""
        return indices[torch.argsort(self._group_of[indices], stable=True)]

    def batch(
        self, indices: Tensor | Sequence[int], *, host_indices: Sequence[int] | None = None
    ) -> dict[str, Tensor | list[str]]:
        """Tensors of the items `indices`, (B, ...) each, with "index" (B,) on the device and the "id"s.

        Args:
            indices: (B,), on the host or on the device.
            host_indices: the same numbers on the host. Given with indices on the device nothing waits for it; without
                them, they are copied back.

        Raises:
            ValueError: the items differ in size.
        """
        if host_indices is None:
            host_indices = indices.tolist() if isinstance(indices, Tensor) else list(indices)
        index = torch.as_tensor(indices, dtype=torch.long).to(self.device, non_blocking=True)
        number, rows = 0, index
        if len(self._groups) > 1:
            number, rows = self._common_group(host_indices), self._rows_on_device.index_select(0, index)
        if self.spilled:
            rows = self._row_of[host_indices]
            picked = {key: self._copy_rows(tensor, rows) for key, tensor in self._groups[number].items()}
        else:
            picked = {key: tensor.index_select(0, rows) for key, tensor in self._groups[number].items()}
        return {**self._unpacked(picked), "index": index, "id": [self.ids[i] for i in host_indices]}

    def crops(
        self, host_indices: Sequence[int], starts: Sequence[Sequence[int]], size: Sequence[int], index: Tensor
    ) -> dict[str, Tensor | list[str]]:
        """Crops of the items, of any sizes: (B, ..., *size) each, beside what they have without such axes.

        A tensor is cropped if its last axes are those of the item's image, else given whole, and must then have one
        shape in all items. Nothing waits for the device.

        Args:
            host_indices: of the items, B.
            starts: first voxel of each crop along each axis; what lies outside of an item is its lowest value in the
                image, and 0 elsewhere.
            size: *S of the crops.
            index: the same indices on the device, as they stand in the batch.
        """
        picked = {}
        for key in self._groups[0]:
            views = []
            for number, start in zip(host_indices, starts, strict=True):
                group, row = self._where[number]
                tensor = self._groups[group][key]
                sides = self._groups[group]["image"].shape[-len(size) :]
                if tensor.ndim < len(size) + 2 or tensor.shape[-len(size) :] != sides:
                    views.append(tensor[row])
                elif all(0 <= begin <= side - length for begin, length, side in zip(start, size, sides, strict=True)):
                    views.append(_window(tensor, row, start, size))
                else:
                    views.append(self._padded(key, number, start, size))
            if self.spilled:
                pinned = self.device.type == "cuda"
                staging = torch.empty((len(views), *views[0].shape), dtype=views[0].dtype, pin_memory=pinned)
                picked[key] = torch.stack(views, out=staging).to(self.device, non_blocking=True)
            else:
                picked[key] = torch.stack(views)
        return {**self._unpacked(picked), "index": index, "id": [self.ids[i] for i in host_indices]}

    def _padded(self, key: str, number: int, start: Sequence[int], size: Sequence[int]) -> Tensor:
        """A crop that reaches beyond its item."""
        group, row = self._where[number]
        tensor = self._groups[group][key]
        sides = tensor.shape[-len(size) :]
        lead = tensor.shape[1 : -len(size)]
        if key == "image":
            if (key, number) not in self._lowest:
                self._lowest[key, number] = tensor[row].flatten(len(lead)).amin(-1)
            crop = self._lowest[key, number].view(*lead, *[1] * len(size)).expand(*lead, *size).clone()
        else:
            crop = tensor.new_zeros(*lead, *size)
        low = [max(begin, 0) for begin in start]
        counts = [
            max(0, min(begin + length, side) - first)
            for begin, length, side, first in zip(start, size, sides, low, strict=True)
        ]
        inside = [first - begin for first, begin in zip(low, start, strict=True)]
        _window(crop[None], 0, inside, counts).copy_(_window(tensor, row, low, counts))
        return crop

    def _common_group(self, indices: Sequence[int]) -> int:
        numbers = {int(self._group_of[i]) for i in indices}
        if len(numbers) == 1:
            return numbers.pop()
        shapes = [{key: tuple(v.shape[1:]) for key, v in self._groups[number].items()} for number in sorted(numbers)]
        raise ValueError(
            f"a batch cannot hold items of different sizes, {shapes[0]} and {shapes[1]}: set spatial_size in the "
            "transform, or take batches from DeviceLoader, which keeps sizes apart."
        )

    def _copy_rows(self, tensor: Tensor, rows: Tensor) -> Tensor:
        # PyTorch reuses a pinned block only after the copies from it are done, so no batch overwrites another.
        pinned = self.device.type == "cuda"
        staging = torch.empty((len(rows), *tensor.shape[1:]), dtype=tensor.dtype, pin_memory=pinned)
        return torch.index_select(tensor, 0, rows, out=staging).to(self.device, non_blocking=True)

    def _place(self, nbytes: int, held: int = 0) -> torch.device:
        """Where a set of `nbytes`, `held` of them taken already, goes: the device, or the host if it has to."""
        missing = self._missing(self.device, nbytes, held)
        if not missing:
            logger.info("the decoded set takes %s on %s", in_words(nbytes), self.device)
            return self.device
        if self.device != HOST and self.spill == "host" and not self._missing(HOST, nbytes, held):
            logger.warning(
                "%s: the decoded set (%s) stays in host memory and is copied batch by batch", missing, in_words(nbytes)
            )
            return HOST
        raise DeviceMemoryError(
            f"the decoded set needs {in_words(nbytes)}, but {missing}: set a smaller spatial_size in the transform, "
            "share the items among more ranks, or raise memory_fraction"
            + (", or set spill='host'." if self.device != HOST and self.spill == "error" else ".")
        )

    def _missing(self, device: torch.device, nbytes: int, held: int) -> str:
        """What is missing for `nbytes` on `device`, in words, empty where it fits."""
        free = free_memory(device)
        if free is None or nbytes <= held + self.memory_fraction * free:
            return ""
        lacking = in_words(nbytes - held - self.memory_fraction * free)
        return f"{lacking} are missing on {device} ({in_words(free)} free, {self.memory_fraction:.0%} of it for data)"

    def _from_file(
        self,
        path: Path,
        fingerprint: str,
        count: int,
        decode: Callable[[], DecodedSet],
        on_error: str,
    ) -> DecodedSet:
        try:
            decoded = read_decoded(path, fingerprint)
            if len(decoded.ids) == count or on_error == "skip":
                logger.info("decoded set taken from %s", path)
                return decoded if self.device == HOST else decoded.to(self._place(decoded.nbytes))
            logger.warning("%s lacks items that could not be decoded; they are tried again", path)
        except FileNotFoundError:
            logger.info("no decoded set at %s yet", path)
        except DecodedFileError as error:
            logger.warning("%s It is made anew.", error)
        except OSError as error:
            logger.warning("the decoded set at %s cannot be read (%s)", path, error)
        decoded = decode()
        try:
            write_decoded(path, fingerprint, decoded)
        except OSError as error:
            logger.warning(
                "the decoded set cannot be kept in %s (%s); the next start decodes again", path.parent, error
            )
        return decoded


def _with_index(device: torch.device) -> torch.device:
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("mps", 0) if device.type == "mps" else device


def _rank_and_world_size(shard: bool | tuple[int, int]) -> tuple[int, int]:
    if not isinstance(shard, bool):
        rank, world_size = shard
        if not 0 <= rank < world_size:
            raise ValueError(f"shard={shard} must be (rank, world size) with 0 <= rank < world size.")
        return rank, world_size
    if shard and dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def _window(tensor: Tensor, row: int, start: Sequence[int], size: Sequence[int]) -> Tensor:
    """The part of `size` from `start` on of a row of a tensor, along its last axes: a view made in one call."""
    strides = tensor.stride()
    last = strides[-len(size) :]
    offset = tensor.storage_offset() + row * strides[0] + sum(a * b for a, b in zip(start, last, strict=True))
    return tensor.as_strided((*tensor.shape[1 : -len(size)], *size), strides[1:], offset)

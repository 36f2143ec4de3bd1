"""Stack decoded items into groups of equal shapes, without holding them twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

Signature = tuple[tuple[str, tuple[int, ...], torch.dtype], ...]
GROWTH = 1.25  # the place is chosen again when the estimate has grown by this much


@dataclass
class DecodedSet:
    """Decoded items: tensors of equal shapes are stacked into one group.

    Attributes:
        ids: of the items that could be decoded, in order.
        kept: their positions in the list of items.
        groups: tensors by key, (n of the group, ...) each.
        members: for each group the indices into `ids` of its rows, in order.
    """

    ids: list[str]
    kept: list[int]
    groups: list[dict[str, Tensor]]
    members: list[list[int]]

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for group in self.groups for tensor in group.values())

    def to(self, device: torch.device) -> DecodedSet:
        """The set with its tensors on `device`, copied only where they are not there."""
        groups = [{key: tensor.to(device) for key, tensor in group.items()} for group in self.groups]
        return DecodedSet(self.ids, self.kept, groups, self.members)


def collect(
    stream: Iterable[tuple[int, str, dict[str, Tensor]]], count: int, place: Callable[[int, int], torch.device]
) -> DecodedSet:
    """Items of `stream` (position, id, tensors) as a `DecodedSet`.

    The first item gives the size of the set, and all its memory is taken at once. Items of another size are kept aside
    and stacked at the end; `place` is called again as they raise the estimate.

    Args:
        stream: see `decode_items`.
        count: number of items that it yields at most.
        place: takes the bytes of the whole set and those of them that are held already, returns the device to keep it
            on or raises.

    Raises:
        ValueError: an item has other keys than the first.
    """
    ids: list[str] = []
    kept: list[int] = []
    members: dict[Signature, list[int]] = {}
    store: dict[str, Tensor] = {}
    loose: dict[Signature, list[dict[str, Tensor]]] = {}
    first: Signature = ()
    device, estimate, seen = torch.device("cpu"), 0.0, 0
    for position, name, tensors in stream:
        signature = tuple((key, tuple(t.shape), t.dtype) for key, t in sorted(tensors.items()))
        seen += sum(t.nbytes for t in tensors.values())
        if not first:
            first, estimate = signature, seen * count
            device = place(seen * count, 0)
            store = {key: torch.empty((count, *t.shape), dtype=t.dtype, device=device) for key, t in tensors.items()}
        if signature == first:
            for key, tensor in tensors.items():
                store[key][len(members.get(first, ()))].copy_(tensor)
        elif tensors.keys() != store.keys():
            raise ValueError(f"item {position} ({name}) has the keys {sorted(tensors)}, the first has {sorted(store)}.")
        else:
            loose.setdefault(signature, []).append(tensors)
            if seen / (len(ids) + 1) * count > GROWTH * estimate:
                estimate = seen / (len(ids) + 1) * count
                held = seen if device.type == "cpu" else sum(tensor.nbytes for tensor in store.values())
                device = place(int(estimate), held)
        members.setdefault(signature, []).append(len(ids))
        ids.append(name)
        kept.append(position)
    rows = len(members[first])
    groups = [{key: tensor[:rows] if rows == count else tensor[:rows].clone() for key, tensor in store.items()}]
    del store
    for signature in list(members)[1:]:
        parts = loose.pop(signature)
        groups.append({key: torch.stack([part[key] for part in parts]) for key, _, _ in signature})
    return DecodedSet(ids, kept, groups, list(members.values())).to(device)

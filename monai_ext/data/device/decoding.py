"""Decode items in parallel threads, in order, with errors that name the item."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

logger = logging.getLogger(__name__)


class DecodeError(ValueError):
    """An item of a data set cannot be decoded."""


def decode_items(
    items: Sequence[Mapping],
    transform: Callable[[Mapping], Mapping],
    *,
    num_workers: int | None = None,
    on_error: str = "raise",
    progress: bool = True,
) -> Generator[tuple[int, str, dict[str, Tensor]], None, None]:
    """Position, id and plain tensors of every item, in order; at most a few items are in memory at a time.

    Args:
        items: what `transform` takes.
        transform: returns a mapping of tensors, arrays and numbers; called from several threads.
        num_workers: threads; None: one for each core, at most 16; 0: none, decode in the calling thread.
        on_error: "raise" stops at the first item that fails, "skip" leaves it out with a warning.
        progress: show a bar where standard error is a terminal.

    Raises:
        DecodeError: an item failed, or every item did; the sentence names the item and its files.
    """
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error={on_error!r} must be 'raise' or 'skip'.")
    decoded = 0
    bar = tqdm(total=len(items), desc="decoding", unit="item", disable=None if progress else True)
    with bar, closing(_in_order(items, transform, num_workers)) as results:  # closing ends the threads at once
        for position, result in enumerate(results):
            bar.update()
            try:
                name, tensors = result()
            except Exception as error:  # of any kind: it comes from a user's transform, and is passed on by name
                message = f"cannot decode {describe_item(items[position], position)}: {type(error).__name__}: {error}"
                if on_error == "raise":
                    raise DecodeError(message) from error
                logger.warning("%s; the item is left out", message)
                continue
            decoded += 1
            yield position, name, tensors
    if not decoded:
        raise DecodeError(f"none of the {len(items)} items could be decoded: see the warnings above.")


def _in_order(
    items: Sequence[Mapping], transform: Callable[[Mapping], Mapping], num_workers: int | None
) -> Generator[Callable[[], tuple[str, dict[str, Tensor]]], None, None]:
    workers = min(16, os.cpu_count() or 1) if num_workers is None else num_workers
    jobs = enumerate(items)
    if workers == 0:
        for position, item in jobs:
            yield partial(_decode, transform, item, position)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    try:
        waiting: deque[Future] = deque(pool.submit(_decode, transform, i, p) for p, i in islice(jobs, 2 * workers))
        while waiting:
            first = waiting.popleft()
            waiting.extend(pool.submit(_decode, transform, item, position) for position, item in islice(jobs, 1))
            yield first.result
    finally:
        pool.shutdown(cancel_futures=True)


def _decode(transform: Callable[[Mapping], Mapping], item: Mapping, position: int) -> tuple[str, dict[str, Tensor]]:
    try:
        result = transform(item)
    except SystemError:  # CPython 3.11: literals parsed in several threads, as np.load does (python/cpython#106905)
        result = transform(item)
    if not isinstance(result, Mapping):
        raise TypeError(f"the transform returned {type(result).__name__}: expected a mapping of tensors")
    tensors = {key: _plain(key, value) for key, value in result.items() if not _is_text(key, value)}
    if not tensors:
        raise TypeError("the transform returned no tensor")
    return str(result.get("id", item.get("id", position))), tensors


def _is_text(key: str, value: object) -> bool:
    return key == "id" or value is None or isinstance(value, (str, bytes, os.PathLike))


def _plain(key: str, value: object) -> Tensor:
    """`value` as a contiguous tensor in host memory, without the metadata of a subclass."""
    if isinstance(value, Tensor):
        return value.detach().as_subclass(torch.Tensor).cpu().contiguous()
    if isinstance(value, (np.ndarray, np.generic)):
        return torch.from_numpy(np.ascontiguousarray(value)).reshape(value.shape)
    if isinstance(value, (bool, int, float)) or (
        isinstance(value, (list, tuple)) and value and all(isinstance(v, (bool, int, float)) for v in value)
    ):
        return torch.tensor(value)
    raise TypeError(f"{key!r} is {type(value).__name__}: expected a tensor, an array or numbers, or delete the key")


def describe_item(item: Mapping, position: int) -> str:
    """The item for a message: its id and the files that it names."""
    files = ", ".join(f"{key}={str(value)!r}" for key, value in item.items() if isinstance(value, (str, Path)))
    return f"item {position} ({files})" if files else f"item {position}"

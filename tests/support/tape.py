"""What a CUDA graph does, on the CPU: operations are recorded as they are called, and repeated on the same tensors.

A replay runs no Python of the step. A number that the host had chosen stays as it was recorded, a tensor that was
not kept in its place is not seen, and a step that is recorded but not replayed changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Tape(TorchDispatchMode):
    """Records while it is entered; waiting for a number fails, as it does in a CUDA graph."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Callable, tuple, dict, Any]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("operation not permitted when stream is capturing")
        result = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, result))
        return result

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, recorded in self.calls:
            for old, new in zip(tree_leaves(recorded), tree_leaves(func(*args, **kwargs)), strict=True):
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():  # else a view, or in place
                    old.copy_(new)


class TapeRecorder:
    """In the place of `CudaRecorder`; `live` gives the tensors that a step changes, `recorder` is the last one made."""

    live: Callable[[], list[Tensor]]
    recorder: TapeRecorder

    def __init__(self, device: torch.device):
        self.recordings, self.replays = 0, 0
        type(self).recorder = self

    @staticmethod
    def why_not(device: torch.device) -> None:
        return None

    def begin_anew(self) -> None:
        pass

    def run(self, work: Callable[[], Any]) -> Any:
        return work()

    def record(self, work: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        tape, tensors = Tape(), type(self).live()
        before = [tensor.clone() for tensor in tensors]
        try:
            with tape:
                result = work()
        finally:
            for tensor, value in zip(tensors, before, strict=True):
                tensor.copy_(value)
        self.recordings += 1

        def replay() -> None:
            self.replays += 1
            tape.replay()

        return replay, result

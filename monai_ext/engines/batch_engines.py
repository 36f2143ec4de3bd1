"""MONAI's supervised engines with nothing per sample in the loop: whole batches, plain tensors, mixed precision.

MONAI decollates every batch into items and runs post-processing and metrics item by item, which costs more than the
step of a small network (8 to 14 ms against 0.2 ms an iteration at batch 16). Here metrics see batches, and bfloat16
autocast and channels_last memory are used where the hardware gains by them, on CPUs as well as on CUDA.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from ignite.engine import Events
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.utils import CommonKeys as Keys
from torch import Tensor, nn

from monai_ext.engines.allocator import kept_memory
from monai_ext.engines.averaging import ModelEMA
from monai_ext.engines.graphs import GraphedTraining
from monai_ext.engines.precision import autocast, autocast_dtype
from monai_ext.runtime.settings import as_bool

__all__ = ["BatchEvaluator", "BatchTrainer"]


class _SkipUnhandledEvents:
    """Ignite's engine without what it does for an event that no handler waits for: eight of them in each iteration.

    Firing one formats a line for the log and, for MONAI's events within the step, compares it with all known events.
    """

    def _fire_event(self, event_name: Any, *event_args: Any, **event_kwargs: Any) -> None:
        if self._event_handlers.get(event_name):
            super()._fire_event(event_name, *event_args, **event_kwargs)
        else:
            self.last_event_name = event_name

    def _tell(self, event_name: Any) -> None:
        """`fire_event` for a known event."""
        if self._event_handlers.get(event_name):
            self.fire_event(event_name)


class BatchTrainer(_SkipUnhandledEvents, SupervisedTrainer):
    """`monai.engines.SupervisedTrainer` without per-sample work, with bfloat16 and channels_last where they pay.

    The engine's output holds image, label, prediction (logits, float32) and loss as whole batches on the device; a
    handler that reads the loss as a number makes the host wait, so read it every n iterations. A loader with a
    `set_epoch` method is told the epoch (0 for the first) before each one, which makes a resumed run draw the same
    batches as an uninterrupted one. While it runs on a CPU the process keeps the memory that a step frees for the next
    one, see `kept_memory`.

    Args:
        device, max_epochs, train_data_loader, network, optimizer, loss_function: as in MONAI; the loss is computed
            in float32 outside autocast.
        precision: `"auto"`, `"bf16"` or `"fp32"`, see `autocast_dtype`.
        channels_last: keep network and images (B, C, H, W) in channels_last memory.
        average: weights averaged over the steps, updated after each of them.
        max_grad_norm: clip the gradient to this Euclidean norm; None does not clip.
        cuda_graph: record the whole step as a CUDA graph and replay it, see `GraphedTraining` for what that asks of
            network, loss and handlers; without a CUDA device, or where it cannot be done, one logged sentence says why
            the steps are taken as ever.
        kwargs: handed on to `SupervisedTrainer`; `decollate` is False and `optim_set_to_none` True unless given.

    Raises:
        ValueError: `accumulation_steps` other than 1, another `precision`, or a network that was wrapped in
            `DistributedDataParallel` before it was in channels_last memory.
    """

    def __init__(
        self,
        device: torch.device | str,
        max_epochs: int,
        train_data_loader: Iterable,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss_function: Any,
        *,
        precision: str = "auto",
        channels_last: bool = True,
        average: ModelEMA | None = None,
        max_grad_norm: float | None = None,
        cuda_graph: bool | str = False,
        **kwargs: Any,
    ):
        kwargs = {"decollate": False, "optim_set_to_none": True} | kwargs
        if kwargs.get("accumulation_steps", 1) != 1:
            raise ValueError(
                f"accumulation_steps={kwargs['accumulation_steps']}: each batch is a step here; choose 1 and a larger "
                "batch_size."
            )
        super().__init__(device, max_epochs, train_data_loader, network, optimizer, loss_function, **kwargs)
        self.dtype = autocast_dtype(device, precision)
        self._in_precision = autocast(self.state.device, self.dtype)
        self.average = average
        self.max_grad_norm = max_grad_norm
        self.memory_format = _memory_format(network, channels_last)
        if hasattr(train_data_loader, "set_epoch"):
            self.add_event_handler(Events.EPOCH_STARTED, _tell_epoch)
        self.graphed = GraphedTraining(self) if as_bool(cuda_graph, "cuda_graph") else None

    def run(self) -> None:
        """Train, or go on with it, to the last epoch."""
        with kept_memory(self.state.device):
            super().run()

    def _iteration(self, engine: SupervisedTrainer, batchdata: dict[str, Tensor]) -> dict[str, Tensor]:
        if self.graphed is not None and self.graphed.active:
            self.graphed.step(batchdata)
        else:
            self.take_gradients(*self.prepared(batchdata))
            engine.optimizer.step()
            if self.average is not None:
                self.average.update_parameters(engine.network)
        self._tell(IterationEvents.MODEL_COMPLETED)
        return engine.state.output

    def prepared(self, batchdata: dict[str, Tensor]) -> tuple[Tensor, Any, tuple, dict]:
        """Images, targets, and further arguments of the network, on the device."""
        return _unpack(self, batchdata)

    def take_gradients(self, inputs: Tensor, targets: Any, args: tuple = (), kwargs: dict | None = None) -> None:
        """Forward and backward pass: the engine's output, and the weights' gradients, clipped."""
        inputs = _laid_out(inputs, self.memory_format)
        output = self.state.output = {Keys.IMAGE: inputs, Keys.LABEL: targets}
        if not self.network.training:  # walking all its modules takes long
            self.network.train()
        self.optimizer.zero_grad(set_to_none=self.optim_set_to_none)
        with self._in_precision:
            prediction = self.inferer(inputs, self.network, *args, **(kwargs or {}))
        output[Keys.PRED] = _as_float32(prediction)
        self._tell(IterationEvents.FORWARD_COMPLETED)
        loss = self.loss_function(self.state.output[Keys.PRED], targets)
        loss = self.state.output[Keys.LOSS] = loss.mean() if loss.ndim else loss
        self._tell(IterationEvents.LOSS_COMPLETED)
        loss.backward()
        self._tell(IterationEvents.BACKWARD_COMPLETED)
        if self.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.max_grad_norm)


class BatchEvaluator(_SkipUnhandledEvents, SupervisedEvaluator):
    """`monai.engines.SupervisedEvaluator` with the precision and memory layout of `BatchTrainer`, on whole batches.

    `decollate` is False unless given; hand it True to post-process item by item, for instance at each image's own size.
    """

    def __init__(
        self,
        device: torch.device | str,
        val_data_loader: Iterable,
        network: nn.Module,
        *,
        precision: str = "auto",
        channels_last: bool = True,
        **kwargs: Any,
    ):
        super().__init__(device, val_data_loader, network, **({"decollate": False} | kwargs))
        self.dtype = autocast_dtype(device, precision)
        self._in_precision = autocast(self.state.device, self.dtype)
        self.memory_format = _memory_format(network, channels_last)

    def _iteration(self, engine: SupervisedEvaluator, batchdata: dict[str, Tensor]) -> dict[str, Tensor]:
        inputs, targets, args, kwargs = _unpack(engine, batchdata)
        inputs = _laid_out(inputs, self.memory_format)
        engine.state.output = {Keys.IMAGE: inputs, Keys.LABEL: targets}
        with engine.mode(engine.network), self._in_precision:
            prediction = engine.inferer(inputs, engine.network, *args, **kwargs)
        engine.state.output[Keys.PRED] = _as_float32(prediction)
        self._tell(IterationEvents.FORWARD_COMPLETED)
        self._tell(IterationEvents.MODEL_COMPLETED)
        return engine.state.output


def _tell_epoch(engine: SupervisedTrainer) -> None:
    engine.data_loader.set_epoch(engine.state.epoch - 1)


def _unpack(engine: Any, batchdata: dict[str, Tensor]) -> tuple[Tensor, Tensor | None, tuple, dict]:
    batch = engine.prepare_batch(batchdata, engine.state.device, engine.non_blocking, **engine.to_kwargs)
    return (*batch, (), {}) if len(batch) == 2 else batch


def _memory_format(network: nn.Module, channels_last: bool) -> torch.memory_format | None:
    if not channels_last:
        return None
    if isinstance(network, nn.parallel.DistributedDataParallel) and not _is_channels_last(network):
        raise ValueError(
            "the network was wrapped in DistributedDataParallel before it was in channels_last memory, which mixes up "
            "the gradients of its first step: wrap network.to(memory_format=torch.channels_last), or set channels_last "
            "to False."
        )
    network.to(memory_format=torch.channels_last)
    return torch.channels_last


def _is_channels_last(network: nn.Module) -> bool:
    weights = (weight for weight in network.parameters() if weight.ndim == 4)
    return all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)


def _laid_out(images: Tensor, memory_format: torch.memory_format | None) -> Tensor:
    if memory_format is None or images.ndim != 4:
        return images
    return images.contiguous(memory_format=memory_format)


def _as_float32(prediction: Any) -> Any:
    return prediction.float() if isinstance(prediction, Tensor) else prediction

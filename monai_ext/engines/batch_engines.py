"""MONAI's supervised engines without per-sample work: whole batches, plain tensors, mixed precision.

MONAI decollates every batch into items and runs post-processing and metrics item by item, which costs more than the
step of a small network (8 to 14 ms against 0.2 ms an iteration at batch 16). Here metrics see batches, and bfloat16
autocast and channels_last memory are used where the hardware gains by them, on CPUs as well as on CUDA.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.utils import CommonKeys as Keys
from torch import Tensor, nn

from monai_ext.engines.allocator import kept_memory
from monai_ext.engines.averaging import ModelEMA
from monai_ext.engines.batches import as_float32, prepared, to_channels_last
from monai_ext.engines.gradients import clipped_step
from monai_ext.engines.precision import autocast, autocast_dtype, small_volumes_in_float32
from monai_ext.runtime.ranks import data_parallel, is_distributed

__all__ = ["COMPILE_MODES", "BatchEvaluator", "BatchTrainer"]

FOR_SCORES = ("known", "levels")  # which pixels of the target show something; steps from 0 to 1 in its file
COMPILE_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")


class _SkipUnhandledEvents(Engine):
    """Ignite's engine without its work for events that have no handler, eight of them in each iteration.

    Firing one formats a line for the log and, for MONAI's events within the step, compares it with all known events.
    """

    def _fire_event(self, event_name: Any, *event_args: Any, **event_kwargs: Any) -> None:
        if self._event_handlers.get(event_name):
            super()._fire_event(event_name, *event_args, **event_kwargs)
        else:
            self.last_event_name = event_name

    def _fire(self, event_name: Any) -> None:
        """`fire_event` for a known event."""
        if self._event_handlers.get(event_name):
            self.fire_event(event_name)


class BatchTrainer(_SkipUnhandledEvents, SupervisedTrainer):
    """`monai.engines.SupervisedTrainer` without per-sample work, with bfloat16 and channels_last where they pay.

    The engine's output holds image, label, prediction (logits, float32) and loss as whole batches on the device; a
    handler that reads the loss as a number makes the host wait, so read it every n iterations. `set_epoch` of the
    loader, if it has one, is called before each epoch (0 for the first), so that a resumed run sees the batches of an
    uninterrupted one. While it runs on a CPU the process keeps the memory that a step frees for the next
    one, see `kept_memory`. Under torch.distributed a plain network is wrapped by `data_parallel`.

    Network, optimiser, loss and average are attributes before the handlers are attached, so that these may take them
    from the trainer.

    Args:
        device, max_epochs, train_data_loader, network, optimizer, loss_function: as in MONAI; the loss is computed
            in float32 outside autocast.
        precision: `"auto"`, `"bf16"` or `"fp32"`, see `autocast_dtype`.
        channels_last: keep network and images (B, C, H, W) in channels_last memory.
        average: weights averaged over the steps, updated after each of them.
        max_grad_norm: clip the gradient to this Euclidean norm; None does not clip.
        compile: mode of `torch.compile` for the network, in place; "reduce-overhead" replays its forward and backward
            passes as CUDA graphs, so that tensors of the engine's output (but for the loss) hold until the next step
            only. False does not compile. Each shape of batch is compiled anew.
        kwargs: handed on to `SupervisedTrainer`; `decollate` is False and `optim_set_to_none` True unless given.

    Raises:
        ValueError: `accumulation_steps` other than 1, another `precision`, or a network that was wrapped in
            `DistributedDataParallel` before it was in channels_last memory.
    """

    wraps_network = True  # in `DistributedDataParallel`; a trainer that averages gradients itself does not

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
        compile: str | bool | None = False,
        **kwargs: Any,
    ):
        kwargs = {"decollate": False, "optim_set_to_none": True} | kwargs
        if kwargs.get("accumulation_steps", 1) != 1:
            raise ValueError(
                f"accumulation_steps={kwargs['accumulation_steps']}: each batch is a step here; choose 1 and a larger "
                "batch_size."
            )
        if self.wraps_network and is_distributed() and not isinstance(network, nn.parallel.DistributedDataParallel):
            network = data_parallel(network, device, channels_last=channels_last)
        self.network, self.optimizer, self.loss_function, self.average = network, optimizer, loss_function, average
        super().__init__(device, max_epochs, train_data_loader, network, optimizer, loss_function, **kwargs)
        self.dtype = autocast_dtype(device, precision)
        self._in_precision = autocast(self.state.device, self.dtype)
        small_volumes_in_float32(network, self.state.device, self.dtype)
        self.max_grad_norm = max_grad_norm
        self.memory_format = to_channels_last(network, channels_last)
        if hasattr(train_data_loader, "set_epoch"):
            self.add_event_handler(Events.EPOCH_STARTED, _set_epoch)
        self.compiled = compile_in_place(network, compile)

    def run(self) -> None:  # type: ignore[override]  # as MONAI's
        """Train, or go on with it, to the last epoch."""
        with kept_memory(self.state.device):
            super().run()

    def _iteration(self, engine: SupervisedTrainer, batchdata: dict[str, Tensor]) -> dict[str, Any]:
        inputs, targets, args, kwargs = prepared(self, batchdata)
        output = self.state.output = {Keys.IMAGE: inputs, Keys.LABEL: targets}
        if not self.network.training:  # walking all its modules takes long
            self.network.train()
        self.optimizer.zero_grad(set_to_none=self.optim_set_to_none)
        self._begin_step()
        with self._in_precision:
            prediction = self.inferer(inputs, self.network, *args, **kwargs)
        output[Keys.PRED] = as_float32(prediction)
        self._fire(IterationEvents.FORWARD_COMPLETED)
        loss = self.loss_function(self.state.output[Keys.PRED], targets)
        loss = self.state.output[Keys.LOSS] = loss.mean() if loss.ndim else loss
        self._descend(loss)
        self._fire(IterationEvents.MODEL_COMPLETED)
        return self.state.output

    def _descend(self, loss: Tensor) -> None:
        """A step of the optimiser along the gradient of `loss`, and of the averaged weights."""
        self._fire(IterationEvents.LOSS_COMPLETED)
        loss.backward()
        self._fire(IterationEvents.BACKWARD_COMPLETED)
        clipped_step(self.network, self.optimizer, self.max_grad_norm)
        if self.average is not None:
            self.average.update_parameters(self.network)

    def _begin_step(self) -> None:
        """Outputs of the step before may be overwritten from here on."""
        if self.compiled:
            torch.compiler.cudagraph_mark_step_begin()


class BatchEvaluator(_SkipUnhandledEvents, SupervisedEvaluator):
    """`monai.engines.SupervisedEvaluator` with the precision and memory layout of `BatchTrainer`, on whole batches.

    What scores need of a batch stays in the output: "known", the pixels of its target that count, and "levels".
    `metric_cmp_fn` is `is_better` and `decollate` False unless given; hand it True to post-process item by item, for
    instance at each image's own size.
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
        usual: dict[str, Any] = {"decollate": False, "metric_cmp_fn": is_better}
        super().__init__(torch.device(device), val_data_loader, network, **(usual | kwargs))
        self.dtype = autocast_dtype(device, precision)
        self._in_precision = autocast(self.state.device, self.dtype)
        self.memory_format = to_channels_last(network, channels_last)
        self.add_event_handler(Events.DATALOADER_STOP_ITERATION, Engine.terminate_epoch)  # else Ignite begins again

    def _iteration(self, engine: SupervisedEvaluator, batchdata: dict[str, Tensor]) -> dict[str, Any]:
        inputs, targets, args, kwargs = prepared(self, batchdata)
        output = self.state.output = {Keys.IMAGE: inputs, Keys.LABEL: targets}
        output |= {key: batchdata[key].to(inputs.device) for key in FOR_SCORES if key in batchdata}
        with self.mode(self.network), self._in_precision:
            prediction = self.inferer(inputs, self.network, *args, **kwargs)
        output[Keys.PRED] = as_float32(prediction)
        self._fire(IterationEvents.FORWARD_COMPLETED)
        self._fire(IterationEvents.MODEL_COMPLETED)
        return self.state.output


def is_better(score: float, best: float) -> bool:
    """Whether a score is higher than the best one; any is better than NaN, which MONAI keeps as the first one's.

    >>> is_better(0.2, float("nan")), is_better(float("nan"), 0.2), is_better(0.3, 0.2)
    (True, False, True)
    """
    return score > best or (best != best and score == score)


def _set_epoch(engine: SupervisedTrainer) -> None:
    loader: Any = engine.data_loader
    loader.set_epoch(engine.state.epoch - 1)


def compile_in_place(network: nn.Module, mode: str | bool | None) -> bool:
    """Compile what calling `network` does, unless `mode` is False or None; whether it was compiled.

    Raises:
        ValueError: another mode than those of `torch.compile`.
    """
    if not mode or str(mode).lower() == "false":
        return False
    if mode not in COMPILE_MODES:
        raise ValueError(f"compile={mode!r}: choose false or one of {', '.join(COMPILE_MODES)}.")
    network.compile(mode=mode)
    return True

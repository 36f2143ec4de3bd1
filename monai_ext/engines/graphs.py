"""Whole training steps as CUDA graphs: recorded once for each shape, then launched by one call of the host.

A small network on a GPU waits for the host, which launches hundreds of kernels a step one by one. A CUDA graph launches
them all at once. It repeats exactly the kernels that it saw, on the tensors that it saw; so what differs from step to
step (which items, the draw of the augmentation, learning rate, weight of the average) is copied before each step into
tensors that stay, and whatever the host decides must stay as it was when the step was recorded.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from ignite.engine import Events
from monai.engines.utils import IterationEvents
from monai.utils import CommonKeys as Keys
from torch import Tensor

from monai_ext.runtime.ranks import is_distributed

if TYPE_CHECKING:
    from monai_ext.engines.batch_engines import BatchTrainer

__all__ = ["CudaRecorder", "GraphedTraining"]

WARM_UPS = 3  # steps of each kind that are launched one by one first: libraries choose kernels, optimisers make state
MOST_KINDS = 100  # of steps: recordings kept at a time, and how many are seen before a word is said
WITHIN_STEP = (
    IterationEvents.FORWARD_COMPLETED,
    IterationEvents.LOSS_COMPLETED,
    IterationEvents.BACKWARD_COMPLETED,
)

_logger = logging.getLogger(__name__)


class CudaRecorder:
    """CUDA's part: runs work on a stream of its own, and records it there. All recordings share one pool of memory.

    That is safe because they are never replayed at the same time, and the results of one are not read after another.
    """

    def __init__(self, device: torch.device):
        self.stream = torch.cuda.Stream(device)
        self.begin_anew()

    @staticmethod
    def why_not(device: torch.device) -> str | None:
        """Why nothing can be recorded on `device`, if so."""
        return None if device.type == "cuda" else f"a {device.type} device has none"

    def begin_anew(self) -> None:
        """The recordings made so far are dropped: later ones take other memory, since results may still lie in it."""
        self.pool = torch.cuda.graph_pool_handle()

    def run(self, work: Callable[[], Any]) -> Any:
        """`work` as usual, after what was launched before and before what is launched next."""
        current = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            result = work()
        current.wait_stream(self.stream)
        return result

    def record(self, work: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        """What replays `work`, and its result: tensors filled by each replay. Nothing is computed yet.

        Raises:
            RuntimeError: `work` does what cannot be recorded, such as waiting for the device.
        """
        graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self.stream.device)
        try:
            with torch.cuda.graph(graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"):
                result = work()
        finally:  # torch.cuda.graph leaves its stream in use where it fails
            torch.cuda.set_stream(current)
        return graph.replay, result


@dataclass
class _Step:
    """A step of one kind: the tensors that it reads and, once recorded, how to replay it and what that fills."""

    inputs: list[Tensor]
    uses: int = 0
    replay: Callable[[], None] | None = None
    result: Any = None
    gradients: list[Tensor | None] | None = None


class GraphedTraining:
    """The steps of a `BatchTrainer` by recordings: augmentation, forward, backward, clipping, optimiser, average.

    With a `DeviceLoader` whose data lie on the device the recording begins at the index and the draw of a batch; with
    any other loader, at its prepared batches. Every shape of batch, size of image (`spatial_size` of the transform),
    choice of trained weights and set of numbers in the loss (a weight that is annealed) has its own recording, made at
    its fourth step; the steps before it are ordinary ones. Same steps as without, up to rounding: the learning rate is
    a float32 number on the device.

    The optimiser is recorded where that is known to work (Adam and AdamW, SGD with fused=True) and its settings other
    than the learning rate stay; else (`OneCycleLR` moves Adam's betas unless cycle_momentum=False) it follows each
    replay as an ordinary call, and so does the average. The optimiser need not be built with capturable=True.

    What is asked for: loss, network, inferer and prepare_batch neither wait for the device nor let the host draw or
    decide anything else that changes between steps. A number that a handler changes in the network would stay as it was
    when the step was recorded; keep such numbers in tensors on the device and fill those. Handlers see the output after
    the step; its tensors (but for the loss) are overwritten by the next one.

    A warning, one sentence, says what stays unrecorded, and why: the device is no CUDA device, several processes train,
    handlers want to be called in the middle of a step, recording fails, or hardly two steps are of one kind.

    The recording itself has not been run on a GPU yet; what surrounds it is tested with a recorder of CPU operations.
    """

    def __init__(self, trainer: BatchTrainer):
        self.trainer = trainer
        self.active = False
        trainer.add_event_handler(Events.STARTED, self._begin)

    def step(self, batchdata: Mapping) -> None:
        """One training step; leaves the engine's batch and output as an ordinary step does."""
        trainer = self.trainer
        self._watch_optimizer()
        inputs, tensors = self._inputs(batchdata), []
        step = self._step_of(self._decided(), _form(inputs, tensors), tensors)
        weight = None if trainer.average is None else trainer.average.advance()
        if self._inside:
            self._rates.refill()
            if weight is not None:
                self._weight.fill_(weight)
        torch._foreach_copy_(step.inputs, tensors)
        output, batch = self._run(step, partial(self._work, inputs, step.inputs, batchdata))
        if not self._inside:
            trainer.optimizer.step()
            if weight is not None:
                trainer.average.blend(trainer.network, weight)
        if self._planned:
            names = [trainer.data_loader.dataset.ids[number] for number in batchdata["host_index"]]
            trainer.state.batch = {**batch, "index": batchdata["index"], "id": names}
        trainer.state.output = {**output, Keys.LOSS: output[Keys.LOSS].clone()}

    def _begin(self) -> None:
        """Before the first epoch of a run, when handlers are attached and states are loaded."""
        trainer = self.trainer
        device = trainer.state.device
        reason = CudaRecorder.why_not(device) or _why_not(trainer)
        self.active = reason is None
        if not self.active:
            _logger.warning(f"no CUDA graph, since {reason}: steps are taken as without cuda_graph.")
            return
        self._recorder = CudaRecorder(device)
        self._recording, self._kinds = True, 0
        self._steps: dict[Hashable, _Step] = {}
        self._present: Hashable = None
        self._last: _Step | None = None
        self._weights = list(trainer.network.parameters())
        self._rates = _Rates(trainer.optimizer)
        self._weight = torch.zeros((), device=device)
        self._settings = _settings(trainer.optimizer)
        self._inside = True
        reason = _why_not_inside(trainer.optimizer)
        if reason is not None:
            self._move_outside(reason)
        loader = trainer.data_loader
        self._planned = getattr(loader, "makes_on_device", False) and loader.dataset.device == self._weight.device
        if self._planned:
            trainer.set_data(_Plans(loader))

    def _inputs(self, batchdata: Mapping) -> Any:
        """All tensors that differ from step to step, in a structure of dicts and tuples."""
        if not self._planned:
            return self.trainer.prepared(batchdata)
        draw = batchdata["parameters"]
        return {"index": batchdata["index"], "draw": None if draw is None else draw.tensors}

    def _decided(self) -> Hashable:
        """What the host decides about a step, as far as one can know it."""
        trainer = self.trainer
        size = getattr(getattr(trainer.data_loader, "transform", None), "spatial_size", None)
        trained = tuple(weight.requires_grad for weight in self._weights)
        numbers = tuple(map(_numbers, (trainer.loss_function, trainer.inferer, trainer.prepare_batch)))
        return None if size is None else tuple(size), trained, numbers

    def _step_of(self, decided: Hashable, form: Hashable, tensors: list[Tensor]) -> _Step:
        if decided != self._present:  # by the time it returns, tensors that the recordings read may be gone
            self._present = decided
            self._forget()
        if form in self._steps:
            return self._steps[form]
        step = _Step([tensor.clone() for tensor in tensors])
        self._kinds += 1
        if self._kinds == MOST_KINDS + 1:
            _logger.warning(
                f"steps of more than {MOST_KINDS} kinds were seen (sizes of batches or images, weights in training, "
                f"numbers of the loss): only what comes {WARM_UPS + 1} times is recorded as a CUDA graph."
            )
        if len(self._steps) < MOST_KINDS:
            self._steps[form] = step
        return step

    def _forget(self) -> None:
        self._steps.clear()
        self._recorder.begin_anew()

    def _work(self, inputs: Any, tensors: list[Tensor], batchdata: Mapping) -> tuple[dict[str, Any], Mapping]:
        """The step on `tensors` in place of those of `inputs`: what is recorded. Its output, and the batch it made."""
        trainer = self.trainer
        inputs = _filled(inputs, iter(tensors))
        if self._planned:
            draw = batchdata["parameters"]
            draw = None if draw is None else replace(draw, tensors=inputs["draw"])
            batchdata = trainer.data_loader.make({**batchdata, "index": inputs["index"], "parameters": draw})
            inputs = trainer.prepared(batchdata)
        trainer.take_gradients(*inputs)
        if self._inside:
            with self._rates.in_place():
                trainer.optimizer.step()
            if trainer.average is not None:
                trainer.average.blend(trainer.network, self._weight)
        output = trainer.state.output
        output = {key: value.detach() if isinstance(value, Tensor) else value for key, value in output.items()}
        return output, batchdata if self._planned else {}

    def _run(self, step: _Step, work: Callable[[], Any]) -> Any:
        """The result of `work`: by its recording, by making that first, or as usual."""
        step.uses += 1
        if step.replay is None and step.uses > WARM_UPS and self._recording:
            self._record(step, work)
        if step.replay is None:
            self._last = None
            return self._recorder.run(work)
        if self._last is not step:  # the weights show the gradients of another recording
            self._last = step
            for weight, gradient in zip(self._weights, step.gradients, strict=True):
                weight.grad = gradient
        step.replay()
        return step.result

    def _record(self, step: _Step, work: Callable[[], Any]) -> None:
        try:
            step.replay, step.result = self._recorder.record(work)
        except RuntimeError as error:
            self._recording = False
            _logger.warning(f"a step cannot be recorded as a CUDA graph ({error}): it is taken as without cuda_graph.")
            return
        step.gradients = [weight.grad for weight in self._weights]
        self._last = step

    def _watch_optimizer(self) -> None:
        """Takes the optimiser out of the recording when a number that would be recorded has changed."""
        settings = _settings(self.trainer.optimizer) if self._inside else self._settings
        if settings == self._settings:
            return
        changed = {
            name
            for now, before in zip(settings, self._settings, strict=False)
            for name in now
            if now[name] != before.get(name)
        }
        hint = " (with OneCycleLR set cycle_momentum=False)" if changed & {"betas", "momentum"} else ""
        self._move_outside(f"its {', '.join(sorted(changed)) or 'groups'} changed between two steps{hint}")

    def _move_outside(self, reason: str) -> None:
        self._inside = False
        self._forget()
        _logger.warning(
            f"the optimiser's step is not recorded in the CUDA graph, since {reason}: it follows the graph."
        )


class _Plans:
    """The plans of a `DeviceLoader`, epoch by epoch, as the data of an engine."""

    def __init__(self, loader: Any):
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[dict]:
        return self.loader.plans()


class _Rates:
    """The learning rates of an optimiser as numbers on the device, in its groups while it is called or recorded.

    Between the calls the groups show the host's numbers, which schedulers and handlers set as ever.
    """

    def __init__(self, optimizer: torch.optim.Optimizer):
        self.optimizer = optimizer
        self.rates = [torch.zeros((), device=group["params"][0].device) for group in optimizer.param_groups]
        for weight, state in optimizer.state.items():  # a run without recording may have left the counters on the host
            if isinstance(state.get("step"), Tensor):
                state["step"] = state["step"].to(weight.device)

    def refill(self) -> None:
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            rate.fill_(group["lr"])

    @contextmanager
    def in_place(self) -> Iterator[None]:
        groups = self.optimizer.param_groups
        shown = [{name: group[name] for name in ("lr", "capturable") if name in group} for group in groups]
        for group, values, rate in zip(groups, shown, self.rates, strict=True):
            group.update({name: rate if name == "lr" else True for name in values})
        try:
            yield
        finally:
            for group, values in zip(groups, shown, strict=True):
                group.update(values)


def _why_not(trainer: BatchTrainer) -> str | None:
    """Why no step of `trainer` can be recorded, if so."""
    if is_distributed():
        return "several processes exchange gradients in the middle of each step"
    called = [event.name for event in WITHIN_STEP if trainer._event_handlers.get(event)]
    if called:
        return f"handlers of {', '.join(called)} are to be called in the middle of each step"
    return None


def _why_not_inside(optimizer: torch.optim.Optimizer) -> str | None:
    """Why the call of `optimizer` cannot be recorded, if so."""
    if isinstance(optimizer, (torch.optim.Adam, torch.optim.AdamW)):
        return None
    if isinstance(optimizer, torch.optim.SGD) and all(group["fused"] for group in optimizer.param_groups):
        return None
    return f"{type(optimizer).__name__} is not known to allow it (Adam, AdamW and SGD with fused=True are)"


def _settings(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """Everything that an optimiser's groups say, but for weights and learning rate."""
    return [
        {name: value for name, value in group.items() if name not in ("params", "lr", "capturable")}
        for group in optimizer.param_groups
    ]


def _numbers(part: Any) -> tuple[float, ...]:
    """The numbers and switches that a function or a module, with all that it is made of, keeps on the host."""
    parts = part.modules() if isinstance(part, torch.nn.Module) else [part]
    kept = [value for each in parts for value in getattr(each, "__dict__", {}).values()]
    return tuple(value for value in kept if isinstance(value, (int, float)))


def _form(tree: Any, tensors: list[Tensor]) -> Hashable:
    """What is alike in all inputs of one recording: names, shapes, and all that is no tensor. Appends the tensors."""
    if isinstance(tree, Tensor):
        tensors.append(tree.detach().as_subclass(Tensor))
        return tree.shape, tree.stride(), tree.dtype
    if isinstance(tree, Mapping):
        return tuple((name, _form(part, tensors)) for name, part in tree.items())
    if isinstance(tree, (list, tuple)):
        return tuple(_form(part, tensors) for part in tree)
    return tree


def _filled(tree: Any, tensors: Iterator[Tensor]) -> Any:
    """`tree` with other tensors, in the order of `_form`."""
    if isinstance(tree, Tensor):
        return next(tensors)
    if isinstance(tree, Mapping):
        return {name: _filled(part, tensors) for name, part in tree.items()}
    if isinstance(tree, (list, tuple)):
        return tuple(_filled(part, tensors) for part in tree)
    return tree

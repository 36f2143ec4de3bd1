"""SRGAN's two stages in one run (Ledig et al. 2017, arXiv:1609.04802): a generator alone, then against a discriminator.

In the second stage each step is lean: one forward pass of the generator serves both turns. First the generator is
updated, with the discriminator's weights frozen so that no gradient is computed for them; then the discriminator, on
the same fakes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from ignite.engine import Events
from monai.engines.utils import IterationEvents
from monai.utils import CommonKeys as Keys
from torch import Tensor, nn

from monai_ext.engines.batch_engines import BatchTrainer, _as_float32, _laid_out, _memory_format, _unpack
from monai_ext.engines.gradients import average_over_ranks, copy_from_first_rank, frozen
from monai_ext.engines.precision import autocast
from monai_ext.losses.adversarial import LogisticAdversarialLoss

__all__ = ["TERMS", "PairedAdversarialTrainer"]

TERMS = "terms"  # key of the engine's output

_logger = logging.getLogger(__name__)


class PairedAdversarialTrainer(BatchTrainer):
    """`BatchTrainer` that plays against a discriminator from epoch `pretrain_epochs + 1` on.

    Batches are pairs: image (B, C, h, w) and label (B, C', H, W), the real image of the discriminator. Stage one
    minimises `loss_function` alone. Stage two minimises

        sum over `image_losses` of weight * loss(prediction, label) + adversarial_weight * adversarial(D(prediction))

    for the generator, and adversarial(D(label)) + adversarial(D(prediction)) + penalty for the discriminator. The
    generator's optimiser forgets its moments at the switch, since the new losses have another scale.

    The engine's output holds image, label, prediction, loss (the generator's) and `terms`, scalars on the device by
    name: "pixel" in stage one; the names of `image_losses`, "adversarial", "discriminator", "real_score", "fake_score"
    (mean probability "real" of real images and of fakes) and, in steps that have it, "penalty" in stage two.

    Under torch.distributed gradients are averaged over the processes after each backward pass; hand in plain networks,
    without `DistributedDataParallel`. The state of a run is that of both networks, both optimisers and the average.

    Args:
        network, optimizer: the generator and its optimiser.
        loss_function: of stage one, and prediction and label as its arguments.
        discriminator: image (B, C', H, W) -> logits of any shape, positive for "real".
        discriminator_optimizer: its optimiser; another learning rate than the generator's is the two-time-scale rule
            (Heusel et al. 2017).
        pretrain_epochs: epochs of stage one; 0 has none.
        image_losses: name -> (weight, loss) of stage two; entries without a loss (None) are left out.
        adversarial_loss: called as loss(logits, target_is_real, for_discriminator); label smoothing is its own. MONAI's
            `PatchAdversarialLoss` fits as well.
        adversarial_weight: the paper's 1e-3.
        penalty: penalty(discriminator, real), such as `R1Penalty`; None for none.
        penalty_interval: steps between two penalties, each multiplied by as many (Karras et al. 2020, lazy
            regularisation).
        kwargs: as for `BatchTrainer`; `average` follows the generator, `max_grad_norm` clips both networks.

    Raises:
        ValueError: epochs or interval out of range, or stage two has nothing that holds the image to its label.
    """

    needs_image_losses = True

    def __init__(
        self,
        device: torch.device | str,
        max_epochs: int,
        train_data_loader: Iterable,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss_function: Any,
        *,
        discriminator: nn.Module,
        discriminator_optimizer: torch.optim.Optimizer,
        pretrain_epochs: int,
        image_losses: Mapping[str, Sequence],
        adversarial_loss: Callable | None = None,
        adversarial_weight: float = 1e-3,
        penalty: Callable[[nn.Module, Tensor], Tensor] | None = None,
        penalty_interval: int = 16,
        channels_last: bool = True,
        **kwargs: Any,
    ):
        if pretrain_epochs < 0 or penalty_interval < 1:
            raise ValueError(
                f"pretrain_epochs={pretrain_epochs} and penalty_interval={penalty_interval} must be at least 0 and 1."
            )
        self.image_losses = {name: (weight, loss) for name, (weight, loss) in image_losses.items() if loss is not None}
        if self.needs_image_losses and not self.image_losses and max_epochs > pretrain_epochs:
            raise ValueError("image_losses is empty: without one the adversarial stage forgets what the image shows.")
        self.discriminator = discriminator
        self.discriminator_optimizer = discriminator_optimizer
        self.pretrain_epochs = pretrain_epochs
        self.adversarial_loss = adversarial_loss or LogisticAdversarialLoss()
        self.adversarial_weight = adversarial_weight
        self.penalty = penalty
        self.penalty_interval = penalty_interval
        super().__init__(
            device,
            max_epochs,
            train_data_loader,
            network,
            optimizer,
            loss_function,
            channels_last=channels_last,
            **kwargs,
        )
        _memory_format(discriminator, channels_last)
        self.add_event_handler(Events.STARTED, self._begin_alike)
        self.add_event_handler(Events.EPOCH_STARTED, self._begin_stage)
        self.add_event_handler(IterationEvents.BACKWARD_COMPLETED, lambda: average_over_ranks(network))

    @property
    def adversarial(self) -> bool:
        """Whether the present epoch belongs to stage two."""
        return self.state.epoch > self.pretrain_epochs

    def _begin_alike(self) -> None:
        for network in (self.network, self.discriminator):
            copy_from_first_rank(network)

    def _begin_stage(self) -> None:
        if self.state.epoch == self.pretrain_epochs + 1:
            self.optimizer.state.clear()
            _logger.info(f"epoch {self.state.epoch}: the adversarial stage begins")

    def _iteration(self, engine: PairedAdversarialTrainer, batchdata: dict[str, Tensor]) -> dict[str, Any]:
        if not self.adversarial:
            output = super()._iteration(engine, batchdata)
            output[TERMS] = {"pixel": output[Keys.LOSS].detach()}
            return output
        return self._play(engine, batchdata)

    def _play(self, engine: PairedAdversarialTrainer, batchdata: dict[str, Tensor]) -> dict[str, Any]:
        """A turn of the generator and, in stage two, one of the discriminator on the same fakes."""
        inputs, targets, args, kwargs = _unpack(engine, batchdata)
        inputs, targets = (_laid_out(images, self.memory_format) for images in (inputs, targets))
        self.network.train()
        self.discriminator.train()
        engine.state.output = {Keys.IMAGE: inputs, Keys.LABEL: targets}
        with autocast(engine.state.device, self.dtype):
            answer = _as_float32(engine.inferer(inputs, self.network, *args, **kwargs))
        fake = self._judged(answer)
        engine.state.output[Keys.PRED] = fake.detach()
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)
        engine.state.output[TERMS] = self._generator_turn(engine, answer, targets)
        if self.adversarial:
            engine.state.output[TERMS] |= self._discriminator_turn(engine, fake.detach(), targets)
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output

    def _judged(self, answer: Any) -> Tensor:
        """The image in the network's answer that the discriminator judges."""
        return answer

    def _generator_terms(self, answer: Any, targets: Tensor) -> dict[str, tuple[float, Tensor]]:
        """Name -> (weight, value) of all terms of the generator's loss, in this order."""
        return self._image_terms(answer, targets) | self._adversarial_term(self._judged(answer))

    def _image_terms(self, prediction: Tensor, targets: Tensor) -> dict[str, tuple[float, Tensor]]:
        return {name: (weight, loss(prediction, targets).mean()) for name, (weight, loss) in self.image_losses.items()}

    def _adversarial_term(self, fake: Tensor) -> dict[str, tuple[float, Tensor]]:
        term = self.adversarial_loss(self.discriminator(fake), target_is_real=True, for_discriminator=False)
        return {"adversarial": (self.adversarial_weight, term)}

    def _generator_turn(self, engine: PairedAdversarialTrainer, answer: Any, targets: Tensor) -> dict[str, Tensor]:
        self.optimizer.zero_grad(set_to_none=True)
        with frozen(self.discriminator), autocast(engine.state.device, self.dtype):
            terms = self._generator_terms(answer, targets)
        loss = sum(weight * term for weight, term in terms.values())
        engine.state.output[Keys.LOSS] = loss.detach()
        engine.fire_event(IterationEvents.LOSS_COMPLETED)
        loss.backward()
        engine.fire_event(IterationEvents.BACKWARD_COMPLETED)
        self._step(self.network, self.optimizer)
        if self.average is not None:
            self.average.update_parameters(self.network)
        return {name: term.detach() for name, (_, term) in terms.items()}

    def _discriminator_turn(self, engine: PairedAdversarialTrainer, fake: Tensor, real: Tensor) -> dict[str, Tensor]:
        self.discriminator_optimizer.zero_grad(set_to_none=True)
        with autocast(engine.state.device, self.dtype):
            real_logits, fake_logits = self.discriminator(real), self.discriminator(fake)
        loss = self.adversarial_loss(real_logits, target_is_real=True, for_discriminator=True)
        loss = loss + self.adversarial_loss(fake_logits, target_is_real=False, for_discriminator=True)
        terms = {"discriminator": loss.detach()}
        if self.penalty is not None and (engine.state.iteration - 1) % self.penalty_interval == 0:
            penalty = self.penalty(self.discriminator, real)
            loss = loss + self.penalty_interval * penalty
            terms["penalty"] = penalty.detach()
        loss.backward()
        average_over_ranks(self.discriminator)
        self._step(self.discriminator, self.discriminator_optimizer)
        scores = {"real_score": real_logits, "fake_score": fake_logits}
        return terms | {name: logits.detach().float().sigmoid().mean() for name, logits in scores.items()}

    def _step(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        if self.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(network.parameters(), self.max_grad_norm)
        optimizer.step()

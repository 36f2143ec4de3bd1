"""SRGAN's two stages in one run (Ledig et al. 2017, arXiv:1609.04802): a generator alone, then against a discriminator.

In the second stage one forward pass of the generator serves both networks: the generator is updated first, with the
discriminator's weights frozen so that no gradient is computed for them; then the discriminator, on the same fakes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import reduce
from typing import Any

import torch
from ignite.engine import Events
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.utils import CommonKeys as Keys
from torch import Tensor, nn

from monai_ext.engines.batch_engines import BatchTrainer
from monai_ext.engines.batches import as_float32, laid_out, prepared, to_channels_last
from monai_ext.engines.gradients import average_over_ranks, clipped_step, copy_from_first_rank, frozen
from monai_ext.losses.adversarial import LogisticAdversarialLoss, R1Penalty

__all__ = ["TERMS", "Adversary", "PairedAdversarialTrainer", "logistic_adversary"]

TERMS = "terms"  # key of the engine's output
WeightedTerms = dict[str, tuple[float, Tensor]]  # name -> (weight, value)

_logger = logging.getLogger(__name__)


class Adversary:
    """A discriminator, how it is trained, and what the generator learns from it.

    Args:
        discriminator: image (B, C, H, W) -> logits of any shape, positive for "real".
        optimizer: of the discriminator; another learning rate than the generator's is the two-time-scale rule (Heusel
            et al. 2017).
        loss: called as loss(logits, target_is_real, for_discriminator); None: `LogisticAdversarialLoss()`. MONAI's
            `PatchAdversarialLoss` fits as well.
        weight: of the adversarial term in the generator's loss; 1e-3 is SRGAN's. With 0 there is no such term, and the
            discriminator stays as it is.
        penalty: penalty(discriminator, real), such as `R1Penalty`.
        penalty_interval: steps between two penalties, each multiplied by as many (Karras et al. 2020, lazy
            regularisation).

    Raises:
        ValueError: an interval below 1.
    """

    def __init__(
        self,
        discriminator: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        loss: Callable[..., Tensor] | None = None,
        weight: float = 1e-3,
        penalty: Callable[[nn.Module, Tensor], Tensor] | None = None,
        penalty_interval: int = 16,
    ):
        if penalty_interval < 1:
            raise ValueError(f"penalty_interval={penalty_interval} must be at least 1.")
        self.discriminator = discriminator
        self.optimizer = optimizer
        self.loss = loss or LogisticAdversarialLoss()
        self.weight = weight
        self.penalty = penalty
        self.penalty_interval = penalty_interval

    def generator_term(self, fake: Tensor) -> WeightedTerms:
        if not self.weight:
            return {}
        term = self.loss(self.discriminator(fake), target_is_real=True, for_discriminator=False)
        return {"adversarial": (self.weight, term)}

    def update(
        self,
        real: Tensor,
        fake: Tensor,
        *,
        step: int,
        precision: AbstractContextManager,
        max_grad_norm: float | None = None,
    ) -> dict[str, Tensor]:
        """One step of the discriminator, the first being step 0; its terms and mean scores, scalars on the device."""
        if not self.weight:
            return {}
        self.optimizer.zero_grad(set_to_none=True)
        with precision:
            real_logits, fake_logits = self.discriminator(real), self.discriminator(fake)
        loss = self.loss(real_logits, target_is_real=True, for_discriminator=True)
        loss = loss + self.loss(fake_logits, target_is_real=False, for_discriminator=True)
        terms = {"discriminator": loss.detach()}
        if self.penalty is not None and step % self.penalty_interval == 0:
            penalty = self.penalty(self.discriminator, real)
            loss = loss + self.penalty_interval * penalty
            terms["penalty"] = penalty.detach()
        loss.backward()
        average_over_ranks(self.discriminator)
        clipped_step(self.discriminator, self.optimizer, max_grad_norm)
        scores = {"real_score": real_logits, "fake_score": fake_logits}
        return terms | {name: logits.detach().float().sigmoid().mean() for name, logits in scores.items()}


def logistic_adversary(
    discriminator: nn.Module,
    *,
    learning_rate: float,
    device: torch.device | str | None = None,
    betas: Sequence[float] = (0.5, 0.99),
    weight: float = 1e-3,
    label_smoothing: float = 0.0,
    r1_gamma: float = 0.0,
    r1_interval: int = 16,
) -> Adversary:
    """The adversary of the super-resolution bundles: logistic losses, Adam, and lazy R1 where `r1_gamma` is not 0.

    Args:
        learning_rate, betas: of Adam for the discriminator.
        device: where the discriminator is moved; None leaves it where it is.
        weight: of the adversarial term in the generator's loss.
        label_smoothing: see `LogisticAdversarialLoss`.
        r1_gamma: see `R1Penalty`.
        r1_interval: steps between two penalties.
    """
    discriminator = discriminator.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    first, second = betas
    return Adversary(
        discriminator,
        torch.optim.Adam(discriminator.parameters(), learning_rate, betas=(first, second), fused=True),
        loss=LogisticAdversarialLoss(label_smoothing=label_smoothing),
        weight=weight,
        penalty=R1Penalty(r1_gamma) if r1_gamma else None,
        penalty_interval=r1_interval,
    )


class PairedAdversarialTrainer(BatchTrainer):
    """`BatchTrainer` with an adversary from epoch `pretrain_epochs + 1` on.

    Batches are pairs: image (B, C, h, w) and label (B, C', H, W), the real image of the discriminator. Stage one
    minimises `loss_function` alone. Stage two minimises

        sum over `image_losses` of weight * loss(prediction, label) + adversary.weight * adversarial(D(prediction))

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
        adversary: the discriminator, see `Adversary`.
        pretrain_epochs: epochs of stage one; 0 has none.
        image_losses: name -> (weight, loss) of stage two; entries without a loss (None) or of weight 0 are left out.
        kwargs: as for `BatchTrainer`; `average` follows the generator, `max_grad_norm` clips both networks, `compile`
            is for the generator.

    Raises:
        ValueError: a negative number of epochs, or a stage two without any image loss.
    """

    needs_image_losses = True
    wraps_network = False

    def __init__(
        self,
        device: torch.device | str,
        max_epochs: int,
        train_data_loader: Iterable,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss_function: Any,
        *,
        adversary: Adversary,
        pretrain_epochs: int,
        image_losses: Mapping[str, Sequence],
        **kwargs: Any,
    ):
        if pretrain_epochs < 0:
            raise ValueError(f"pretrain_epochs={pretrain_epochs} must be at least 0.")
        self.image_losses = with_a_loss(image_losses)
        if self.needs_image_losses and not self.image_losses and max_epochs > pretrain_epochs:
            raise ValueError("image_losses is empty: without one nothing in stage two ties the image to its label.")
        self.adversary = adversary
        self.pretrain_epochs = pretrain_epochs
        super().__init__(device, max_epochs, train_data_loader, network, optimizer, loss_function, **kwargs)
        to_channels_last(adversary.discriminator, self.memory_format is not None)
        self.add_event_handler(Events.STARTED, self._begin_alike)
        self.add_event_handler(Events.EPOCH_STARTED, self._begin_stage)
        self.add_event_handler(IterationEvents.BACKWARD_COMPLETED, lambda: average_over_ranks(network))

    @property
    def adversarial(self) -> bool:
        """Whether the present epoch belongs to stage two."""
        return self.state.epoch > self.pretrain_epochs

    def _begin_alike(self) -> None:
        for network in (self.network, self.adversary.discriminator):
            copy_from_first_rank(network)

    def _begin_stage(self) -> None:
        if self.state.epoch == self.pretrain_epochs + 1:
            self.optimizer.state.clear()
            _logger.info(f"epoch {self.state.epoch}: the adversarial stage begins")

    def _iteration(self, engine: SupervisedTrainer, batchdata: dict[str, Tensor]) -> dict[str, Any]:
        if self.adversarial:
            return self._update_both(batchdata)
        output = super()._iteration(engine, batchdata)
        output[TERMS] = {"pixel": output[Keys.LOSS].detach()}
        return output

    def _update_both(self, batchdata: dict[str, Tensor]) -> dict[str, Any]:
        """A step of the generator and, in stage two, one of the discriminator on the same fakes."""
        inputs, targets, args, kwargs = prepared(self, batchdata)
        targets = laid_out(targets, self.memory_format)
        self.network.train()
        self.adversary.discriminator.train()
        self.state.output = {Keys.IMAGE: inputs, Keys.LABEL: targets}
        self._begin_step()
        with self._in_precision:
            output = as_float32(self.inferer(inputs, self.network, *args, **kwargs))
        fake = self._fake(output)
        self.state.output[Keys.PRED] = fake.detach()
        self._fire(IterationEvents.FORWARD_COMPLETED)
        terms = self._update_generator(output, targets)
        if self.adversarial:
            terms |= self.adversary.update(
                targets,
                fake.detach(),
                step=self.state.iteration - 1,
                precision=self._in_precision,
                max_grad_norm=self.max_grad_norm,
            )
        self.state.output[TERMS] = terms
        self._fire(IterationEvents.MODEL_COMPLETED)
        return self.state.output

    def _fake(self, output: Any) -> Tensor:
        """The image in the generator's output that the discriminator sees."""
        return output

    def _generator_terms(self, output: Any, targets: Tensor) -> WeightedTerms:
        """All terms of the generator's loss, in this order."""
        return self._image_terms(output, targets) | self.adversary.generator_term(self._fake(output))

    def _image_terms(self, prediction: Tensor, targets: Tensor) -> WeightedTerms:
        return {name: (weight, loss(prediction, targets).mean()) for name, (weight, loss) in self.image_losses.items()}

    def _update_generator(self, output: Any, targets: Tensor) -> dict[str, Tensor]:
        self.optimizer.zero_grad(set_to_none=True)
        with frozen(self.adversary.discriminator), self._in_precision:
            terms = self._generator_terms(output, targets)
        loss = reduce(torch.add, (weight * term for weight, term in terms.values()))
        self.state.output[Keys.LOSS] = loss.detach()
        self._descend(loss)
        return {name: term.detach() for name, (_, term) in terms.items()}


def with_a_loss(losses: Mapping[str, Sequence] | None) -> dict[str, tuple[float, Callable[..., Tensor]]]:
    """Name -> (weight, loss) without the entries whose loss is None or whose weight is 0."""
    return {name: (weight, loss) for name, (weight, loss) in (losses or {}).items() if loss is not None and weight}

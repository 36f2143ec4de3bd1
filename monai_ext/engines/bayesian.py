"""Training of a super-resolution network with a latent in two stages, and its validation by mean and samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from ignite.engine import Events
from monai.engines import PrepareBatch, SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.utils import CommonKeys as Keys
from torch import Tensor, nn

from monai_ext.engines.adversarial import PairedAdversarialTrainer, WeightedTerms, with_a_loss
from monai_ext.engines.batch_engines import BatchEvaluator
from monai_ext.engines.batches import count_items
from monai_ext.losses.super_resolution_elbo import SuperResolutionELBO, values_per_pixel, watched_terms
from monai_ext.networks.uncertain_sr import UncertainSuperResolution
from monai_ext.networks.variational import VariationalConv2d, weight_divergence

__all__ = ["SAMPLES", "BayesianAdversarialTrainer", "PrepareSuperResolution", "SampledEvaluator"]

SAMPLES = "samples"  # key of the evaluator's output


class PrepareSuperResolution(PrepareBatch):
    """Batch -> (low resolution, high resolution, (), {"high_res", "samples"}), the latter arguments of the network.

    Args:
        samples: of the prior in each step; an energy score needs two.
    """

    def __init__(self, samples: int = 2):
        self.samples = samples

    def __call__(
        self,
        batchdata: Mapping[str, Any],
        device: torch.device | str | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor, tuple, dict[str, Any]]:
        low_res, high_res = (
            batchdata[key].to(device=device, non_blocking=non_blocking, **kwargs) for key in (Keys.IMAGE, Keys.LABEL)
        )
        return low_res, high_res, (), {"high_res": high_res, "samples": self.samples}


class BayesianAdversarialTrainer(PairedAdversarialTrainer):
    """`PairedAdversarialTrainer` for `BayesianSRResNet`: the same two stages, with a latent.

    Stage one minimises `loss_function`, the evidence lower bound and the energy score of prior samples, and
    `sample_losses` of these. Stage two adds `image_losses` of the output at a latent of the posterior, and the
    adversarial term of a sample of the prior, which the discriminator sees.

    The engine's output holds that sample as prediction. `terms` has "likelihood", "kl", "energy", and to be watched
    "kl_00" ... (divergence of each channel of the latent, nats for each low-resolution pixel), "sample_distance" and
    "sample_error"; in stage two those of `PairedAdversarialTrainer` as well; "weights" with a `weight_prior`.

    Args:
        args, kwargs: as for `PairedAdversarialTrainer`; `loss_function` is a `SuperResolutionELBO`, `image_losses` may
            be empty, `prepare_batch` is `PrepareSuperResolution(samples)` unless given.
        samples: of the prior in each step; an energy score needs two.
        sample_losses: name -> (weight, loss) of both stages, called as loss(samples, target) with samples
            (B, n, C, H, W), such as `PerceptualEnergy`; entries without a loss (None) or of weight 0 are left out.
        weight_prior: weight of the divergence of variational weights from their prior, see `weight_divergence`; None:
            that of the bound, the loss's `elbo_weight` over the number of all values in an epoch's targets.

    Raises:
        ValueError: as `PairedAdversarialTrainer`, or a negative weight.
    """

    needs_image_losses = False
    loss_function: SuperResolutionELBO

    def __init__(
        self,
        *args: Any,
        samples: int = 2,
        weight_prior: float | None = None,
        sample_losses: Mapping[str, Sequence] | None = None,
        **kwargs: Any,
    ):
        if weight_prior is not None and weight_prior < 0:
            raise ValueError(f"weight_prior={weight_prior} must be at least 0.")
        self.weight_prior = weight_prior
        self.sample_losses = with_a_loss(sample_losses)
        super().__init__(*args, **({"prepare_batch": PrepareSuperResolution(samples)} | kwargs))
        self._variational = any(isinstance(module, VariationalConv2d) for module in self.network.modules())

    def _iteration(self, engine: SupervisedTrainer, batchdata: dict[str, Tensor]) -> dict[str, Any]:
        return self._update_both(batchdata)

    def _fake(self, output: Mapping[str, Tensor]) -> Tensor:
        return output["samples"][:, 0]

    def _generator_terms(self, output: Mapping[str, Tensor], targets: Tensor) -> WeightedTerms:
        parts = self.loss_function.terms(output, targets)
        terms = self.loss_function.weighted(parts, values=values_per_pixel(output))
        if self._variational and self.weight_prior != 0:
            terms["weights"] = (self._weight_of_prior(targets), torch.as_tensor(weight_divergence(self.network)))
        terms |= {name: (w, loss(output["samples"], targets)) for name, (w, loss) in self.sample_losses.items()}
        if self.adversarial:
            terms |= self._image_terms(output["mean"], targets) | self.adversary.generator_term(self._fake(output))
        return terms | {name: (0.0, value) for name, value in watched_terms(parts).items()}

    def _weight_of_prior(self, targets: Tensor) -> float:
        if self.weight_prior is None:
            self.weight_prior = self.loss_function.elbo_weight / (count_items(self.data_loader) * targets[0].numel())
        return self.weight_prior


class SampledEvaluator(BatchEvaluator):
    """`BatchEvaluator` whose output holds, beside the prediction, "samples" (B, n, C, H, W) of the same images.

    The prediction is the network's output at the mean of its prior. Every run draws the same samples.

    Args:
        device, val_data_loader, network, kwargs: as for `BatchEvaluator`; the network is an `UncertainSuperResolution`.
        samples: n.
        seed: of the samples.
    """

    network: UncertainSuperResolution

    def __init__(
        self,
        device: torch.device | str,
        val_data_loader: Iterable,
        network: nn.Module,
        *,
        samples: int = 2,
        seed: int = 0,
        **kwargs: Any,
    ):
        super().__init__(device, val_data_loader, network, **kwargs)
        self.samples, self.seed = samples, seed
        self.generator = torch.Generator()
        self.add_event_handler(Events.EPOCH_STARTED, lambda: self.generator.manual_seed(self.seed))
        self.add_event_handler(IterationEvents.FORWARD_COMPLETED, self._draw)

    def _draw(self) -> None:
        output = self.state.output
        output[SAMPLES] = self.network.sample(output[Keys.IMAGE], self.samples, generator=self.generator)

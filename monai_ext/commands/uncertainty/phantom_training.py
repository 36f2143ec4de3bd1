"""Small Bayesian super-resolution networks trained in memory on synthetic scenes, and deviations of whole scenes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from monai_ext.losses.super_resolution_elbo import SuperResolutionELBO
from monai_ext.networks.latent_srresnet import BayesianSRResNet
from monai_ext.networks.srresnet import SRResNet
from monai_ext.networks.uncertain_sr import UncertainSuperResolution
from monai_ext.networks.variance_parts import summarise_latents
from monai_ext.networks.variational import DropoutConv2d, VariationalConv2d, weight_divergence
from monai_ext.transforms import RandomFlip, RandomQuarterTurn
from monai_ext.transforms.degradation import Degradation
from monai_ext.transforms.pairs import PairedCrops

__all__ = ["WEIGHTS", "PhantomTraining", "scene_deviations", "train", "train_on_scenes"]

WEIGHTS: Mapping[str, Callable[..., nn.Module]] = {
    "none": nn.Conv2d,
    "dropout": partial(DropoutConv2d, rate=0.1),
    "variational": VariationalConv2d,
}
WARM_UP = 0.25  # share of the steps in which beta rises from 0
MAX_NORM = 1.0


@dataclass(frozen=True)
class PhantomTraining:
    """How a network is built and trained: around an SRResNet, by `SuperResolutionELBO` alone, with its defaults.

    Attributes:
        scale, noise: of the degradation; noise on the [0, 1] scale.
        weights: one of `WEIGHTS`.
        steps, batch_size, learning_rate: of Adam; the rate is the peak of OneCycleLR.
        crop_size: side of the high-resolution crops, pixels.
        patch: of the energy score, pixels.
        features, blocks, latent_channels: of the network.
    """

    scale: int = 4
    noise: float = 0.0
    weights: str = "none"
    steps: int = 1000
    batch_size: int = 8
    learning_rate: float = 2e-3
    crop_size: int = 32
    patch: int = 8
    features: int = 16
    blocks: int = 1
    latent_channels: int = 2

    @property
    def degradation(self) -> Degradation:
        return Degradation(self.scale, noise=self.noise, levels=255)

    def network(self) -> BayesianSRResNet:
        """Not trained; its weights are drawn by PyTorch's global generator."""
        conv = WEIGHTS[self.weights]
        shape = {"features": self.features, "blocks": self.blocks, "scale": self.scale}
        generator = SRResNet(**shape, norm=None, residual=True, upsampling="direct", conv=conv)
        return BayesianSRResNet(
            generator, self.degradation, latent_channels=self.latent_channels, texture_blocks=1, conv=conv
        )


def train_on_scenes(scenes: Tensor, plan: PhantomTraining, *, seed: int = 0) -> BayesianSRResNet:
    """A network trained on crops of `scenes`, in evaluation mode; the same arguments give the same weights.

    Args:
        scenes: high resolutions (N, C, H, W), uint8 or floats in [0, 1].
        plan: what is trained.
        seed: of weights, crops, noise and samples.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = plan.network().train()
        loss = SuperResolutionELBO(patch=plan.patch)
        # the bound on the loss's own scale, one value of an image for one of the sum that the prior stands against
        prior = loss.elbo_weight / scenes.numel()
        crops = PairedCrops(plan.degradation, [RandomFlip(), RandomQuarterTurn()], crop_size=plan.crop_size)

        def pair() -> tuple[Tensor, Tensor]:
            chosen = torch.randint(len(scenes), (plan.batch_size,))
            drawn = crops.apply({"image": scenes[chosen]}, crops.draw(plan.batch_size))
            return drawn["image"], drawn["label"]

        optimizer = torch.optim.Adam(network.parameters(), plan.learning_rate, betas=(0.9, 0.99), fused=True)
        train(network, loss, optimizer, pair, steps=plan.steps, prior=prior, max_norm=MAX_NORM)
    return network.eval()


def train(
    network: BayesianSRResNet,
    loss: SuperResolutionELBO,
    optimizer: torch.optim.Optimizer,
    pair: Callable[[], tuple[Tensor, Tensor]],
    *,
    steps: int,
    beta: float = 1.0,
    prior: float = 0.0,
    max_norm: float = math.inf,
) -> None:
    """Train `network` on two samples of each pair, with the optimiser's learning rate as the peak of OneCycleLR.

    Args:
        pair: draws low resolutions and their originals.
        beta: of the loss, reached after a quarter of the steps.
        prior: weight of the divergence of the weights from their prior, see `weight_divergence`.
        max_norm: to which gradients are cut.
    """
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, optimizer.defaults["lr"], total_steps=steps)
    for step in range(steps):
        low_res, high_res = pair()
        loss.set_beta(beta * min(1.0, step / (WARM_UP * steps)))
        total = loss(network(low_res, high_res=high_res, samples=2), high_res)
        if prior:
            total = total + prior * weight_divergence(network)
        optimizer.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(network.parameters(), max_norm)
        optimizer.step()
        schedule.step()


@torch.no_grad()
def scene_deviations(
    network: UncertainSuperResolution,
    low_res: Tensor,
    *,
    weight_samples: int = 4,
    latent_samples: int = 8,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """Standard deviation by kind, "aleatoric", "ambiguity" and "epistemic", of whole scenes: (B,) each.

    The root of the mean variance over a scene, by the estimators of `variance_parts`, but with the epistemic part cut
    off at 0 after that mean and not in every pixel: cut off pixel by pixel, chance alone makes 4 x 8 samples (weights x
    latents) show an epistemic deviation of a fifth of the ambiguity, which hides any smaller one.

    Args:
        low_res: (B, C, h, w).
        weight_samples, latent_samples: two at least.
        generator: draws the noise, then the weights.
    """
    noise = network.draw_noise(low_res, weight_samples * latent_samples, generator)
    summaries = []
    for i, drawn in enumerate(network.weight_samples(weight_samples, generator)):
        own = noise[:, i * latent_samples : (i + 1) * latent_samples]
        means, variances = zip(*drawn.moments(low_res, own), strict=True)
        summaries.append(summarise_latents(torch.stack(means), torch.stack(variances)))
    means, spreads, variances = torch.stack(summaries, dim=1)  # (T, B, C, H, W) each
    ambiguity = _mean_of_scene(spreads.mean(0))
    between = _mean_of_scene(means.var(0)) if weight_samples > 1 else ambiguity / latent_samples
    parts = {
        "aleatoric": _mean_of_scene(variances.mean(0)),
        "ambiguity": ambiguity,
        "epistemic": (between - ambiguity / latent_samples).clamp(min=0),
    }
    return {kind: variance.sqrt() for kind, variance in parts.items()}


def _mean_of_scene(values: Tensor) -> Tensor:
    return values.flatten(1).mean(1)

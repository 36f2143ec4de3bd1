"""Hierarchical probabilistic U-Net on any backbone: latent maps at several resolutions, from coarse to fine.

After Kohl et al. (2019, arXiv:1905.13077) and PHiSeg (Baumgartner et al. 2019, arXiv:1906.04045): each level of the
latent is drawn given the coarser ones, so that large and small differences between raters are told apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from monai_ext.networks.latent import as_gaussian, bounded_gaussian, latent_at
from monai_ext.networks.latent_unet import resized_maps, same_convolution
from monai_ext.networks.level_plan import plan_levels
from monai_ext.networks.rater_sampler import LatentSampling
from monai_ext.networks.sampling import check_count

__all__ = ["HierarchicalUNet"]

LOG_SIGMA_LIMIT = 5.0
LEVEL = 1.3  # deviation of the logit of the samples, where training begins
FINEST = 2  # halvings of the finest latent


class HierarchicalUNet(LatentSampling):
    """A network conditioned on latent maps at 1/4, 1/8, ... of the resolution: one latent, one coherent mask.

    Features of the backbone give the logit of the share of raters, and by strided convolutions a pyramid f_l. From the
    coarsest level on, with h the state of the coarser level,

        z_l ~ prior_l(h, f_l), in training posterior_l(h, f_l, pyramid of one rater's mask),  h <- state_l(h, f_l, z_l),

    and the finest state, and each z_l by a 1x1 convolution, give what a mask adds to the logit of the share. In the
    beginning that is the coarsest latent alone. Loss: `RaterELBOLoss`.

    Args:
        network: image (B, C, *spatial) -> features (B, F, *spatial), for instance a `segmentation_backbone`.
        features: number of features F.
        levels: of the latent.
        latent: channels of each.
        width: features of pyramid and states.
        initial_logit: of all maps, where training begins.
        spatial_dims, spacing, structures: see `ConditionedHeads`; one latent makes the masks of all structures.

    Raises:
        ValueError: a count below 1.
    """

    learns_from_samples = True

    def __init__(
        self,
        network: nn.Module,
        *,
        features: int,
        levels: int = 3,
        latent: int = 1,
        width: int = 32,
        initial_logit: float = -3.0,
        spatial_dims: int = 2,
        spacing: Sequence[float] | None = None,
        structures: int | None = None,
    ):
        super().__init__()
        for name, value in (("features", features), ("levels", levels), ("latent", latent), ("width", width)):
            check_count(name, value)
        halvings, maps = FINEST + levels - 1, structures or 1
        plan = plan_levels(spatial_dims, halvings=halvings, spacing=spacing)

        def pyramid(channels: int) -> nn.ModuleList:
            kinds = zip([channels] + [width] * (halvings - 1), plan.kernels, plan.strides, strict=False)
            layers = [same_convolution(before, width, kernel, stride) for before, kernel, stride in kinds]
            return nn.ModuleList(nn.Sequential(layer, nn.LeakyReLU(0.1)) for layer in layers)

        def of_levels(before: int, after: int) -> list[nn.Module]:
            return [same_convolution(before, after, kernel) for kernel in plan.kernels[: FINEST - 1 : -1]]

        self.network = network
        self.latent, self.structures = latent, structures
        self.halvings = [
            tuple(math.prod(steps) for steps in zip(*plan.strides[:count], strict=True))
            for count in range(halvings, FINEST - 1, -1)
        ]
        self.common = Conv["conv", spatial_dims](features, maps, 1)
        self.pyramid, self.of_mask = pyramid(features), pyramid(maps)
        self.priors = nn.ModuleList(of_levels(2 * width, 2 * latent))
        self.posteriors = nn.ModuleList(of_levels(3 * width, 2 * latent))
        self.states = nn.ModuleList(
            nn.Sequential(layer, nn.LeakyReLU(0.1)) for layer in of_levels(2 * width + latent, width)
        )
        self.residual = same_convolution(width, maps, plan.kernels[FINEST])
        self.local_levels = nn.ModuleList(
            Conv["conv", spatial_dims](latent, maps, 1, bias=False) for _ in range(levels)
        )
        with torch.no_grad():
            for place, layer in enumerate(self.local_levels):
                layer.get_parameter("weight").zero_()[:, 0] = 0.0 if place else LEVEL
        nn.init.constant_(self.common.get_parameter("bias"), initial_logit)

    def forward(self, image: Tensor, target: Mapping[str, Tensor] | None = None) -> Any:
        """Logits of the share (B, 1, *spatial), or with the target of a training what its loss needs.

        Returns with `target`, {"masks": (B, R, *spatial), "presence": (B, R)}: {"share": (B, 1, *spatial), "logits": of
        the masks, (B, R, *spatial), "prior" and "posterior": (B, R, 2, Z), means and log sigmas of all levels}. With
        structures all maps are (B, ..., K, *spatial).
        """
        features = self.network(image)
        share = self._share(features)
        if target is None:
            return share
        masks = target["masks"]
        cases, raters = masks.shape[:2]
        pyramid = [level.repeat_interleave(raters, dim=0) for level in self._levels_of(self.pyramid, features)]
        masks = masks.flatten(0, 1) if self.structures else masks.flatten(0, 1)[:, None]
        seen = self._levels_of(self.of_mask, masks.to(features.dtype) - 0.5)
        state, priors, posteriors, latents = torch.zeros_like(pyramid[0]), [], [], []
        for place, (level, mask) in enumerate(zip(pyramid, seen, strict=True)):
            state = resized_maps(state, level.shape[2:])
            known = torch.cat([state, level], dim=1)
            priors.append(self._gaussian(self.priors[place], known))
            posteriors.append(self._gaussian(self.posteriors[place], torch.cat([known, mask], dim=1)))
            latent = latent_at(posteriors[-1], torch.randn_like(posteriors[-1][:, 0]))
            latents.append(latent)
            state = self.states[place](torch.cat([known, latent], dim=1))
        gaussians = {
            name: torch.cat([part.flatten(2) for part in parts], dim=2).unflatten(0, (cases, raters))
            for name, parts in (("prior", priors), ("posterior", posteriors))
        }
        return {"share": share, "logits": self._masks(share, state, latents, raters), **gaussians}

    def noise_sizes(self, image: Tensor) -> list[tuple[int, ...]]:
        sizes = [zip(image.shape[2:], steps, strict=True) for steps in self.halvings]
        return [(self.latent, *(-(-side // step) for side, step in size)) for size in sizes]

    def probabilities(
        self, image: Tensor, noise: list[Tensor], summary: Tensor | None = None
    ) -> tuple[Tensor | None, Tensor]:
        features = self.network(image)
        share = self._share(features)
        pyramid = self._levels_of(self.pyramid, features)
        samples = []
        for i in range(noise[0].shape[1]):
            state, latents = torch.zeros_like(pyramid[0]), []
            for place, level in enumerate(pyramid):
                known = torch.cat([resized_maps(state, level.shape[2:]), level], dim=1)
                latent = latent_at(self._gaussian(self.priors[place], known), noise[place][:, i])
                latents.append(latent)
                state = self.states[place](torch.cat([known, latent], dim=1))
            samples.append(self._masks(share, state, latents, 1).float().sigmoid())
        return share.float().sigmoid(), torch.cat(samples, dim=1)

    def _share(self, features: Tensor) -> Tensor:
        """Logits (B, 1, *spatial), with structures (B, 1, K, *spatial)."""
        share = self.common(features.relu())
        return share[:, None] if self.structures else share

    def _masks(self, share: Tensor, state: Tensor, latents: list[Tensor], count: int) -> Tensor:
        """Logits (B, count, *spatial) of states (B * count, width, *spatial / 4) and of the latents of all levels."""
        size = share.shape[3 if self.structures else 2 :]
        residual = resized_maps(self.residual(state), size)
        for layer, latent in zip(self.local_levels, latents, strict=True):
            residual = residual + resized_maps(layer(latent), size)
        residual = residual.unflatten(0, (-1, count))
        return share + (residual if self.structures else residual[:, :, 0])

    def _levels_of(self, layers: nn.ModuleList, maps: Tensor) -> list[Tensor]:
        """The levels of the latent, the coarsest first."""
        found = []
        for layer in layers:
            maps = layer(maps)
            found.append(maps)
        return found[: FINEST - 2 : -1]

    def _gaussian(self, layer: nn.Module, known: Tensor) -> Tensor:
        return bounded_gaussian(as_gaussian(layer(known)), LOG_SIGMA_LIMIT)

"""Interface of all methods for several raters: the share of raters of each pixel, and samples of their masks.

Maps are (B, heads, *spatial), samples (B, n, *spatial), of images (B, C, H, W) or volumes (B, C, H, W, D). Methods for
K structures have an axis of their own for these, (B, heads, K, *spatial) and (B, n, K, *spatial): a sample is all its K
masks at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from monai_ext.networks.sampling import check_count, evaluation_mode, normal_noise

__all__ = [
    "AS_IT_IS",
    "SYMMETRIES",
    "LatentSampling",
    "RaterPrediction",
    "RaterSampler",
    "Symmetry",
]


SURE = 1e-6  # a probability this close to 0 or 1 counts as no closer


class RaterPrediction(NamedTuple):
    """What a method predicts of a batch, as probabilities, float32."""

    share: Tensor
    """Share of raters who mark a pixel, (B, 1, *spatial): the method's own map, which need not be the samples' mean."""
    samples: Tensor
    """(B, n, *spatial); `> 0.5` makes each a mask."""
    heads: Tensor | None = None
    """(B, R, *spatial), map r of rater r, of methods that predict each rater."""


class Symmetry(NamedTuple):
    """A symmetry of the square: a flip of the columns, then quarter turns of rows and columns."""

    turns: int = 0
    flip: bool = False

    def of(self, image: Tensor) -> Tensor:
        """The moved image (B, C, H, W[, D])."""
        return torch.rot90(image.flip(3) if self.flip else image, self.turns, (2, 3))

    def back(self, maps: Tensor, image: Tensor) -> Tensor:
        """Maps of the moved image, (B, ..., H, W[, D]), at their place in the image itself (B, C, H, W[, D])."""
        rows = maps.ndim - image.ndim + 2  # after batch, heads and structures
        maps = torch.rot90(maps, -self.turns, (rows, rows + 1))
        return maps.flip(rows + 1) if self.flip else maps


AS_IT_IS = (Symmetry(),)
SYMMETRIES = tuple(Symmetry(turns, flip) for flip in (False, True) for turns in range(4))


class RaterSampler(nn.Module):
    """Base of all methods for several raters: `predicted` of a subclass.

    Everything that is scored or written comes from `predict`, which runs in evaluation mode without gradients and
    restores the modes of all layers. The same state of `generator` gives the same samples; without one the global
    generator of the device is used. Samples are drawn case by case, so that they do not depend on the batch size.
    """

    per_rater = False
    """Whether there are heads; only then is there a Dice per rater."""

    def predicted(
        self, image: Tensor, n: int, symmetries: Sequence[Symmetry], generator: torch.Generator | None
    ) -> RaterPrediction:
        """What `predict` returns, for n >= 1."""
        raise NotImplementedError

    def predict(
        self,
        image: Tensor,
        n: int,
        *,
        symmetries: Sequence[Symmetry] = AS_IT_IS,
        generator: torch.Generator | None = None,
    ) -> RaterPrediction:
        """Share and n >= 1 samples of an image (B, C, *spatial), with test-time augmentation over `symmetries`."""
        check_count("n", n)
        return self.predicted(image, n, symmetries, generator)

    def sample(self, image: Tensor, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """The samples of `predict` without test-time augmentation."""
        return self.predict(image, n, generator=generator).samples


class LatentSampling(RaterSampler):
    """Base of networks that turn noise into samples: `noise_sizes` and `probabilities` of a subclass.

    With test-time augmentation the share is the mean over the symmetries. Each sample belongs to one of them, since the
    same noise may mean a growth to the left in one and to the top in another: what it adds to the logits of the share
    there is added to those of the mean share.

    Attributes:
        spread: of the samples, factor of the standard deviation of the noise; set after construction. To be chosen on
            cases of which the raters' diversity is known.
    """

    spread = 1.0

    def noise_sizes(self, image: Tensor) -> list[tuple[int, ...]]:
        """Sizes of the noise of one sample: (Z,) for numbers, (Z, *spatial) for maps."""
        raise NotImplementedError

    def summary(self, image: Tensor) -> Tensor | None:
        """What the latent variable is drawn from, (B, ...), where it has no place in the image; None: nothing.

        Its mean over the windows of a volume gives all of them one latent, see `predict_by_windows`.
        """
        return None

    def probabilities(
        self, image: Tensor, noise: list[Tensor], summary: Tensor | None = None
    ) -> tuple[Tensor | None, Tensor]:
        """Share (B, 1, *spatial), None for the mean of the samples, and samples (B, n, *spatial), float32.

        Args:
            noise: see `draw_noise`.
            summary: in place of that of the image; only networks that have one are given any.
        """
        raise NotImplementedError

    def draw_noise(self, image: Tensor, n: int, *, generator: torch.Generator | None = None) -> list[Tensor]:
        """Standard normal numbers times `spread`, (B, n, *size) for each of `noise_sizes`."""
        sizes = self.noise_sizes(image)
        cases = [[normal_noise((n, *size), device=image.device, generator=generator) for size in sizes] for _ in image]
        return [self.spread * torch.stack(parts) for parts in zip(*cases, strict=True)]

    def predicted(
        self, image: Tensor, n: int, symmetries: Sequence[Symmetry], generator: torch.Generator | None
    ) -> RaterPrediction:
        with evaluation_mode(self):
            noise = self.draw_noise(image, n, generator=generator)
            return self.over_symmetries(image, noise, symmetries, [None] * len(symmetries))

    def over_symmetries(
        self, image: Tensor, noise: list[Tensor], symmetries: Sequence[Symmetry], summaries: Sequence[Tensor | None]
    ) -> RaterPrediction:
        """The prediction for given noise, in evaluation mode; `summaries` are those of `probabilities`, or None."""
        count, n = len(symmetries), noise[0].shape[1]
        samples: list[Tensor] = [torch.empty(0)] * n
        shares, own_levels = [], []
        for place, (symmetry, summary) in enumerate(zip(symmetries, summaries, strict=True)):
            own = range(place, n, count) if place < n else range(1)
            moved = [moved_noise(part[:, [*own]], symmetry) for part in noise]
            share, found = self.probabilities(symmetry.of(image), moved, *(() if summary is None else (summary,)))
            if share is not None:
                shares.append(symmetry.back(share, image))
                own_levels.append(_logit(shares[-1]))
            elif place >= n:
                continue
            for i, sample in zip(own, symmetry.back(found, image).unbind(1), strict=True):
                samples[i] = sample if place < n else samples[i]
        if not shares:
            joined = torch.stack(samples, dim=1)
            return RaterPrediction(joined.mean(1, keepdim=True), joined)
        mean = torch.stack(shares).mean(0)
        if count > 1:
            level = _logit(mean)[:, 0]
            samples = [(level + _logit(s) - own_levels[i % count][:, 0]).sigmoid() for i, s in enumerate(samples)]
        return RaterPrediction(mean, torch.stack(samples, dim=1))


def _logit(probability: Tensor) -> Tensor:
    return probability.clamp(SURE, 1 - SURE).logit()


def moved_noise(noise: Tensor, symmetry: Symmetry) -> Tensor:
    """Noise (B, n, *size) of the moved image."""
    if noise.ndim == 3:
        return noise
    return symmetry.of(noise.flatten(0, 1)).unflatten(0, noise.shape[:2])

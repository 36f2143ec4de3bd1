"""High-resolution images that all reduce to one low-resolution image: three ways to make them, exact to the rounding.

Every image that reduces to y is A+ y + (x - A+ A x) for some x. The ways differ in x:

    texture     the image itself, its hidden detail exchanged in soft regions for that of patches of other places
                whose low-resolution sides agree
    mined       a mosaic of whole patches of other places whose low-resolution sides nearly equal y
    sampled     samples of a network; a deterministic one is varied by borrowed detail

and each is then brought onto y within the range of pixels, and rounded to 8 bits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from monai_ext.data.many_hr.measures import LEVELS, low_res_gaps
from monai_ext.data.many_hr.search import BORDER, Donors, Matches, PatchLibrary
from monai_ext.formulas.images import LinearReduction

__all__ = ["Provenance", "Sampler", "TargetMaker", "derived_seed", "kinds_of_targets", "settle"]

REGION_CELLS = 4  # soft regions of the texture have about a quarter of the image's side
REGION_BIAS = 1.5  # at most; more of it exchanges more of the image
REGION_STEEPNESS = 4.0
MOST_TURNS = 100  # towards an exact image within the range; few pixels at its ends need two to five
TOLERANCE = 0.1  # levels; rounding to 8 bits moves a reduced pixel by about 0.05


class Sampler(Protocol):
    """A network as a source of targets.

    Attributes:
        varied: whether its samples differ by themselves.
        identity: names its weights in the settings of the data set.
    """

    varied: bool
    identity: str

    def __call__(self, low_res: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """(count, C, H, W) for `low_res` (1, C, h, w), floats on the [0, 1] scale."""
        ...


class Provenance(NamedTuple):
    """Where a target comes from.

    Attributes:
        kind: its provenance, one of `KINDS`.
        seed: of all its random numbers; None: nothing was drawn.
        donors: numbers of the library's windows that it borrows from.
        borrowed: share of the image that is borrowed.
        agreement: mean root mean square difference, in levels, of the low-resolution sides of the patches borrowed,
            weighted as they are used; None without any.
        gap_before: PSNR in dB of its low-resolution gap before it was brought onto y; None for the original.
    """

    kind: str
    seed: int | None = None
    donors: tuple[int, ...] = ()
    borrowed: float = 0.0
    agreement: float | None = None
    gap_before: float | None = None


def derived_seed(seed: int, *names: int | str) -> int:
    """A seed of 53 bits, so that JSON holds it exactly, of `seed` and what it is for."""
    digest = hashlib.sha256(":".join(map(str, (seed, *names))).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 11


def kinds_of_targets(kinds: Sequence[str], count: int, *, sampler: Sampler | None) -> list[str]:
    """The kind of each of `count` targets: the original, then the others in turn.

    Raises:
        ValueError: no kind is left to make targets of.

    >>> kinds_of_targets(["texture", "mined", "sampled", "capture"], 4, sampler=None)
    ['original', 'texture', 'mined', 'texture']
    """
    made = [kind for kind in kinds if kind in ("texture", "mined") or (kind == "sampled" and sampler is not None)]
    if not made:
        raise ValueError(
            f"kinds {', '.join(kinds) or 'none'} make no targets that agree exactly: choose texture or mined, or "
            "sampled with a model."
        )
    return ["original", *(made[number % len(made)] for number in range(count - 1))]


class _Scene(NamedTuple):
    """What the targets of one low-resolution image share; floats on the [0, 1] scale."""

    image: Tensor  # (C, H, W)
    hidden: Tensor  # its part in the null space, (C, H, W)
    low_res: Tensor  # y in levels, uint8 (C, h, w)
    target: Tensor  # y, (1, C, h, w)
    least: Tensor  # A+ y, (C, H, W)
    group: int
    matches: Matches
    limit: float  # levels up to which patches agree


class TargetMaker:
    """Makes the targets of one low-resolution image.

    Args:
        library: where to borrow from.
        degradation: the operator.
        matrix: its matrix.
        agreement: root mean square difference of low-resolution patches, in levels, up to which they agree, or what
            half of an image's patches find, if that is more. Beyond it less is borrowed, beyond twice as much nothing.
        sampler: for the kind "sampled".
    """

    def __init__(
        self,
        library: PatchLibrary,
        *,
        degradation: LinearReduction,
        matrix: Tensor,
        agreement: float,
        sampler: Sampler | None = None,
    ):
        self.library, self.degradation, self.matrix = library, degradation, matrix
        self.agreement, self.sampler = agreement, sampler

    def __call__(
        self, high_res: Tensor, low_res: Tensor, *, group: int, place: int, kinds: Sequence[str], seeds: Sequence[int]
    ) -> tuple[Tensor, list[Provenance]]:
        """Targets for `low_res`, uint8 (K, C, H, W), the first one `high_res` itself, and where they come from.

        Args:
            high_res: uint8 (C, H, W).
            low_res: uint8 (C, h, w), what `high_res` reduces to.
            group, place: of the image, see `PatchLibrary`.
            kinds: of the targets; the first is "original".
            seeds: of the targets.
        """
        scene = self._scene(high_res, low_res, group=group, place=place)
        drafted = [self._draft(kind, seed, scene) for kind, seed in zip(kinds[1:], seeds[1:], strict=True)]
        made = torch.stack([draft for draft, _ in drafted])
        before = low_res_gaps(self.matrix, made * LEVELS, low_res)
        settled = settle(made, scene.target, degradation=self.degradation)
        origins = [origin._replace(gap_before=gap.psnr) for (_, origin), gap in zip(drafted, before, strict=True)]
        return torch.cat([high_res[None], settled]), [Provenance(kinds[0]), *origins]

    def _scene(self, high_res: Tensor, low_res: Tensor, *, group: int, place: int) -> _Scene:
        target = (low_res.float() / LEVELS)[None]
        matches = self.library.matches(low_res, group=group, place=place)
        nearest = matches.distance[:, 0]
        image = high_res.float() / LEVELS
        return _Scene(
            image=image,
            hidden=self._hidden(image),
            low_res=low_res,
            target=target,
            least=self.degradation.pseudo_inverse(target)[0],
            group=group,
            matches=matches,
            limit=max(self.agreement, float(nearest[nearest.isfinite()].median())),
        )

    def _draft(self, kind: str, seed: int, scene: _Scene) -> tuple[Tensor, Provenance]:
        """A target before it is settled, (C, H, W)."""
        generator = torch.Generator().manual_seed(seed)
        hidden = scene.hidden
        if kind == "sampled":
            if self.sampler is None:
                raise ValueError("targets of the kind 'sampled' need a network: give one as sampler.")
            sample = self._sample(self.sampler, scene, generator)
            if self.sampler.varied:
                return sample, Provenance(kind, seed)
            hidden = self._hidden(sample)
        donors = self.library.draw(
            scene.matches, scene.low_res, group=scene.group, limit=scene.limit, generator=generator
        )
        trust = (2 - donors.distance / scene.limit).clamp(0, 1)
        if kind == "mined":
            draft, share = self._mined(scene, donors, trust)
        else:
            draft, share = self._textured(hidden, scene.least, donors, trust, generator)
        used = trust > 0
        tiles = tuple(donors.tile[used].unique().tolist())
        mean = float((trust * donors.distance)[used].sum() / trust.sum()) if tiles else None
        return draft, Provenance(kind, seed, tiles, share, mean)

    def _hidden(self, image: Tensor) -> Tensor:
        return self.degradation.null_space(image[None])[0]

    def _textured(
        self, hidden: Tensor, least: Tensor, donors: Donors, trust: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, float]:
        mosaic = self.library.mosaic(self.library.details(donors), trust)
        borrowed, trusted = mosaic[:-1], mosaic[-1:]
        size = hidden.shape[-1]
        share = _regions(size, generator) * trusted * _inner(size, self.library.scale)
        # unrelated textures: their variances add, not their amplitudes
        return least + (1 - share**2).sqrt() * hidden + share * borrowed / LEVELS, float(share.mean())

    def _mined(self, scene: _Scene, donors: Donors, trust: Tensor) -> tuple[Tensor, float]:
        mosaic = self.library.mosaic(self.library.pictures(donors, scene.low_res), trust)
        pictures, share = mosaic[:-1], mosaic[-1:]
        return torch.lerp(scene.image, pictures / LEVELS, share.expand_as(pictures)), float(share.mean())

    @staticmethod
    def _sample(sampler: Sampler, scene: _Scene, generator: torch.Generator) -> Tensor:
        sample = sampler(scene.target, 1, generator)
        if sample.shape != (1, *scene.image.shape):
            raise ValueError(
                f"the network makes {tuple(sample.shape)} of {tuple(scene.target.shape)}, not "
                f"{(1, *scene.image.shape)}: choose the --scale and --bands that it was trained for."
            )
        return sample[0].float()


def settle(images: Tensor, target: Tensor, *, degradation: LinearReduction) -> Tensor:
    """The images nearest to `images` (K, C, H, W) that reduce to `target` (1, C, h, w) within [0, 1], as uint8.

    Minimises |x - image|^2 by ascent on the dual, x = clip(image + A+ m), with Nesterov's momentum (Beck and Teboulle
    2009, FISTA), until what is left is below a tenth of a level. Bicubic kernels overshoot and files cut that off:
    where the target is 0 or 1, images may reduce to less or to more.

    Args:
        images, target: floats on the [0, 1] scale; `images` may leave it.
    """
    start, target = images.double(), target.double()
    result = torch.empty_like(start)
    left = torch.arange(len(start))
    dual = ahead = torch.zeros(len(start), *target.shape[1:], dtype=torch.float64)
    for turn in range(MOST_TURNS):
        image = degradation.pseudo_inverse(ahead).add_(start).clamp_(0, 1)
        seen = degradation.reduce(image)
        missing = _beyond_limits(seen, target) - seen
        far = missing.abs().flatten(1).amax(1) > TOLERANCE / LEVELS
        if turn == MOST_TURNS - 1:
            far[:] = False
        result[left[~far]] = image[~far]
        if not far.any():
            break
        left, start, before, dual = left[far], start[far], dual[far], (ahead + missing)[far]
        ahead = dual + turn / (turn + 3) * (dual - before)
    return (result * LEVELS).round().to(torch.uint8)


def _beyond_limits(seen: Tensor, target: Tensor) -> Tensor:
    """The target; where it lies at the limit of the range, `seen` if that lies beyond, since a file shows no more."""
    at_top, at_bottom = target >= 1, target <= 0
    return torch.where(at_top, seen.clamp(min=1), torch.where(at_bottom, seen.clamp(max=0), target))


def _inner(size: int, scale: int) -> Tensor:
    """1 within (1, size, size), falling to 0 over the pixels at which the pseudo-inverse feels the border."""
    off_border = torch.arange(size).minimum(torch.arange(size).flip(0))
    ramp = ((off_border - BORDER * scale / 2) / (BORDER * scale / 2)).clamp(0, 1)
    return (ramp[:, None] * ramp[None, :])[None]


def _regions(size: int, generator: torch.Generator) -> Tensor:
    """A soft random mask, (1, size, size) in [0, 1], of half to nearly all of the image on average."""
    field = torch.randn(1, 1, REGION_CELLS, REGION_CELLS, generator=generator)
    bias = REGION_BIAS * torch.rand((), generator=generator)
    smooth = F.interpolate(field, (size, size), mode="bicubic", align_corners=False)[0]
    return torch.sigmoid(REGION_STEEPNESS * (smooth + bias))

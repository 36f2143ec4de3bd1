"""Predictions of methods for several raters window by window, for volumes too large for one pass.

Samples agree between windows: maps are put together before samples are drawn from them, and a latent variable is drawn
once for the volume, from the mean over windows of what the network knows of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from monai.data.utils import dense_patch_slices
from monai.inferers.utils import sliding_window_inference
from torch import Tensor, nn

from monai_ext.networks.ensembles import DeepEnsemble
from monai_ext.networks.multi_rater import MapSampler
from monai_ext.networks.rater_sampler import AS_IT_IS, LatentSampling, RaterPrediction, Symmetry
from monai_ext.networks.sampling import check_count, evaluation_mode

__all__ = ["predict_by_windows"]

SLAB_VOXELS = 2**22  # of which samples are drawn at once
Place = tuple[slice, ...]  # of a window: case, channels, spatial axes


def predict_by_windows(
    sampler: nn.Module,
    image: Tensor,
    n: int,
    *,
    window: Sequence[int],
    overlap: float = 0.25,
    batch_size: int = 4,
    symmetries: Sequence[Symmetry] = AS_IT_IS,
    generator: torch.Generator | None = None,
) -> RaterPrediction:
    """What `sampler.predict` gives, put together from windows; an image smaller than a window is padded to it.

    Windows are those of MONAI's `sliding_window_inference`, blended by Gaussian weights. Padding holds the lowest value
    of the image, as that of `RandomCrops`. Samples are float16, since those of a volume are large: they take 2 n bytes
    a voxel, and nothing else takes more than the maps, in float32.

    Args:
        sampler: a method for several raters.
        image: (B, C, *spatial).
        n, symmetries, generator: see `RaterSampler`.
        window: its sides, one for each spatial axis.
        overlap: of neighbouring windows, a share of their sides.
        batch_size: windows in one pass.

    Raises:
        ValueError: n < 1, a window of other axes than the image, or a method whose samples would differ from window to
            window.
    """
    check_count("n", n)
    if isinstance(sampler, DeepEnsemble):
        options: dict[str, Any] = {
            "window": window,
            "overlap": overlap,
            "batch_size": batch_size,
            "symmetries": symmetries,
            "generator": generator,
        }
        return sampler.joined(n, lambda member, count: predict_by_windows(member, image, count, **options))
    if len(window) != image.ndim - 2:
        raise ValueError(f"window={list(window)} for an image {tuple(image.shape)}: give one side for each axis.")
    windows = _Windows(image, tuple(int(side) for side in window), overlap, batch_size)
    if isinstance(sampler, MapSampler):
        return _of_maps(sampler, windows, n, symmetries, generator)
    if isinstance(sampler, LatentSampling):
        with evaluation_mode(sampler):
            return _of_latents(sampler, windows, n, symmetries, generator)
    raise ValueError(
        f"{type(sampler).__name__} draws its samples anew in each window, so that they would not fit together: leave "
        "out window, or take a method that draws from maps or from a latent variable."
    )


class _Windows:
    """An image padded to the size of a window at least, and its windows."""

    def __init__(self, image: Tensor, size: tuple[int, ...], overlap: float, batch_size: int):
        self.size, self.overlap, self.batch_size = size, overlap, batch_size
        self.before = [max(0, side - own) // 2 for side, own in zip(size, image.shape[2:], strict=True)]
        after = [max(0, s - own) - b for s, own, b in zip(size, image.shape[2:], self.before, strict=True)]
        pad = [side for pair in zip(reversed(self.before), reversed(after), strict=True) for side in pair]
        self.original = image.shape[2:]
        self.image = F.pad(image, pad, value=float(image.min())) if any(pad) else image

    def joined(self, network: Callable[[Tensor, Sequence[Place]], Tensor], *, dtype: torch.dtype) -> Tensor:
        """The outputs (b, ..., *size) of `network` for windows (b, C, *size) at their places, (B, ..., *spatial)."""
        maps: list[torch.Size] = []
        kind = self.image.device.type
        rounds, rounded = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)

        def predicted(carried: Tensor, places: Sequence[Place]) -> Tensor:
            cut = torch.cat([self.image[tuple(place)] for place in places])
            with torch.autocast(kind, rounded, rounds):
                found = network(cut, places)
            maps[:] = [found.shape[1 : -len(self.size)]]
            return found.flatten(1, -1 - len(self.size)).to(dtype)

        # Sums are in the type of the input, and so this stands for the image, without memory of its own.
        stand_in = torch.zeros((), dtype=dtype, device=self.image.device)
        with torch.autocast(kind, enabled=False):  # of sums
            whole = sliding_window_inference(
                stand_in.expand(len(self.image), 1, *self.image.shape[2:]),
                self.size,
                self.batch_size,
                predicted,
                overlap=self.overlap,
                mode="gaussian",
                with_coord=True,
            )
        if not isinstance(whole, Tensor):
            raise TypeError("the network must return one tensor.")
        for axis, (start, length) in enumerate(zip(self.before, self.original, strict=True), 2):
            whole = whole.narrow(axis, start, length)
        return whole.unflatten(1, maps[0])

    def beside_each_other(self) -> Iterator[Tensor]:
        """Windows (B, C, *size) that cover the image, without overlap where its sides allow that."""
        for place in dense_patch_slices(self.image.shape[2:], self.size, self.size):
            yield self.image[(slice(None), slice(None), *place)]


def _of_maps(
    sampler: MapSampler,
    windows: _Windows,
    n: int,
    symmetries: Sequence[Symmetry],
    generator: torch.Generator | None,
) -> RaterPrediction:
    def maps_of(image: Tensor, places: Sequence[Place]) -> Tensor:
        return sampler.averaged([symmetry.back(sampler.maps(symmetry.of(image)), image) for symmetry in symmetries])

    maps = windows.joined(maps_of, dtype=torch.float32)
    if generator is None:
        generator = torch.Generator().manual_seed(int(torch.randint(2**62, (1,))))
    state = generator.get_state()
    samples = torch.empty((len(maps), n, *maps.shape[2:]), dtype=torch.float16, device=maps.device)
    axis = maps.ndim - len(windows.size)
    height = maps.shape[axis]
    rows = max(1, SLAB_VOXELS * height // (n * maps[:, 0].numel()))
    for start in range(0, height, rows):  # of all slabs the same samples
        generator.set_state(state)
        count = min(rows, height - start)
        drawn = sampler.draw(maps.narrow(axis, start, count), n, generator=generator)
        samples.narrow(axis, start, count).copy_(drawn)
    return RaterPrediction(sampler.share(maps), samples, maps if sampler.per_rater else None)


def _of_latents(
    sampler: LatentSampling,
    windows: _Windows,
    n: int,
    symmetries: Sequence[Symmetry],
    generator: torch.Generator | None,
) -> RaterPrediction:
    noise = sampler.draw_noise(windows.image, n, generator=generator)
    summaries = [_summary(sampler, windows, symmetry) for symmetry in symmetries]

    def samples_of(image: Tensor, places: Sequence[Place]) -> Tensor:
        sizes = sampler.noise_sizes(image)
        own = [_noise_at(part, size, windows, places) for part, size in zip(noise, sizes, strict=True)]
        cases = [place[0].start for place in places]
        shared = [None if summary is None else summary[cases] for summary in summaries]
        found = sampler.over_symmetries(image, own, symmetries, shared)
        return torch.cat([found.share, found.samples], dim=1)

    found = windows.joined(samples_of, dtype=torch.float16)
    return RaterPrediction(found[:, :1].float(), found[:, 1:])


def _summary(sampler: LatentSampling, windows: _Windows, symmetry: Symmetry) -> Tensor | None:
    """That of the whole image, as seen under a symmetry."""
    parts = []
    for image in windows.beside_each_other():
        part = sampler.summary(symmetry.of(image))
        if part is None:
            return None
        parts.append(part)
    return torch.stack(parts).mean(0)


def _noise_at(noise: Tensor, size: Sequence[int], windows: _Windows, places: Sequence[Place]) -> Tensor:
    """The noise (b, n, *size) of windows: that of their cases, and of maps the part at their places.

    Maps coarser than the image are cut at the nearest of their cells.
    """
    parts = []
    for place in places:
        part = noise[place[0]]
        for axis, (own, where) in enumerate(zip(size[1:], place[2:], strict=True) if len(size) > 1 else (), 3):
            cells = part.shape[axis]
            start = round(where.start * cells / windows.image.shape[axis - 1])
            part = part.narrow(axis, min(start, cells - own), own)
        parts.append(part)
    return torch.cat(parts)

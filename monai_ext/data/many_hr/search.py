"""Patches of a collection whose low-resolution sides agree with those of an image, and mosaics of their other sides.

Example-based super-resolution (Freeman et al. 2002, IEEE CG&A 22(2)) turned round: not the best example is taken for a
patch, but each target draws its own among those that agree. Neighbouring patches prefer to go on with one donor
(Ashikhmin 2001, "Synthesizing natural textures"), so that pieces larger than a patch stay whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from monai_ext.data.many_hr.measures import LEVELS, observed
from monai_ext.formulas.images import LinearReduction

__all__ = ["Donors", "Matches", "PatchLibrary"]

LIGHT = 1 / 3  # what a difference of mean colour counts, since light changes it
ELSEWHERE = 6.0  # levels that a patch of another place must agree better to be found before one of the own
QUERIES_AT_A_TIME = 128
DIMENSIONS = 16  # of the principal components in which neighbours are sought; distances are of all pixels
BASIS_PATCHES = 20_000
DETAIL_LIMIT = 127  # levels; the null-space part of a tile is kept in 8 bits
CONTINUED = 0.7  # chance to go on with a neighbour's donor where it agrees
ROUNDS = 2
BORDER = 2  # low-resolution pixels at which the pseudo-inverse feels the border: no detail is borrowed from there
LEAST_WEIGHT = 1e-4  # of a patch off its own cell: decides at the image's border alone
AT_A_TIME = 16  # windows in float64
BLOCK = 64  # patches whose nearest is found before they are sorted


Place = tuple[Tensor, Tensor, Tensor]  # window, top and left of patches, see `Donors`


@dataclass(frozen=True)
class Matches:
    """Nearest patches of the collection for each patch of an image, nearest first.

    Attributes:
        index: numbers of the library's patches, (Q, m).
        distance: root mean square difference of their low-resolution sides in levels, (Q, m), of which that of their
            mean colours counts a third, since light changes it; infinite where there is none.
    """

    index: Tensor
    distance: Tensor


class Donors(NamedTuple):
    """A place in the collection for each patch of an image.

    Attributes:
        tile: number of the window, (Q,).
        top, left: of the patch in it, in low-resolution pixels, (Q,).
        distance: as in `Matches`, (Q,).
    """

    tile: Tensor
    top: Tensor
    left: Tensor
    distance: Tensor


class PatchLibrary:
    """Windows of a collection, cut into patches to borrow from.

    Args:
        windows: uint8 (N, C, S, S).
        groups: what ground each window shows, (N,): an image borrows nothing from windows of its own group.
        places: of each window, (N,): windows of an image's own place, taken by the same camera, are preferred.
        degradation: the operator.
        matrix: its matrix for S pixels, see `operator_matrix`.
        patch: side of a patch in low-resolution pixels, an even number; patches of an image overlap by half.
        patches: how many patches of the collection are searched, drawn at random.
        candidates: how many of the nearest a target draws from.
        seed: of the patches.

    Raises:
        ValueError: windows of fewer than two groups, or smaller than a patch.
    """

    def __init__(
        self,
        windows: Tensor,
        groups: Sequence[int],
        places: Sequence[int],
        *,
        degradation: LinearReduction,
        matrix: Tensor,
        patch: int,
        patches: int,
        candidates: int,
        seed: int,
    ):
        self.patch, self.scale, self.candidates = patch, degradation.scale, candidates
        self.side = windows.shape[-1] // self.scale
        if patch < 2 or patch % 2 or patch > self.side or self.side % (patch // 2):
            raise ValueError(
                f"patch={patch} must be an even number whose half divides {self.side}, the low-resolution side."
            )
        if len(set(groups)) < 2:
            raise ValueError("texture is borrowed from other tiles: a part needs at least two of different ground.")
        parts = windows.split(AT_A_TIME)
        self.high = windows
        self.low = torch.cat([observed(matrix, part) for part in parts])
        self._detail = torch.cat([_hidden(part, degradation) for part in parts])
        self._groups, self._places = torch.as_tensor(groups), torch.as_tensor(places)
        generator = torch.Generator().manual_seed(seed)
        self.tile = torch.randint(len(windows), (patches,), generator=generator)
        self.margin = BORDER if self.side >= patch + 2 * BORDER else 0
        self.last = self.side - patch - self.margin
        corners = torch.randint(self.margin, self.last + 1, (2, patches), generator=generator)
        self.top, self.left = corners.unbind()
        flat = self._low_patches(self.tile, self.top, self.left)
        self._mean = flat.mean(0)
        self._basis = _principal_axes(flat[:BASIS_PATCHES] - self._mean)
        features = (flat - self._mean) @ self._basis  # (M, d)
        self._squares = features.square().sum(1)
        self._features = F.pad(features, (0, 0, 0, -patches % BLOCK))
        self.starts = list(range(0, self.side - patch + 1, patch // 2))  # of the patches of an image, on either axis

    def matches(self, low_res: Tensor, *, group: int, place: int) -> Matches:
        """What agrees with each patch of `low_res`, uint8 (C, h, w), beyond the windows of `group`."""
        queries = self._queries(low_res)
        squares = self._squares + ELSEWHERE**2 * (self._places[self.tile] != place)
        squares.masked_fill_(self._groups[self.tile] == group, torch.inf)
        squares = F.pad(squares, (0, len(self._features) - len(squares)), value=torch.inf)
        features = (queries - self._mean) @ self._basis
        count = min(self.candidates, len(self.tile))
        # (q, M) at a time, squared distances less a constant of each row
        near = [
            _smallest(torch.addmm(squares, part, self._features.T, alpha=-2), count)
            for part in features.split(QUERIES_AT_A_TIME)
        ]
        values, index = (torch.cat(parts) for parts in zip(*near, strict=True))
        index = index.clamp(max=len(self.tile) - 1)  # beyond it all is infinitely far
        exact = torch.stack([self._distance(queries, self._place(column)) for column in index.unbind(1)], 1)
        exact[values.isinf()] = torch.inf
        exact, order = exact.sort(dim=1, stable=True)
        return Matches(index.gather(1, order), exact)

    def draw(
        self, matches: Matches, low_res: Tensor, *, group: int, limit: float, generator: torch.Generator
    ) -> Donors:
        """A donor for each patch: nearer ones more often, and neighbours' donors continued.

        Args:
            group: as in `matches`.
            limit: distance in levels up to which patches agree.
            generator: draws, on the CPU.
        """
        excess = matches.distance.square() - matches.distance[:, :1].square()
        weights = torch.exp(-excess.nan_to_num(torch.inf) / (2 * (0.5 * limit) ** 2))
        weights[:, 0] = 1  # also where nothing is near at all
        chosen = torch.multinomial(weights, 1, generator=generator)
        index = matches.index.gather(1, chosen)[:, 0]
        donors = Donors(*self._place(index), matches.distance.gather(1, chosen)[:, 0])
        queries = self._queries(low_res)
        for _ in range(ROUNDS):
            for step in ((0, 1), (1, 0), (0, -1), (-1, 0)):
                place, wanted = self._continued(donors, step)
                wanted &= torch.rand(len(index), generator=generator) < CONTINUED
                wanted &= self._groups[place[0]] != group
                distance = torch.full_like(donors.distance, torch.inf)
                tile, top, left = (values[wanted] for values in place)
                distance[wanted] = self._distance(queries[wanted], (tile, top, left))
                taken = distance <= donors.distance.clamp(min=limit)
                moved = (*place, distance)
                donors = Donors(*(torch.where(taken, new, old) for new, old in zip(moved, donors, strict=True)))
        return donors

    def mosaic(self, *planes: Tensor) -> Tensor:
        """Planes of patches side by side: (C, S, S) of all `planes` together, float32.

        Patches meet in seams of one low-resolution pixel, over which they fade into each other.

        Args:
            planes: patches (Q, C', s p, s p), or one number for each patch, (Q,).
        """
        size = self.patch * self.scale
        window = self._window()
        whole = [part if part.ndim > 1 else part[:, None, None, None].expand(-1, 1, size, size) for part in planes]
        pieces = torch.cat([*whole, torch.ones_like(whole[0][:, :1])], 1) * window
        columns = pieces.flatten(1).T[None]  # (1, C s p s p, Q)
        canvas = F.fold(columns, 2 * (self.side * self.scale,), size, stride=size // 2)[0]
        return canvas[:-1] / canvas[-1:]

    def details(self, donors: Donors) -> Tensor:
        """What the reduction hides of the donors' patches, in levels, (Q, C, s p, s p)."""
        return self._high_patches(self._detail, donors)

    def pictures(self, donors: Donors, low_res: Tensor) -> Tensor:
        """The donors' patches in levels, (Q, C, s p, s p), in the light of `low_res`: with its mean colours."""
        wanted = self._low_views(low_res[None])[0][:, self.starts][:, :, self.starts].float().mean((3, 4))  # (C, n, n)
        given = self._low_views(self.low)[donors.tile, :, donors.top, donors.left].float().mean((2, 3))  # (Q, C)
        light = wanted.flatten(1).T - given
        return self._high_patches(self.high, donors) + light[:, :, None, None]

    def _continued(self, donors: Donors, step: tuple[int, int]) -> tuple[Place, Tensor]:
        """For each patch the place that follows the donor of its neighbour one `step` before, and whether it is one."""
        count = len(self.starts)
        starts = torch.tensor(self.starts)
        moved = []
        for values, axis in ((donors.top, 0), (donors.left, 1)):
            own = starts.reshape((-1, 1) if axis == 0 else (1, -1)).expand(count, count)
            before = own.roll(step, (0, 1))
            moved.append((values.reshape(count, count).roll(step, (0, 1)) + own - before).flatten())
        tile = donors.tile.reshape(count, count).roll(step, (0, 1)).flatten()
        has_neighbour = torch.ones(count, count, dtype=torch.bool)
        for axis, way in enumerate(step):
            if way:
                has_neighbour.select(axis, 0 if way > 0 else count - 1).zero_()
        inside = has_neighbour.flatten()
        for values in moved:
            inside &= (values >= self.margin) & (values <= self.last)
        top, left = (values.clamp(self.margin, self.last) for values in moved)
        return (tile, top, left), inside

    def _place(self, index: Tensor) -> Place:
        return self.tile[index], self.top[index], self.left[index]

    def _low_views(self, low_res: Tensor) -> Tensor:
        """(N, C, places, places, p, p)"""
        return low_res.unfold(2, self.patch, 1).unfold(3, self.patch, 1)

    def _high_patches(self, source: Tensor, donors: Donors) -> Tensor:
        size, scale = self.patch * self.scale, self.scale
        views = source.unfold(2, size, scale).unfold(3, size, scale)  # (N, C, places, places, size, size)
        return views[donors.tile, :, donors.top, donors.left].float()

    def _low_patches(self, tile: Tensor, top: Tensor, left: Tensor) -> Tensor:
        return _compared(self._low_views(self.low)[tile, :, top, left])

    def _queries(self, low_res: Tensor) -> Tensor:
        grid = self._low_views(low_res[None])[0][:, self.starts][:, :, self.starts]  # (C, n, n, p, p)
        return _compared(grid.permute(1, 2, 0, 3, 4).flatten(0, 1))

    def _distance(self, queries: Tensor, place: Place) -> Tensor:
        return (self._low_patches(*place) - queries).square().sum(1).sqrt()

    def _window(self) -> Tensor:
        """Weights of a patch, (s p, s p): one over its cell, half the patch wide, falling within one seam."""
        size, seam = self.patch * self.scale, self.scale
        off_centre = (torch.arange(size) + 0.5 - size / 2).abs()
        weights = ((size / 4 + seam / 2 - off_centre) / seam).clamp(0, 1) + LEAST_WEIGHT * (1 - off_centre / size)
        return weights[:, None] * weights[None, :]


def _smallest(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` smallest of each row (q, M), ascending, and where they are; M a multiple of `BLOCK`.

    They lie in the `count` blocks with the least minima: only those are sorted.
    """
    blocks = values.unflatten(1, (-1, BLOCK))
    kept = min(count, blocks.shape[1])
    near = blocks.amin(2).topk(kept, largest=False).indices  # (q, kept)
    candidates = blocks.gather(1, near[..., None].expand(-1, -1, BLOCK)).flatten(1)
    smallest, place = candidates.topk(count, largest=False)
    return smallest, near.gather(1, place // BLOCK) * BLOCK + place % BLOCK


def _compared(patches: Tensor) -> Tensor:
    """(n, C p p) of patches (n, C, p, p) in levels, scaled so that squared differences are the squares of distances."""
    values = patches.float()
    values = values - (1 - LIGHT) * values.mean((2, 3), keepdim=True)
    return values.flatten(1) / values.shape[1:].numel() ** 0.5


def _hidden(windows: Tensor, degradation: LinearReduction) -> Tensor:
    """The null-space part of the windows in levels, int8."""
    hidden = degradation.null_space(windows.float() / LEVELS) * LEVELS
    return hidden.round().clamp(-DETAIL_LIMIT, DETAIL_LIMIT).to(torch.int8)


def _principal_axes(centred: Tensor) -> Tensor:
    """(D, d): the axes along which patches (n, D) differ most."""
    centred = centred.double()
    return torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -DIMENSIONS:].float()

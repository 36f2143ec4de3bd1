"""Groups of near-duplicate dermoscopic images, and lesion areas: the criteria that folds are formed by.

Public sets hold one lesion several times: re-exported, re-coloured or photographed again a moment later. Two thumbnails
are near-duplicates if their perceptual hashes and, up to a small shift, their fine textures agree.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import fft
from scipy.ndimage import gaussian_filter
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor
from torch.nn.functional import interpolate
from tqdm import tqdm

from monai_ext.raster.images import read_image
from monai_ext.raster.masks import read_mask
from monai_ext.runtime.errors import one_line
from monai_ext.storage.array_files import DAMAGES
from monai_ext.storage.files import atomic_path
from monai_ext.storage.folders import cache_folder

__all__ = [
    "Contents",
    "duplicate_groups",
    "groups_by_id",
    "near_duplicate_groups",
    "perceptual_hash",
    "sorted_contents",
]

THUMBNAIL = 64  # pixels on either side, whatever the aspect
GREY = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601 luminance

# Measured on the 2000 training images of ISIC 2017: the 14 pairs that show one lesion in one framing have distances
# <= 18 and correlations >= 0.938; among all other pairs within the limit the highest correlation is 0.908.
MAX_HASH_DISTANCE = 20
MIN_CORRELATION = 0.925
MIN_COARSE_CORRELATION = 0.7  # the 14 pairs have >= 0.86; spares nine tenths of the fine comparisons
ROUNDING = 1e-4  # of a correlation
MAX_SHIFT = 4  # thumbnail pixels, 6 % of a side
BLOCK = 256  # images, or pairs
METHOD_VERSION = 1  # part of the cache's key: raise it when thumbnails, groups or areas are computed differently

_log = logging.getLogger(__name__)


class Contents(NamedTuple):
    """Near-duplicates and lesion areas of N images."""

    groups: np.ndarray  # (N,) near-duplicate group of each item, numbered by first occurrence
    areas: np.ndarray  # (N,) lesion area as a fraction of the image, NaN without a label


def perceptual_hash(image: Tensor) -> int:
    """64-bit hash of an image, uint8 (3, H, W), that survives re-compression, scaling and changes of brightness.

    Bit 8 u + v (most significant first) is whether the DCT coefficient (u, v), u, v < 8, of the 32 x 32 luminance lies
    above the median of all but the first (Zauner 2010, section 3.2.1); the first, the mean grey, is left at 0. The
    number of bits in which two hashes differ, `(a ^ b).bit_count()`, is about 32 for unrelated images.
    """
    thumbnail = interpolate(image[None].float(), (THUMBNAIL, THUMBNAIL), mode="bilinear", antialias=True)[0]
    bits = _hash_bits(np.tensordot(GREY, thumbnail.numpy(), 1)[None])
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def near_duplicate_groups(thumbnails: np.ndarray) -> np.ndarray:
    """Group number of each thumbnail, (N,); thumbnails: luminance 0 ... 255, (N, 64, 64).

    Near-duplicates differ in at most 20 bits of `perceptual_hash`, and the correlation of their textures (log
    luminance, band-passed to 1 ... 4 pixels, equalised to unit local contrast, tapered at the edges, so that exposure,
    colour casts, vignettes and the mere outline count little) reaches 0.925 at some shift of up to 4 pixels. Groups are
    the connected components of these pairs, numbered by first occurrence. Turned or mirrored copies are not found.
    About 1 s for 2000 thumbnails, 11 s and 550 MiB for 20,000.
    """
    thumbnails = np.asarray(thumbnails)
    if thumbnails.ndim != 3 or thumbnails.shape[1:] != (THUMBNAIL, THUMBNAIL):
        raise ValueError(f"thumbnails have the shape {thumbnails.shape}: expected (N, {THUMBNAIL}, {THUMBNAIL}).")
    return _groups(_described(thumbnails, len(thumbnails)))


class _Described(NamedTuple):
    """What thumbnails are compared by, in increasing order of cost."""

    signs: np.ndarray  # (N, 64), 1 and -1 for the bits of the hash
    coarse: np.ndarray  # (N, 256), smoothed textures of unit norm
    magnitudes: np.ndarray  # (N, 2112), of the spectra of the textures, which no shift changes
    textures: np.ndarray  # (N, 64, 64)


def _described(thumbnails: Iterable[np.ndarray], count: int) -> _Described:
    """Block by block, so that no more than the result is in memory."""
    whole = _Described(
        np.empty((count, 64), np.float32),
        np.empty((count, (THUMBNAIL // 4) ** 2), np.float32),
        np.empty((count, THUMBNAIL * (THUMBNAIL // 2 + 1)), np.float32),
        np.empty((count, THUMBNAIL, THUMBNAIL), np.float32),
    )
    source, done = iter(thumbnails), 0
    while block := list(islice(source, BLOCK)):
        luminance = np.stack(block).astype(np.float32, copy=False)
        textures = _textures(luminance)
        coarse = gaussian_filter(textures, (0, 2, 2))[:, 1::4, 1::4].reshape(len(textures), -1)
        coarse = coarse - coarse.mean(1, keepdims=True)
        coarse /= np.maximum(np.linalg.norm(coarse, axis=1, keepdims=True), 1e-6)
        magnitudes = np.abs(fft.rfft2(textures, norm="ortho"))
        magnitudes[:, :, 1:-1] *= math.sqrt(2)  # the other half of the spectrum
        signs = np.where(_hash_bits(luminance), 1, -1).astype(np.float32)
        for all_of_them, values in zip(
            whole, (signs, coarse, magnitudes.reshape(len(block), -1), textures), strict=True
        ):
            all_of_them[done : done + len(block)] = values
        done += len(block)
    return whole


def _groups(described: _Described) -> np.ndarray:
    """See `near_duplicate_groups`."""
    count = len(described.signs)
    pairs = [np.empty((0, 2), dtype=np.int64)]
    shifts = np.arange(-MAX_SHIFT, MAX_SHIFT + 1)
    for candidates in _candidate_pairs(described):
        one, other = (fft.rfft2(described.textures[side]) for side in candidates.T)
        correlation = fft.irfft2(one * other.conj(), s=(THUMBNAIL, THUMBNAIL))
        best = correlation[:, shifts[:, None], shifts].max((1, 2))
        pairs.append(candidates[best >= MIN_CORRELATION])
    rows, columns = np.concatenate(pairs).T
    graph = coo_array((np.ones(len(rows), dtype=bool), (rows, columns)), shape=(count, count))
    labels = connected_components(graph, directed=False)[1]
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


def duplicate_groups(items: Sequence[Mapping], *, cache_dir: str | os.PathLike | None = None) -> list[str]:
    """For each item the id that names its near-duplicate group: the smallest id in it. See `assign_folds`."""
    order, contents = sorted_contents(items, cache_dir)
    ids = [str(items[i]["id"]) for i in order]
    names: dict[int, str] = {}
    for name, group in zip(ids, contents.groups.tolist(), strict=True):
        names.setdefault(group, name)
    result = [""] * len(items)
    for position, group in zip(order, contents.groups.tolist(), strict=True):
        result[position] = names[group]
    return result


def groups_by_id(items: Sequence[Mapping]) -> dict[str, str]:
    """Id of each item -> id of its `duplicate_groups`."""
    return dict(zip((item["id"] for item in items), duplicate_groups(items), strict=True))


def _hash_bits(thumbnails: np.ndarray) -> np.ndarray:
    """Bits of `perceptual_hash`, bool (N, 64), of luminance (N, 64, 64)."""
    half = THUMBNAIL // 2
    pooled = thumbnails.reshape(-1, half, 2, half, 2).mean((2, 4))
    low = fft.dctn(pooled, axes=(1, 2), norm="ortho")[:, :8, :8].reshape(-1, 64)
    bits = low > np.median(low[:, 1:], axis=1, keepdims=True)
    bits[:, 0] = False
    return bits


def _textures(thumbnails: np.ndarray) -> np.ndarray:
    """Local texture with zero mean and unit norm, (N, 64, 64); nearly zero where there is none."""
    log = np.log(thumbnails + 8)  # + 8: JPEG noise in the black must not count as texture
    band = gaussian_filter(log, (0, 1, 1)) - gaussian_filter(log, (0, 4, 4))
    band /= np.sqrt(gaussian_filter(band**2, (0, 4, 4))) + 0.02
    taper = np.sqrt(np.hanning(THUMBNAIL + 2)[1:-1])
    window = np.outer(taper, taper).astype(np.float32)
    band = band * window
    band -= band.mean((1, 2), keepdims=True) * window / window.mean()
    return band / np.maximum(np.linalg.norm(band, axis=(1, 2), keepdims=True), 1e-3)


def _candidate_pairs(described: _Described) -> Iterator[np.ndarray]:
    """Index pairs (n, 2), i < j, of close hashes and textures that some shift may bring together, in chunks."""
    signs, coarse, magnitudes, _ = described
    for start in range(0, len(signs), BLOCK):
        close = signs[start : start + BLOCK] @ signs[start:].T >= 64 - 2 * MAX_HASH_DISTANCE  # 64 - 2 x distance
        pairs = np.argwhere(np.triu(close, 1)) + start
        for place in range(0, len(pairs), BLOCK):
            chunk = pairs[place : place + BLOCK]
            one, other = chunk.T
            chunk = chunk[np.einsum("ij,ij->i", coarse[one], coarse[other]) >= MIN_COARSE_CORRELATION]
            one, other = chunk.T
            # The correlation is largest, whatever the shift, where all phases agree.
            most = np.einsum("ij,ij->i", magnitudes[one], magnitudes[other])
            if (chunk := chunk[most >= MIN_CORRELATION - ROUNDING]).size:
                yield chunk


def sorted_contents(items: Sequence[Mapping], cache_dir: str | os.PathLike | None) -> tuple[list[int], Contents]:
    """Positions of the items in order of their ids, and the contents in that order, from the cache if it has them."""
    if not items:
        raise ValueError("there are no items to divide into folds.")
    order = sorted(range(len(items)), key=lambda i: str(items[i]["id"]))
    ordered = [items[i] for i in order]
    for one, other in zip(ordered, ordered[1:], strict=False):
        if str(one["id"]) == str(other["id"]):
            raise ValueError(
                f"two items have the id {one['id']}: {one['image']} and {other['image']}: rename or remove one."
            )
    folder = cache_folder(cache_dir)
    file = folder / f"folds-{_fingerprint(ordered)}.npz"
    contents = _load(file, len(items))
    if contents is None:
        contents = _read_contents(ordered)
        try:
            with atomic_path(file) as temporary:
                np.savez(temporary, groups=contents.groups, areas=contents.areas)
        except OSError as error:
            warnings.warn(f"cannot keep what the images are like in {folder} ({error}): set cache_dir.", stacklevel=3)
    return order, contents


def _fingerprint(items: Sequence[Mapping]) -> str:
    digest = hashlib.sha256(f"{METHOD_VERSION}".encode())
    for item in items:
        for path in (item["image"], item.get("label")):
            if path is not None and os.path.exists(path):  # if not, reading it raises the error
                state = os.stat(path)
                path = f"{os.path.abspath(path)}|{state.st_size}|{state.st_mtime_ns}"
            digest.update(f"{item['id']}|{path}\n".encode())
        if item.get("label_values") is not None:
            digest.update(f"{item['label_values']}\n".encode())
    return digest.hexdigest()[:32]


def _load(file: Path, count: int) -> Contents | None:
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as stored:
            contents = Contents(stored["groups"], stored["areas"])
    except FileNotFoundError:
        return None
    except DAMAGES as error:
        _log.warning("%s is damaged (%s): reading the images again.", file, one_line(error))
        return None
    if not _fit(contents, count):
        _log.warning("%s is damaged (it describes other images): reading them again.", file)
        return None
    return contents


def _fit(contents: Contents, count: int) -> bool:
    """Whether these can be groups and areas of `count` images."""
    groups, areas = contents
    if not (isinstance(groups, np.ndarray) and isinstance(areas, np.ndarray)):  # np.load hands on what is no array
        return False
    if not groups.shape == areas.shape == (count,) or groups.dtype.kind != "i" or areas.dtype.kind != "f":
        return False
    shares = np.isnan(areas) | ((areas >= 0) & (areas <= 1))
    return bool(groups.min() >= 0 and groups.max() < count and shares.all())


def _read_contents(items: Sequence[Mapping]) -> Contents:
    def look(item: Mapping) -> tuple[np.ndarray, float]:
        image = read_image(item["image"], spatial_size=(THUMBNAIL, THUMBNAIL), draft=True)
        label = item.get("label")
        if label is None:
            return np.tensordot(GREY, image.numpy(), 1), float("nan")
        return np.tensordot(GREY, image.numpy(), 1), read_mask(
            label, labels=item.get("label_values")
        ).float().mean().item()

    areas = []

    def thumbnails(pool: ThreadPoolExecutor) -> Iterator[np.ndarray]:
        bar = tqdm(
            total=len(items), desc="comparing images", unit="image", disable=not sys.stderr.isatty(), leave=False
        )
        with bar:
            for start in range(0, len(items), BLOCK):  # so that no more wait than are described at a time
                for thumbnail, area in pool.map(look, items[start : start + BLOCK]):
                    areas.append(area)
                    bar.update()
                    yield thumbnail

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        described = _described(thumbnails(pool), len(items))
    return Contents(_groups(described), np.array(areas))

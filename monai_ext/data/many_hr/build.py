"""Build a one-LR-many-HR data set from ordinary tiles: shard by shard, the same bytes each time, resumed after a kill.

A record depends on the tiles, the settings and its number alone: neither the number of threads nor where a run was
broken off changes a byte (on one machine with one release of PyTorch; elsewhere sums may round differently).
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from msgspec.structs import asdict
from torch import Tensor
from tqdm import tqdm

from monai_ext import __version__
from monai_ext.data.many_hr.card import CARD_FILE, CROISSANT_FILE, Credit, croissant, data_card
from monai_ext.data.many_hr.format import (
    KINDS,
    OPERATOR_FILE,
    RECORD_FILE,
    TARGET_FILE,
    Index,
    RecordLine,
    Shard,
    TargetLine,
    read_shard,
    shard_files,
    write_index,
    write_shard,
    write_tables,
)
from monai_ext.data.many_hr.measures import fitted_psnr, low_res_gaps, observed, operator_matrix, pairwise_rms
from monai_ext.data.many_hr.plan import PARTS, ManyHrPlan, ManyHrSettings
from monai_ext.data.many_hr.search import PatchLibrary
from monai_ext.data.many_hr.targets import Provenance, Sampler, TargetMaker, derived_seed, kinds_of_targets
from monai_ext.data.tiles.pixel_scale import PixelScale
from monai_ext.formulas.images import LinearReduction
from monai_ext.runtime.run_log import shows_progress
from monai_ext.storage.files import atomic_path, write_text

__all__ = ["build_many_hr"]

DIGITS = 4  # of measures in the tables

logger = logging.getLogger(__name__)


def build_many_hr(
    items: Sequence[Mapping],
    output_dir: str | os.PathLike,
    *,
    degradation: LinearReduction,
    records: int = 1000,
    settings: ManyHrSettings | None = None,
    sampler: Sampler | None = None,
    scale: PixelScale | None = None,
    credit: Credit | None = None,
    jobs: int = 1,
) -> Index:
    """Write a data set of `records` low-resolution images into `output_dir`, see `monai_ext.data.many_hr.format`.

    Whole shards that are there are kept, so that the same call goes on after a kill, and a larger `records` adds to
    what is there. The index is written last.

    Args:
        items: tiles, see `tile_items`; with "footprint" and "date" by `add_captures`, if they are known.
        degradation: the operator, without noise.
        settings: choices.
        sampler: network of the kind "sampled"; None: there are none of that kind.
        scale: of tiles of other types than uint8, see `find_scale`: its range becomes 0 to 255.
        credit: origin and licence.
        jobs: records that are worked on at a time, in threads.

    Returns:
        The content of index.json.

    Raises:
        ManyHrError: the folder holds a data set of other settings, tiles or weights.
        ValueError: more records than eight times the windows of the tiles, or parts without tiles to borrow from.
        ImageFileError: a tile cannot be read.
        OSError: no room on the disk.
    """
    if jobs < 1 or records < 1:
        raise ValueError(f"jobs={jobs} and records={records} must be at least 1.")
    folder, settings = Path(output_dir), settings or ManyHrSettings()
    build = _Build(ManyHrPlan(items, settings, scale=scale), degradation, sampler)
    if records > len(build.plan):
        raise ValueError(
            f"{records} records are more than the tiles allow, {len(build.plan)} (8 turns of each window of "
            f"{settings.size} pixels): choose fewer, a smaller size, or add tiles."
        )
    fingerprint = build.plan.fingerprint(*build.identity)
    shards = []
    starts = range(0, records, settings.shard_records)
    bar = tqdm(total=records, desc="building", unit="record", disable=not shows_progress())
    with bar, _one_thread(), ThreadPoolExecutor(jobs, thread_name_prefix="many-hr") as pool:
        for number, start in enumerate(starts):
            numbers = range(start, min(start + settings.shard_records, records))
            shard = read_shard(folder, number, fingerprint=fingerprint)
            if shard is None or len(shard.records) != len(numbers):
                build.prepare(numbers)
                made = []
                for each in pool.map(build.record, numbers):
                    made.append(each)
                    bar.update()
                shard = _write(folder, number, made, fingerprint)
            else:
                bar.update(len(numbers))
            shards.append(shard)
    return _finish(folder, build, shards, fingerprint, credit or Credit())


class _Record(NamedTuple):
    low_res: Tensor  # uint8 (C, h, w)
    high_res: Tensor  # uint8 (K + captures, C, H, W)
    line: dict[str, Any]  # fields of its `RecordLine`, but for its place
    targets: list[dict[str, Any]]  # of its `TargetLine`s


class _Build:
    """The parts that all records share; libraries are made for the parts of the data set that need them."""

    def __init__(self, plan: ManyHrPlan, degradation: LinearReduction, sampler: Sampler | None):
        settings = plan.settings
        self.plan, self.degradation, self.sampler = plan, degradation, sampler
        self.matrix = operator_matrix(degradation, settings.size)
        self.kinds = kinds_of_targets(settings.kinds, settings.targets, sampler=sampler)
        self.identity = (repr(degradation), sampler.identity if sampler is not None and "sampled" in self.kinds else "")
        self.donors = {part: plan.donors(part) for part in PARTS}
        self._makers: dict[str, TargetMaker] = {}
        for part, windows in self.donors.items():
            if windows and len({plan.groups[window.tile] for window in windows}) < 2:
                raise ValueError(_one_footprint(part, [plan.tiles[tile] for tile in {w.tile for w in windows}]))

    def prepare(self, numbers: Iterable[int]) -> None:
        """Have at hand what is borrowed from by some records."""
        for part in sorted({self.plan.record(number).part for number in numbers} - self._makers.keys()):
            self._makers[part] = self._maker(part)

    def _maker(self, part: str) -> TargetMaker:
        plan, settings, windows = self.plan, self.plan.settings, self.donors[part]
        logger.info("preparing %d windows of the part %s to borrow from", len(windows), part)
        library = PatchLibrary(
            torch.stack([plan.pixels(window) for window in windows]),
            [plan.groups[window.tile] for window in windows],
            [plan.places[window.tile] for window in windows],
            degradation=self.degradation,
            matrix=self.matrix,
            patch=settings.patch,
            patches=settings.patches,
            candidates=settings.candidates,
            seed=derived_seed(settings.seed, "patches", part),
        )
        return TargetMaker(
            library,
            degradation=self.degradation,
            matrix=self.matrix,
            agreement=settings.agreement,
            sampler=self.sampler,
        )

    @torch.no_grad()
    def record(self, number: int) -> _Record:
        plan = self.plan.record(number)
        high_res = self.plan.pixels(plan.window, plan.turn)
        low_res = observed(self.matrix, high_res)
        ground = {"group": self.plan.groups[plan.window.tile], "place": self.plan.places[plan.window.tile]}
        made, origins = self._makers[plan.part](high_res, low_res, **ground, kinds=self.kinds, seeds=plan.seeds)
        if plan.captures:
            made = torch.cat([made, torch.stack([self.plan.pixels(other, plan.turn) for other in plan.captures])])
            origins += [Provenance("capture") for _ in plan.captures]
        tiles = [[self.donors[plan.part][donor].tile for donor in origin.donors] for origin in origins]
        tiles[len(self.kinds) :] = [[other.tile] for other in plan.captures]
        gaps = low_res_gaps(self.matrix, made, low_res)
        fitted: list[float | None] = [None] * len(self.kinds)
        fitted += fitted_psnr(self.matrix, made[len(self.kinds) :], low_res)
        name = f"{number:06d}"
        targets: list[dict[str, Any]] = [
            {
                "record": name,
                "kind": origin.kind,
                "seed": origin.seed,
                "lr_max": round(gap.largest, DIGITS),
                "lr_psnr": round(gap.psnr, DIGITS),
                "lr_differing": gap.differing,
                "lr_psnr_before": _rounded(origin.gap_before),
                "lr_psnr_fitted": _rounded(fit),
                "borrowed": round(origin.borrowed, DIGITS),
                "agreement": _rounded(origin.agreement),
                "tiles": sorted(set(own)),
            }
            for origin, gap, fit, own in zip(origins, gaps, fitted, tiles, strict=True)
        ]
        tile = self.plan.tiles[plan.window.tile]
        line: dict[str, Any] = {
            "record": name,
            "operator": repr(self.degradation),
            "part": plan.part,
            "place": tile["place"],
            "tile": plan.window.tile,
            "tile_id": tile["id"],
            "date": tile["date"],
            "top": plan.window.top,
            "left": plan.window.left,
            "turn": plan.turn,
            "targets": len(self.kinds),
            "captures": len(plan.captures),
            "distance_rms": [round(distance, DIGITS) for distance in pairwise_rms(made)],
        }
        return _Record(low_res, made, line, targets)


def _one_footprint(part: str, tiles: Sequence[Mapping]) -> str:
    """What is wrong with a part of one footprint, and the ways out."""
    fractions = "lower the fractions of the others" if part == "train" else f"raise --{part}_fraction, or set it to 0"
    problem = (
        f"the part {part} shows one place alone, {tiles[0]['footprint']} ({len(tiles)} tile(s)), and texture is "
        f"borrowed from another: add tiles, or {fractions}"
    )
    if len(tiles) < 2:
        return f"{problem}."
    return (
        f"{problem}; if they show several places, name them by --dates CSV with file, footprint, date (a tile that it "
        "does not list is a place of its own)."
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DIGITS)


def _write(folder: Path, number: int, made: Sequence[_Record], fingerprint: str) -> Shard:
    """A shard of finished records."""
    records: list[RecordLine] = []
    targets: list[TargetLine] = []
    for place, record in enumerate(made):
        records.append(RecordLine(**record.line, shard=number, low_res_row=place, high_res_row=len(targets)))
        for line in record.targets:
            targets.append(TargetLine(**line, shard=number, row=len(targets)))
    low_res, high_res = torch.stack([each.low_res for each in made]), torch.cat([each.high_res for each in made])
    return write_shard(
        folder, number, fingerprint=fingerprint, low_res=low_res, high_res=high_res, records=records, targets=targets
    )


def _finish(folder: Path, build: _Build, shards: Sequence[Shard], fingerprint: str, credit: Credit) -> Index:
    """Tables, operator, descriptions and, last, the index."""
    records = [line for shard in shards for line in shard.records]
    targets = [line for shard in shards for line in shard.targets]
    write_tables(folder, records, targets)
    with atomic_path(folder / OPERATOR_FILE) as temporary:
        np.save(temporary, build.matrix.numpy())
    settings, bands = build.plan.settings, len(build.plan.settings.bands)
    side = settings.size // build.degradation.scale
    index = Index(
        fingerprint=fingerprint,
        made_with=f"monai_ext {__version__}",
        records=len(records),
        targets=len(targets),
        low_res_shape=[bands, side, side],
        high_res_shape=[bands, settings.size, settings.size],
        kinds=_counts((line.kind for line in targets), KINDS),
        parts=_counts((line.part for line in records), PARTS),
        operator=repr(build.degradation),
        scale=build.degradation.scale,
        model=build.identity[1],
        settings=settings.recorded() | _recorded(build.plan.scale),
        credit=credit._asdict(),
        tiles=build.plan.tiles,
        files={},
    )
    names = [name for shard in shards for name in (*shard.files, shard_files(shard.number)["lines"])]
    names += [RECORD_FILE, TARGET_FILE, OPERATOR_FILE]
    write_text(folder / CARD_FILE, data_card(index, records, targets))
    write_text(folder / CROISSANT_FILE, croissant(folder, index, names))
    return write_index(folder, index, [*names, CARD_FILE, CROISSANT_FILE])


def _recorded(scale: PixelScale | None) -> dict[str, Any]:
    return {} if scale is None else {"pixel_scale": asdict(scale)}


def _counts(values: Iterable[str], order: Sequence[str]) -> dict[str, int]:
    counted = Counter(values)
    return {name: counted[name] for name in order if counted[name]}


@contextmanager
def _one_thread() -> Iterator[None]:
    """Each record is computed by one thread, whose sums come out the same however many there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)

"""`check`: a data set looked at as a whole, as a page; the same rules hold before training, evaluation and scoring."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from fire.parser import DefaultParseValue

from monai_ext.commands.command_line import Computed, Positional
from monai_ext.commands.html import Block, Heading, Text, html_page, markdown_page
from monai_ext.data.decode_images import DecodeImaged
from monai_ext.data.first_look import FirstLook, review, shared_images
from monai_ext.data.isic import Part, lesion_items
from monai_ext.data.item_numbers import SetNumbers, look_at
from monai_ext.data.near_duplicates import duplicate_groups
from monai_ext.data.raters.decoding import DecodeRaters
from monai_ext.data.raters.qubiq import PARTS, find_parts, qubiq_items, slice_items
from monai_ext.data.tiles.listing import tile_items
from monai_ext.data.tiles.pixel_scale import find_scale
from monai_ext.data.tiles.survey import survey_tiles
from monai_ext.raster.images import ImageFileError
from monai_ext.raster.labels import Labels
from monai_ext.raster.masks import grey_values_in
from monai_ext.raster.nifti import is_volume_file, open_nifti, read_nifti, without_singletons
from monai_ext.raster.opening import open_raster
from monai_ext.runtime.errors import some_of
from monai_ext.runtime.run_log import tell
from monai_ext.storage.files import write_text
from monai_ext.storage.records import write_record

__all__ = ["CheckOptions", "CheckedPart", "DataCheck", "check", "run"]

NAMED_AT_MOST = 20  # files that cannot be read; check.json has all
MOST_VALUES = 64  # of one mask


@dataclass(frozen=True)
class CheckOptions:
    """Look at a data set as a whole: values and polarity of masks, emptiness, borders, geometry, ranges, duplicates.

    What cannot be meant is refused, what is doubtful is named with numbers. Exit status 1: something is refused.
    """

    data: Positional[Path]
    """folder of the data set"""
    kind: Literal["lesion", "raters", "tiles"]
    """photographs with a mask each, cases of several raters, or aerial tiles"""
    output_dir: Computed[Path | None] = None
    """folder for check.html and check.json (none is written)"""
    region: Computed[str | None] = None
    """organ, where a data set of raters has several"""
    part: Computed[str | None] = None
    """of the data set: training, validation, test or testing (all there are; of lesions training)"""
    edition: Computed[int | None] = None
    """2016, 2017 or 2018, where a folder holds several editions of ISIC, which share images"""
    task: int = 1
    """number of the raters' task"""
    tasks: Computed[tuple[int, ...]] = ()
    """numbers of several tasks that are to be learnt together"""
    labels: Computed[tuple[str, ...]] = ()
    """values of the pixels that are foreground in the masks (1, or 255), or structures by name, as in train.json, such
    as {disc:[1,2],cup:[2]}"""
    bands: Computed[tuple[int, ...]] = ()
    """bands of the tiles, from 1 (all)"""


class CheckedPart(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in one part of a data set, in sentences."""

    name: str
    facts: list[str]
    doubtful: list[str]
    refused: list[str]


class DataCheck(msgspec.Struct, frozen=True, kw_only=True):
    """check.json"""

    data: str
    kind: str
    parts: list[CheckedPart]

    @property
    def refused(self) -> bool:
        """Whether anything is."""
        return any(part.refused for part in self.parts)


def check(options: CheckOptions) -> DataCheck:
    """Look at a data set; see `CheckOptions`."""
    look = {"lesion": _lesions, "raters": _raters, "tiles": _tiles}[options.kind]
    return DataCheck(data=str(options.data), kind=options.kind, parts=look(options))


def run(options: CheckOptions) -> int:
    """`python -m monai_ext check`."""
    found = check(options)
    blocks = _blocks(found)
    sys.stdout.write(markdown_page(blocks))
    if options.output_dir is not None:
        write_text(options.output_dir / "check.html", html_page(blocks, title=f"Check of {options.data.name}"))
        write_record(options.output_dir / "check.json", found)
        tell(f"check: {options.output_dir}")
    return 1 if found.refused else 0


def _blocks(found: DataCheck) -> list[Block]:
    blocks: list[Block] = [Heading(f"{found.data} ({found.kind})", level=1)]
    for part in found.parts:
        blocks.append(Heading(part.name))
        refused = part.refused[:NAMED_AT_MOST]
        if len(part.refused) > len(refused):
            refused.append(f"and {len(part.refused) - len(refused)} more")
        for title, lines in (("Refused", refused), ("Doubtful", part.doubtful), ("Found", part.facts)):
            if lines:
                blocks += [Heading(title, level=3), Text(*lines)]
    verdict = "refused, see above" if found.refused else "nothing is refused"
    doubts = sum(len(part.doubtful) for part in found.parts)
    return [*blocks, Text(f"Verdict: {verdict}; doubtful: {doubts or 'nothing'}.")]


def _lesions(options: CheckOptions) -> list[CheckedPart]:
    part: Any = options.part or "training"
    found = FirstLook()
    with _listening(found):
        items = lesion_items(
            options.data, part=_lesion_part(part), edition=options.edition, labels=_labels(options.labels)
        )
    _look_at_masks(items, DecodeImaged(), found, labelled=bool(options.labels))
    if not found.refused:
        groups: dict[str, list[str]] = {}
        for item, group in zip(items, duplicate_groups(items), strict=True):
            groups.setdefault(group, []).append(item["id"])
        several = [" = ".join(group) for group in groups.values() if len(group) > 1]
        if several:
            found.facts.append(f"{len(several)} groups of near-duplicates, each kept in one fold: {some_of(several)}")
    return [_part(part, found)]


def _labels(words: Sequence[str]) -> Labels:
    """What was typed, as the bundles read it: values, a colour, several of them, or structures by name."""
    typed = [DefaultParseValue(word) for word in words]
    return typed[0] if len(typed) == 1 else typed or None


def _lesion_part(name: str) -> Part:
    names: dict[str, Part] = {"training": "training", "validation": "validation", "test": "test", "testing": "test"}
    if name.lower() not in names:
        raise ValueError(f"part is {name!r}: choose training, validation or test.")
    return names[name.lower()]


def _raters(options: CheckOptions) -> list[CheckedPart]:
    parts = [name for name in PARTS if name in find_parts(options.data, options.region)]
    checked, numbers = [], {}
    for part in parts if options.part is None else [options.part]:
        found = FirstLook()
        with _listening(found):
            items = qubiq_items(
                options.data,
                region=options.region,
                part=part,
                task=options.task,
                tasks=options.tasks,
                labels=_labels(options.labels),
                require_masks=False,
            )
        items = _of_slices(items, found)
        numbers[part] = _look_at_masks(items, DecodeRaters(), found, labelled=bool(options.labels))
        checked.append(_part(part, found))
    if len(checked) > 1 and (shared := shared_images(numbers)):
        checked.append(CheckedPart(name="parts together", facts=[], doubtful=shared, refused=[]))
    return checked


def _of_slices(items: list[dict], found: FirstLook) -> list[dict]:
    """The items, those of volumes by slices."""
    listed = []
    for item in items:
        mask = next((path for path in item.get("label") or () if path is not None), None)
        try:
            volume = mask is not None and len(without_singletons(open_nifti(mask).shape)) == 3
            listed += slice_items(item) if volume else [item]
        except ImageFileError as error:
            found.refused.append(str(error))
    if len(listed) > len(items):
        found.facts.append(f"{len(items)} cases, volumes among them, as {len(listed)} slices (--slices true)")
    return listed


def _tiles(options: CheckOptions) -> list[CheckedPart]:
    found = FirstLook()
    bands = options.bands or None
    with _listening(found):
        items = tile_items(options.data)
        try:
            scale = find_scale(items)
            survey = survey_tiles(items, bands=bands, scale=scale)
        except (ImageFileError, ValueError) as error:
            found.refused.append(str(error))
            return [_part("tiles", found)]
    sizes: dict[tuple[int, ...], int] = {}
    for item in items:
        raster = open_raster(item["image"])
        size = (raster.info.bands, *raster.info.size)
        raster.close()
        sizes[size] = sizes.get(size, 0) + 1
    common = sorted(sizes.items(), key=lambda entry: -entry[1])
    listed = [f"{' x '.join(map(str, size))} ({count} tiles)" for size, count in common]
    found.facts.append(f"{len(items)} tiles of {len({item['place'] for item in items})} places")
    found.facts.append(f"bands x height x width: {some_of(listed)}")
    nodata = "" if scale.nodata is None else f", nodata {scale.nodata:g}"
    found.facts.append(f"{scale.dtype} values, {scale.low:g} to {scale.high:g} becoming 0 to 1{nodata}")
    if len({size[0] for size in sizes}) > 1:
        found.doubtful.append("tiles differ in their number of bands: name those to use by bands")
    (found.doubtful if survey.items else found.refused).extend(survey.lines())
    if not survey.items:
        found.refused.append("no tile shows ground")
    return [_part("tiles", found)]


def _look_at_masks(items: list[dict], decode: Any, found: FirstLook, *, labelled: bool) -> SetNumbers:
    def refuse(item: Mapping, error: Exception) -> None:
        found.refused.append(str(error))

    with _listening(found):
        numbers = look_at(items, decode, on_error=refuse)
    look = review(numbers, labelled=labelled)
    if labelled or found.refused:
        _name_values(items, found)
    found.facts += look.facts
    found.doubtful += look.doubtful
    found.refused += look.refused
    return numbers


def _name_values(items: Sequence[Mapping], found: FirstLook) -> None:
    """The values that the masks hold, with the number of files, where they are no masks of one value."""
    counts: Counter[int] = Counter()
    paths = {path for item in items for path in _paths(item.get("label")) if path is not None}
    for path in paths:
        with suppress(ImageFileError):
            values = np.unique(read_nifti(path)).tolist() if is_volume_file(path) else grey_values_in(path)
            counts.update(int(value) for value in values[:MOST_VALUES] if float(value).is_integer())
    if set(counts) - {0, 1} and len(counts) > 2:
        listed = [f"{value} ({count})" for value, count in sorted(counts.items())]
        found.facts.append(f"values of {len(paths)} masks, with the number that hold them: {some_of(listed)}")


def _paths(label: Any) -> Sequence[Any]:
    return label if isinstance(label, (list, tuple)) else [label]


def _part(name: str, found: FirstLook) -> CheckedPart:
    return CheckedPart(
        name=name,
        facts=list(dict.fromkeys(found.facts)),
        doubtful=list(dict.fromkeys(found.doubtful)),
        refused=list(dict.fromkeys(found.refused)),
    )


class _Collector(logging.Handler):
    """Takes warnings of the package as doubtful and its information as facts."""

    def __init__(self, found: FirstLook):
        super().__init__(logging.INFO)
        self.found = found

    def emit(self, record: logging.LogRecord) -> None:
        (self.found.doubtful if record.levelno >= logging.WARNING else self.found.facts).append(record.getMessage())


@contextmanager
def _listening(found: FirstLook) -> Iterator[None]:
    package, collector = logging.getLogger("monai_ext"), _Collector(found)
    level, propagate = package.level, package.propagate
    package.addHandler(collector)
    package.setLevel(logging.INFO)
    package.propagate = False
    try:
        yield
    finally:
        package.removeHandler(collector)
        package.setLevel(level)
        package.propagate = propagate

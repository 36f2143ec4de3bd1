"""Cross-validation folds: what belongs together stays together, and the folds are of one size.

Photographs are divided so that near-duplicates share a fold and lesion areas are spread evenly; items that name what
they belong to (the slices of a case, the cases of a patient) are divided by that name.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np

from monai_ext.data.near_duplicates import sorted_contents
from monai_ext.data.run_cases import RunCases
from monai_ext.data.split_files import groups_in, read_split_file
from monai_ext.runtime.errors import some_of

__all__ = ["Group", "assign_folds", "fold_items", "named_groups", "seeded_key", "split_by_fold"]

Group = Callable[[Mapping], str] | str | None
COLUMN = re.compile(r"(?P<file>.+\.csv):(?P<name>\w+)", re.IGNORECASE)

_logger = logging.getLogger(__name__)


def assign_folds(
    items: Sequence[Mapping],
    *,
    folds: int = 5,
    seed: int = 0,
    group: Group = None,
    cache_dir: str | os.PathLike | None = None,
) -> list[int]:
    """Fold 0 ... folds - 1 of each item, by the seed, names and contents, whatever the order and place of the files.

    Items with a "case", and all items if there is a `group`, are divided by name: larger groups are dealt out first,
    each to the fold with the fewest items, and chance decides among equals. Cases of the same name are one group, so
    give `group` where lists of several regions are joined.

    Other items, {"id", "image": path, "label": path}, are divided by content. Near-duplicates share a fold. The groups,
    in order of mean lesion area, are dealt out `folds` at a time, one to each fold, so that every fold has lesions of
    all sizes; within a deal larger groups go to smaller folds and chance decides the rest. Fold sizes differ by at most
    the size of the largest group. Without labels, chance alone decides. Reading 2000 small images takes a few seconds;
    the result is kept in `cache_dir` (default: the environment variable MONAI_EXT_CACHE, else ~/.cache/monai_ext) until
    a file's path, size or time changes.

    Args:
        group: item -> name of what belongs together (such as the patient), or a regular expression searched in the
            name of the case (or in the id), whose first group (or whole match) is it: r"case\\d+" joins case1-1 and
            case1-2. Or a column of a CSV with a row for each id: "HAM10000_metadata.csv:lesion_id".

    Raises:
        ValueError: no items, an id twice, fewer than two folds, more folds than groups, or a name without a match.
        ImageFileError: an image or mask cannot be read.
    """
    if folds < 2:
        raise ValueError(f"folds is {folds}: cross-validation needs at least 2.")
    if group is None and not any("case" in item for item in items):
        return _by_content(items, folds, seed, cache_dir)
    return _by_name(_group_names(items, group), folds, seed)


def named_groups(items: Sequence[Mapping], group: Group = None) -> dict[str, str]:
    """Id of each item -> name of what it belongs to, see `assign_folds`; without `group` its case, or the id.

    Raises:
        ValueError: an item without a group.
    """
    return dict(zip((str(item["id"]) for item in items), _group_names(items, group), strict=True))


def _group_names(items: Sequence[Mapping], group: Group) -> list[str]:
    if isinstance(group, str) and (column := COLUMN.fullmatch(group)):
        groups = groups_in(column["file"], column["name"])
        if absent := [str(item["id"]) for item in items if str(item["id"]) not in groups]:
            raise ValueError(f"{column['file']} does not have {len(absent)} of the cases ({some_of(absent)}).")
        return [groups[str(item["id"])] for item in items]
    return [_group_name(item, group) for item in items]


def fold_items(
    items: Sequence[Mapping],
    fold: int | Literal["all"],
    *,
    part: Literal["training", "validation"] = "training",
    folds: int = 5,
    seed: int = 0,
    group: Group = None,
    cache_dir: str | os.PathLike | None = None,
    recorded: RunCases | None = None,
    split_file: str | os.PathLike | None = None,
) -> list[Mapping]:
    """The items of one fold (`part="validation"`), or those of all others (`"training"`), in their order.

    With `fold="all"` the training has all items. A `split_file` has the folds or parts, see
    `monai_ext.data.split_files`. With `recorded`, the part is that of the run, see `RunCases.divide`,
    and is divided by the other arguments only where the run does not record it.

    Raises:
        ValueError: `fold` is neither in 0 ... folds - 1 nor "all", which leaves nothing to validate on; `part` is
            unknown, or as `assign_folds`, `SplitFile.divide` and `RunCases.divide`.
    """
    if part not in ("training", "validation"):
        raise ValueError(f"part is {part!r}: choose 'training' or 'validation'.")
    if recorded is not None and (parts := recorded.divide(items)) is not None:
        return parts[part]
    if fold == "all" and split_file is None:
        if part == "validation":
            raise ValueError("fold is 'all', so all cases are trained on: validate on another part of the data.")
        return list(items)
    options: dict = {"folds": folds, "seed": seed, "group": group, "cache_dir": cache_dir, "split_file": split_file}
    return split_by_fold(items, fold, **options)[part]


def split_by_fold(
    items: Sequence[Mapping],
    fold: int | Literal["all"],
    *,
    folds: int = 5,
    seed: int = 0,
    group: Group = None,
    cache_dir: str | os.PathLike | None = None,
    recorded: RunCases | None = None,
    split_file: str | os.PathLike | None = None,
) -> dict[str, list[Mapping]]:
    """Both parts of `fold_items`, "training" and "validation", from one assignment of the folds.

    With `fold="all"` the training has all items, and those of fold 0 are validated as well: a sign of life, no score.

    Raises:
        ValueError: as `fold_items`.
    """
    if recorded is not None and (known := recorded.divide(items)) is not None:
        return {part: known.get(part, []) for part in ("training", "validation")}
    if split_file is not None:
        return read_split_file(split_file).divide(items, fold)
    if fold == "all":
        _logger.warning("fold is 'all': the cases that are validated are trained on as well, so that none has a score")
        options: dict = {"folds": folds, "seed": seed, "group": group, "cache_dir": cache_dir}
        return {"training": list(items), "validation": split_by_fold(items, 0, **options)["validation"]}
    if not 0 <= fold < folds:
        raise ValueError(f"fold is {fold}: with folds={folds} it lies in 0 ... {folds - 1}.")
    parts: dict[str, list[Mapping]] = {"training": [], "validation": []}
    for item, own in zip(
        items, assign_folds(items, folds=folds, seed=seed, group=group, cache_dir=cache_dir), strict=True
    ):
        parts["validation" if own == fold else "training"].append(item)
    return parts


def seeded_key(seed: int, name: str) -> bytes:
    """A key that sorts names at random: equal on every platform and with every version of NumPy."""
    return hashlib.sha256(f"{seed}:{name}".encode()).digest()


def _by_content(items: Sequence[Mapping], folds: int, seed: int, cache_dir: str | os.PathLike | None) -> list[int]:
    order, contents = sorted_contents(items, cache_dir)
    ids = [str(items[i]["id"]) for i in order]
    members: list[list[int]] = [[] for _ in range(contents.groups.max() + 1)]
    for index, group in enumerate(contents.groups.tolist()):
        members[group].append(index)
    if folds > len(members):
        raise ValueError(
            f"folds is {folds}, but the {len(items)} images form only {len(members)} groups of near-duplicates: "
            f"choose folds <= {len(members)}."
        )
    areas = [float(np.nan_to_num(contents.areas[group], nan=-1).mean()) for group in members]
    by_area = sorted(range(len(members)), key=lambda g: (areas[g], seeded_key(seed, ids[members[g][0]])))
    sizes = [0] * folds
    result = [0] * len(items)
    for start in range(0, len(by_area), folds):
        deal = sorted(by_area[start : start + folds], key=lambda g: -len(members[g]))
        ready = sorted((sizes[fold], seeded_key(seed, f"{start}/{fold}"), fold) for fold in range(folds))
        for group, (_, _, fold) in zip(deal, ready, strict=False):
            sizes[fold] += len(members[group])
            for index in members[group]:
                result[order[index]] = fold
    return result


def _by_name(names: Sequence[str], folds: int, seed: int) -> list[int]:
    counts = Counter(names)
    if folds > len(counts):
        raise ValueError(
            f"folds is {folds}, but the {len(names)} items form only {len(counts)} groups: choose fewer folds."
        )
    sizes = [0] * folds
    chosen: dict[str, int] = {}
    for name in sorted(counts, key=lambda name: (-counts[name], seeded_key(seed, name))):
        fold = min((sizes[fold], seeded_key(seed, f"{name}/{fold}"), fold) for fold in range(folds))[-1]
        sizes[fold] += counts[name]
        chosen[name] = fold
    return [chosen[name] for name in names]


def _group_name(item: Mapping, group: Group) -> str:
    name = str(item["case"] if "case" in item else item["id"])
    if group is None:
        return name
    if callable(group):
        return str(group(item))
    match = re.search(group, name)
    if match is None:
        raise ValueError(
            f"group is {group!r}, which is not found in the name of case {name}: give a regular expression that is "
            "found in every name."
        )
    return match[1] if match.re.groups else match[0]

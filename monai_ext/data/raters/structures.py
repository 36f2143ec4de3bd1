"""Several structures of one image in a list of cases: tasks of QUBIQ read together, or labels of one mask by name.

An item of K structures has their names as "structures", and R x K entries in "label": place r K + k is structure k of
rater r. Decoders keep that order for masks, (R K, *S), so that every transform of masks serves them as well, and give
presence as (R, K), by which `PrepareRaters` makes (B, R, K, *S) of them. Without "structures" there is one, as ever.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from monai_ext.raster.labels import Labels, Values, checked_labels, structures_of_labels

__all__ = ["column_names", "labels_of_entries", "rater_labels", "structure_count", "structure_names", "together"]


def together(tasks: Sequence[int] | None) -> list[int]:
    """Numbers of the tasks that are read together; none where there is one alone, which is `task`.

    >>> together([1, 3]), together(None)
    ([1, 3], [])

    Raises:
        ValueError: they are no different numbers of at least 1.
    """
    if tasks is None:
        return []
    numbers: list = list(tasks) if isinstance(tasks, (list, tuple)) else [tasks]
    if any(not isinstance(number, int) or isinstance(number, bool) or number < 1 for number in numbers):
        raise ValueError(f"tasks is {tasks!r}: give the numbers of the tasks, such as [1, 2].")
    if len(set(numbers)) != len(numbers):
        raise ValueError(f"tasks is {tasks!r}: name each task once.")
    return numbers


def structure_names(*, tasks: Sequence[int] | None = None, labels: Labels = None) -> list[str] | None:
    """Names of the structures that are learnt together, None where there is one alone.

    >>> structure_names(tasks=[1, 2]), structure_names(labels={"disc": [1, 2], "cup": [2]})
    (['task01', 'task02'], ['disc', 'cup'])

    Raises:
        ValueError: both name structures.
    """
    of_tasks, of_labels = [f"task{number:02d}" for number in together(tasks)], structures_of_labels(labels)
    if of_tasks and of_labels:
        raise ValueError(
            f"tasks is {list(tasks or ())} and labels names {', '.join(of_labels)}: structures are either tasks, each "
            "in files of its own, or labels of one task's files."
        )
    return of_tasks or of_labels or None


def labels_of_entries(item: Mapping) -> list[Values | str | None]:
    """The label of each entry of "label", from the item's "label_values"."""
    checked = checked_labels(item.get("label_values"))
    files = item.get("label") or ()
    count = 1 if isinstance(files, str | os.PathLike) else len(files)
    if not isinstance(checked, dict):
        return [checked] * count
    own = list(checked.values())
    return [own[place % len(own)] for place in range(count)]


def structure_count(item: Mapping) -> int:
    """Number K of entries that "label" of an item has for each rater."""
    return len(item.get("structures") or [""])


def column_names(item: Mapping) -> list[str]:
    """What the entries of "label" are, in words; nothing where there is one mask, which is nobody's.

    >>> column_names({"raters": [1], "structures": ["task01", "task02"]}), column_names({"raters": [3]})
    (['rater 1, task01', 'rater 1, task02'], ['rater 3'])
    """
    raters, structures = [f"rater {number}" for number in item.get("raters", ())], list(item.get("structures") or ())
    if not (raters and structures):
        return raters or structures
    return [f"{rater}, {name}" for rater in raters for name in structures]


def rater_labels(item: Mapping) -> list[list[str | None]]:
    """Entries of "label" for each rater, one for each structure."""
    count = structure_count(item)
    return [list(item["label"][place : place + count]) for place in range(0, len(item["label"]), count)]

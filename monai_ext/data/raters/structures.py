"""Several structures of one image in a list of cases: the tasks of QUBIQ that are read together.

An item of K structures has their names as "structures", and R x K entries in "label": place r K + k is structure k of
rater r. Decoders keep that order for masks, (R K, *S), so that every transform of masks serves them as well, and give
presence as (R, K), by which `PrepareRaters` makes (B, R, K, *S) of them. Without "structures" there is one, as ever.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["column_names", "rater_labels", "structure_count", "structure_names", "together"]


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


def structure_names(*, tasks: Sequence[int] | None = None) -> list[str] | None:
    """Names of the structures that are learnt together, None where there is one alone.

    >>> structure_names(tasks=[1, 2])
    ['task01', 'task02']
    """
    return [f"task{number:02d}" for number in together(tasks)] or None


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

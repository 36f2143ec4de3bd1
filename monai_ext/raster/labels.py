"""Labels: the values of a mask that are foreground, or several structures by name, each with its values.

Structures (the regions of nnU-Net) may share values: {"disc": [1, 2], "cup": [2]}.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ALPHA",
    "Label",
    "Labels",
    "Values",
    "checked_label",
    "checked_labels",
    "has_label",
    "in_words",
    "label_map",
    "structures_of_labels",
    "values_outside",
]

Values = tuple[int | tuple[int, ...], ...]
Label = int | str | Sequence[int] | Sequence[Sequence[int]] | Values | None
Labels = Label | Mapping[str, Label]

ALPHA = "alpha"
STRUCTURE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")  # it becomes part of names of files and columns


def checked_labels(labels: Labels) -> Values | str | dict[str, Values | str] | None:
    """`labels` as `checked_label` of one structure, or of each by its name; see `read_mask`.

    >>> checked_labels([1, 2]), checked_labels({"disc": [1, 2], "cup": 2})
    ((1, 2), {'disc': (1, 2), 'cup': (2,)})

    Raises:
        ValueError: they are none of these, two structures have the same values, or a name cannot be that of a file.
    """
    if not isinstance(labels, Mapping):
        return checked_label(labels)
    found: dict[str, Values | str] = {}
    for name, label in labels.items():
        values = checked_label(label)
        if values is None or not STRUCTURE_NAME.fullmatch(str(name)):
            raise ValueError(
                f"labels has the structure {name!r} of the values {label!r}: give names of letters and digits, and "
                "the values of each, such as {disc: [1, 2], cup: [2]}."
            )
        twin = next((other for other, own in found.items() if set(own) == set(values)), None)
        if twin is not None:
            raise ValueError(f"labels has the same values for {twin} and {name}: name each structure once.")
        found[str(name)] = values
    if not found:
        raise ValueError("labels names no structure: give some, such as {disc: [1, 2], cup: [2]}, or leave it out.")
    return found


def structures_of_labels(labels: Labels) -> list[str]:
    """Names of the structures of labels by name; none where there is one without a name."""
    checked = checked_labels(labels)
    return list(checked) if isinstance(checked, dict) else []


def checked_label(label: Label) -> Values | str | None:
    """`label` as a tuple of its values, "alpha" or None; see `read_mask`.

    >>> checked_label(2), checked_label([1, 2]), checked_label([[255, 0, 0]])
    ((2,), (1, 2), ((255, 0, 0),))

    Raises:
        ValueError: it is none of these.
    """
    if label is None or label == ALPHA:
        return ALPHA if label == ALPHA else None
    values = tuple(label) if isinstance(label, (list, tuple)) else (label,)
    if values and all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        return values
    if values and all(isinstance(value, (list, tuple)) and len(value) == 3 for value in values):
        return tuple(tuple(int(part) for part in value) for value in values)
    raise ValueError(
        f"labels is {label!r}: give a value of the masks, a list of several, a colour [red, green, blue], 'alpha', or "
        "values by the names of structures, such as {disc: [1, 2], cup: [2]}."
    )


def has_label(values: NDArray, label: Values) -> NDArray[np.bool_]:
    """Where `values` are one of the label's numbers, within 0.001."""
    return np.isin(np.round(values) if values.dtype.kind == "f" else values, label) & (
        np.abs(values - np.round(values)) <= 1e-3 if values.dtype.kind == "f" else True
    )


def in_words(label: Values | str) -> str:
    """The label for a message.

    >>> in_words((1, 2)), in_words("alpha")
    ('1, 2', 'alpha')
    """
    return label if isinstance(label, str) else ", ".join(map(str, label))


def values_outside(found: Sequence[int], labels: Labels) -> list[int]:
    """Those of the values found in masks that are no structure's, 0 apart.

    >>> values_outside([0, 1, 2, 7], {"disc": [1, 2], "cup": [2]})
    [7]
    """
    checked = checked_labels(labels)
    if not isinstance(checked, dict):
        return []
    used = {value for values in checked.values() for value in values}
    return [value for value in found if value != 0 and value not in used]


def label_map(masks: NDArray[np.bool_], labels: Labels) -> NDArray[np.integer]:
    """One map (*S) of masks (K, *S) of the structures of labels by name: the values that the labels have.

    A pixel gets the value that belongs to just the structures whose masks have it. Where no value does (a cup outside
    of its disc), it gets the own value of its last structure, those with fewer values counting as later: of its
    values the first that no later structure has. Structures of colours or transparency, and those without a value of
    their own, get their place among the structures, from 1.

    >>> label_map(np.array([[True, True, False], [False, True, False]]), {"disc": [1, 2], "cup": [2]}).tolist()
    [1, 2, 0]
    """
    checked = checked_labels(labels)
    if not isinstance(checked, dict):
        raise ValueError(f"labels is {labels!r}: a map of labels needs structures by name.")
    numbers = [[value for value in values if isinstance(value, int)] for values in checked.values()]
    order = sorted(range(len(numbers)), key=lambda k: -len(numbers[k]))
    if len(masks) != len(numbers):
        raise ValueError(f"{len(masks)} masks for {len(numbers)} structures: give one for each.")
    painted = []
    for place, k in enumerate(order):
        later = {value for other in order[place + 1 :] for value in numbers[other]}
        painted.append(next((value for value in numbers[k] if value not in later), None))
    if any(value is None for value in painted) or len(set(painted)) < len(painted):
        numbers, painted = [[] for _ in numbers], [k + 1 for k in order]
    highest = max([*(value for values in numbers for value in values), *(value or 0 for value in painted)])
    result = np.zeros(masks.shape[1:], dtype=np.uint8 if highest <= 255 else np.uint16)
    for value, k in zip(painted, order, strict=True):
        result[masks[k]] = value
    for value in {value for values in numbers for value in values}:
        own = np.array([value in values for values in numbers])
        result[(masks == own.reshape(-1, *[1] * (masks.ndim - 1))).all(0)] = value
    return result

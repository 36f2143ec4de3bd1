"""Settings of a bundle run: values that people type, and a whole config as one level of names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

__all__ = ["as_bool", "chosen", "flattened", "listed_paths"]

T = TypeVar("T")


def as_bool(value: bool | str, name: str) -> bool:
    """`value` as a truth value; the command line hands `--resume true` on as the text "true".

    Raises:
        ValueError: it is neither; names the setting `name`.

    >>> as_bool("False", "resume"), as_bool("true", "resume"), as_bool(True, "resume")
    (False, True, True)
    """
    if isinstance(value, bool):
        return value
    known = {"true": True, "false": False}
    if str(value).lower() not in known:
        raise ValueError(f"{name}={value!r}: choose true or false.")
    return known[str(value).lower()]


def chosen(options: Mapping[str, T], **setting: str) -> T:
    """The one of `options` that the single keyword names, which is the setting that errors mention.

    Raises:
        ValueError: there is none; names the setting and the choices.

    >>> chosen({"l1": 1, "mse": 2}, pixel_loss="mse")
    2
    """
    ((name, value),) = setting.items()
    if not isinstance(value, str) or value not in options:
        raise ValueError(f"{name}={value!r}: choose {_in_words(list(options))}.")
    return options[value]


def flattened(settings: object, key: str = "") -> dict[str, object]:
    """Nested settings by names of one level; descriptions are left out, an empty container stays.

    >>> flattened({"train": {"rates": [0.1, 0.2], "_desc_": "two rates"}, "parts": []})
    {'train::rates::0': 0.1, 'train::rates::1': 0.2, 'parts': []}
    """
    if isinstance(settings, Mapping) and settings:
        pairs = [(str(name), value) for name, value in settings.items() if name not in ("_desc_", "_note_")]
    elif isinstance(settings, list) and settings:
        pairs = [(str(index), value) for index, value in enumerate(settings)]
    else:
        return {key: settings}
    return {k: v for name, value in pairs for k, v in flattened(value, f"{key}::{name}" if key else name).items()}


def listed_paths(paths: str | Path | Sequence[str | Path]) -> list[Path]:
    """One path or several; the command line hands `--checkpoints "[a.pt, b.pt]"` on as text.

    >>> [str(path) for path in listed_paths("[runs/a/final.pt, 'b.pt']")], len(listed_paths("final.pt"))
    (['runs/a/final.pt', 'b.pt'], 1)
    """
    if isinstance(paths, str) and (typed := re.fullmatch(r"\s*\[(.*)\]\s*", paths)):
        paths = [path.strip(" '\"") for path in typed[1].split(",") if path.strip()]
    return [Path(path) for path in ([paths] if isinstance(paths, (str, Path)) else paths)]


def _in_words(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"

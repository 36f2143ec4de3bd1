"""Values that people type on the command line of a bundle run."""

from __future__ import annotations

__all__ = ["as_bool"]


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

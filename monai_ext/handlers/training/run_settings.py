"""The settings of a run, for its records: the numbers and choices at the top of its config, and further ones."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sized
from typing import Any

from monai.bundle import ReferenceResolver

__all__ = ["RunSettings"]

NO_SETTINGS = frozenset(  # places, and what is executed
    {"bundle_root", "dataset_dir", "output_dir", "cache_dir", "resume", "imports", "initialize", "run", "finalize"}
)


class RunSettings:
    """Plain values at the top of the config in which this is constructed, updated by `settings` and `counts`.

    MONAI hands a component its own arguments and nothing of the config around it, so the config's resolver is looked
    up among the calls that led here. Outside a config there are the further settings alone.

    Args:
        settings: name -> value.
        counts: name -> items, whose number is the value.
    """

    def __init__(self, settings: Mapping[str, Any] | None = None, *, counts: Mapping[str, Sized] | None = None):
        self.further = dict(settings or {}) | {name: len(items) for name, items in (counts or {}).items()}
        frame = inspect.currentframe()
        while frame is not None and not isinstance(frame.f_locals.get("self"), ReferenceResolver):
            frame = frame.f_back
        self._resolver: ReferenceResolver | None = None if frame is None else frame.f_locals["self"]

    def read(self) -> dict[str, Any]:
        """Name -> number, string, truth value, None, or a list of these; expressions as far as they are resolved."""
        values: dict[str, Any] = {}
        if self._resolver is not None:
            for name, item in self._resolver.items.items():
                if name and ReferenceResolver.sep not in name and not name.startswith("_") and name not in NO_SETTINGS:
                    values[name] = self._resolver.resolved_content.get(name, item.get_config())
        return {name: value for name, value in values.items() if _is_plain(value)} | self.further


def _is_plain(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    if isinstance(value, str):
        return not value.startswith(("$", "@", "%"))
    return value is None or isinstance(value, (bool, int, float))

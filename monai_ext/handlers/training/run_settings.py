"""The settings of a run, for its records: the numbers and choices at the top of its config, and further ones."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sized
from typing import Any, TypeVar

from monai.bundle import ConfigParser, ReferenceResolver

__all__ = ["NO_SETTINGS", "RunSettings", "config_around", "is_plain", "is_plain_mapping", "trained_settings"]

NO_SETTINGS = frozenset(  # places, phantoms (their cases count), and what is executed
    {"bundle_root", "dataset_dir", "output_dir", "cache_dir", "phantom_images", "phantoms", "resume", "imports",
     "initialize", "run", "finalize"}
)  # fmt: skip
TRAINED = "_trained_"  # where the settings of a training stand in the resolved content of an evaluation's config


T = TypeVar("T")


def config_around(kind: type[T]) -> T | None:
    """The `ConfigParser` or `ConfigWorkflow` in which the calling component is being constructed; None outside of one.

    MONAI hands a component its own arguments and nothing of the config around it, so it is looked up among the calls
    that led here.
    """
    frame = inspect.currentframe()
    while frame is not None and not isinstance(frame.f_locals.get("self"), kind):
        frame = frame.f_back
    return None if frame is None else frame.f_locals["self"]


def trained_settings(parser: ConfigParser) -> dict[str, Any]:
    """Name -> value of the training that a config evaluates; empty at first, to be filled in place."""
    known: Any = parser.ref_resolver.resolved_content.setdefault(TRAINED, {})
    return known


class RunSettings:
    """Plain values at the top of the config in which this is constructed, updated by `settings` and `counts`.

    In an evaluation the values are those of the training, but for how samples are drawn, see `take_settings_of_run`.
    Outside a config there are the further settings alone.

    Args:
        settings: name -> value.
        counts: name -> items, whose number is the value.
    """

    def __init__(self, settings: Mapping[str, Any] | None = None, *, counts: Mapping[str, Sized] | None = None):
        self.further = dict(settings or {}) | {name: len(items) for name, items in (counts or {}).items()}
        self._parser = config_around(ConfigParser)

    def read(self) -> dict[str, Any]:
        """Name -> number, string, truth value, None, or a list of these; expressions as far as they are resolved.

        What stands in the config as a mapping of such values (`labels`) is a value too.
        """
        values: dict[str, Any] = {}
        if self._parser is not None:
            resolver = self._parser.ref_resolver
            for name, item in resolver.items.items():
                if name and ReferenceResolver.sep not in name and not name.startswith("_") and name not in NO_SETTINGS:
                    config = item.get_config()
                    known = is_plain_mapping(config)
                    value = config if known else resolver.resolved_content.get(name, config)
                    if known or is_plain(value):
                        values[name] = value
            trained = trained_settings(self._parser)
            values |= {name: value for name, value in trained.items() if is_plain(value) or is_plain_mapping(value)}
        return values | self.further


def is_plain_mapping(value: object) -> bool:
    """Whether a value of a config is a mapping of `is_plain` values, and no component."""
    return (
        isinstance(value, Mapping)
        and bool(value)
        and not any(str(name).startswith("_") for name in value)
        and all(map(is_plain, value.values()))
    )


def is_plain(value: object) -> bool:
    """Whether a value of a config is a number, string, truth value, None, or a list of these, and no expression."""
    if isinstance(value, (list, tuple)):
        return all(map(is_plain, value))
    if isinstance(value, str):
        return not value.startswith(("$", "@", "%"))
    return value is None or isinstance(value, (bool, int, float))

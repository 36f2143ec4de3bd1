"""Refuse options of `python -m monai.bundle run` that MONAI would misread: names that no config has, odd folders."""

from __future__ import annotations

import ast
import difflib
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from fire.parser import DefaultParseValue

__all__ = ["given_options", "refuse_misread_places", "refuse_unknown_options"]

# What `run` of MONAI itself takes, and its handler for experiment tracking.
OF_MONAI = frozenset(
    "run_id init_id final_id meta_file config_file logging_file tracking args_file help output_dir tracking_uri "
    "experiment_name run_name save_execute_config".split()
)
REFERENCE = re.compile(r"[@%](\w+)")
PLACE = re.compile(r"\w+_(dir|path|root|weights)")  # names of options that take a file or a folder
UNREADABLE = (OSError, ValueError, TypeError, SyntaxError, ImportError)  # what comes out of config files
PLAIN_NAME = re.compile(r"[@$%][\w./~-]*")  # no expression: it calls, adds and quotes nothing


def refuse_unknown_options(arguments: Sequence[str]) -> None:
    """Of the command line `arguments` (`sys.argv`): nothing, if it is no `monai.bundle run`, or all names are known.

    Known is what stands at the top of a config file, or of one beside it in the bundle (`compare` hands the same
    options to training and evaluation), and what a config or another option refers to by `@` or `%`.

    Raises:
        ValueError: an option is not; names the nearest that is.
    """
    if (given := given_options(arguments)) is None:
        return
    try:
        files = _config_files(given)
        texts = {file: Path(file).read_text(encoding="utf-8") for file in files}
        known = {_top(name) for file, text in texts.items() for name in _content(file, text)}
    except UNREADABLE:
        return  # MONAI reads them in its own way, and reports the error
    known |= OF_MONAI | {name for text in (*texts.values(), *given.values()) for name in REFERENCE.findall(text)}
    for option in given:
        name = _top(option)
        if name not in known and not name.startswith("_") and name not in _tops_beside(files):
            near = difflib.get_close_matches(name, sorted(known - OF_MONAI | {"output_dir"}), n=1)
            where = " and ".join(Path(file).name for file in files)
            raise ValueError(
                f"--{option}: there is no '{name}' in {where}"
                + (f", did you mean --{near[0]}?" if near else ": choose one of the names at its top.")
            )


def refuse_misread_places(arguments: Sequence[str]) -> None:
    """Of the command line `arguments`: nothing, unless a file or folder has a name that means something else to MONAI.

    Numbers, truth values and lists are read as such, not as names; `@`, `$` and `%` begin references, expressions and
    macros; `#` separates keys wherever it stands.

    Raises:
        ValueError: one has; says what it is read as, and how to write it.
    """
    if (given := given_options(arguments)) is None:
        return
    names = {_top(name) for name in given}
    with suppress(*UNREADABLE):
        names |= {
            _top(name) for file in _config_files(dict(given)) for name in _content(file, Path(file).read_text("utf-8"))
        }
    for name, text in given.items():
        if not PLACE.fullmatch(name):
            continue
        value = DefaultParseValue(text)
        if value is not None and not isinstance(value, str):
            kind = {bool: "truth value", int: "number", float: "number"}.get(type(value), "list of values")
            raise ValueError(f"--{name} {text} is read as a {kind}, not as a name: write ./{text}")
        odd = PLAIN_NAME.fullmatch(text)
        if odd and (Path(text).exists() or text[1:].partition("::")[0] not in names):
            kind = {"@": "a reference", "$": "an expression", "%": "a macro"}[text[0]]
            raise ValueError(f"--{name} {text} is read as {kind} of the config, not as a name: write ./{text}")
        if "#" in text and not text.startswith(("@", "$", "%")):
            raise ValueError(
                f"--{name} {text}: MONAI reads # as :: in every text, so no folder or file with # in its name can be "
                "named: rename it, or name a link to it."
            )


def given_options(arguments: Sequence[str]) -> dict[str, str] | None:
    """The options of a `monai.bundle run` as text; None of another command."""
    is_run = Path(arguments[0]).parts[-3:] == ("monai", "bundle", "__main__.py") and arguments[1:2] == ["run"]
    return dict(_options(arguments[2:])) if is_run else None


def _top(name: str) -> str:
    """The part of a key that stands at the top of a config."""
    return re.split("::|#", name)[0]


def _options(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(name, value as text) of each `--name value` and `--name=value`, named as Fire names them."""
    for place, argument in enumerate(arguments):
        if argument == "--":
            return
        if argument.startswith("--"):
            name, equals, value = argument[2:].partition("=")
            following = arguments[place + 1] if place + 1 < len(arguments) else ""
            yield name.replace("-", "_"), value if equals else following


def _config_files(given: dict[str, str]) -> list[str]:
    """The config files, named by `--config_file` or in the file of `--args_file`, whose names join `given`."""
    text = given.get("config_file")
    if "args_file" in given:
        further = _content(given["args_file"], Path(given["args_file"]).read_text(encoding="utf-8"))
        text = further.get("config_file") if text is None else text
        for name, value in further.items():
            given.setdefault(name, str(value))
    if text is None:
        raise ValueError("no config file")
    files = text
    if isinstance(text, str) and text.lstrip().startswith(("[", "(", "'", '"')):
        files = ast.literal_eval(text)
    return [str(file) for file in ([files] if isinstance(files, str) else files)]


def _tops_beside(files: Sequence[str]) -> set[str]:
    """What stands at the top of the other JSON files in the folders of `files`."""
    names: set[str] = set()
    for folder in {Path(file).parent for file in files}:
        for path in folder.glob("*.json"):
            with suppress(OSError, ValueError, TypeError):
                names |= set(map(_top, json.loads(path.read_text(encoding="utf-8"))))
    return names


def _content(file: str, text: str) -> dict[str, Any]:
    if Path(file).suffix.lower() == ".json":
        return dict(json.loads(text))
    import yaml

    return dict(yaml.safe_load(text))

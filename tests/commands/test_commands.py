"""Every option of every command says what it is, in which unit, and what happens without it; pages name real ones."""

from __future__ import annotations

import argparse
import importlib
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from monai_ext.__main__ import COMMANDS

REPOSITORY = Path(__file__).parents[2]
CARDS = sorted((REPOSITORY / "bundles").glob("*/docs/README.md"))
PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").glob("*.md")), *CARDS]
# Options of tools other than ours that pages mention.
FOREIGN = {
    "bundle_path", "check", "ckpt_file", "config_file", "filepath", "help", "ignore-missing", "input_shape", "logdir",
    "meta_file", "nnodes", "net_id", "nproc_per_node", "opset_version", "rdzv", "standalone", "bundle_root",
    "max-restarts", "use_trace",
}  # fmt: skip
UNITS = (
    "annotators answers batches bins bytes cases cores cpus dates degrees draws epochs fields folds forward gpus "
    "images iterations levels members networks passes pictures pixels processes records requests runs samples "
    "scenes seconds share shares side starts steps threads tiles times tries updates windows"
).split()


@cache
def parser_of(command: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m monai_ext {command}")
    importlib.import_module(f"monai_ext.commands.{COMMANDS[command].module}").add_arguments(parser)
    return parser


def actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Arguments of a parser and of its subcommands, `--help` apart."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                yield from actions(each)
        elif not isinstance(action, argparse._HelpAction):
            yield action


def shown(command: str, action: argparse.Action) -> str:
    """The help text of an argument as it is printed."""
    if action.help is None:
        return ""
    return parser_of(command)._get_formatter()._expand_help(action)


def spellings(default: object) -> set[str]:
    """How a default may be written."""
    if isinstance(default, (list, tuple)):
        return {separator.join(map(str, default)) for separator in (",", " ", ", ")} | {"all"}
    numbers = {f"{default:g}", f"{default:,}", f"{default:.0e}"} if isinstance(default, (int, float)) else set()
    return {str(default), *numbers}


EVERY = [(command, action) for command in COMMANDS for action in actions(parser_of(command))]


def names(pairs: list[tuple[str, argparse.Action]]) -> list[str]:
    return [f"{command} {(action.option_strings or [action.dest])[-1]}" for command, action in pairs]


def test_every_argument_says_what_it_is():
    assert len(EVERY) > 80
    assert not names([(command, action) for command, action in EVERY if len(shown(command, action)) < 8])


def test_every_default_is_shown():
    hidden = []
    for command, action in EVERY:
        if action.required or not action.option_strings or action.default in (None, False, (), []):
            continue
        expected = {"on"} if action.default is True else spellings(action.default)
        if not any(re.search(rf"(?<![\w.]){re.escape(text)}(?![\w.]*\d)", shown(command, action)) for text in expected):
            hidden.append((command, action))
    assert not names(hidden)


def test_every_number_says_of_what():
    unclear = []
    for command, action in EVERY:
        is_number = action.type in (int, float) and action.dest not in ("seed", "split_seed", "zoom", "port")
        words = set(re.findall(r"\w+", f"{action.dest.replace('_', ' ')} {shown(command, action)}".lower()))
        if is_number and not words & {*UNITS, *(unit.removesuffix("s") for unit in UNITS)}:
            unclear.append((command, action))
    assert not names(unclear)


@cache
def known_options() -> set[str]:
    """Options of our commands and settings of all configs, with `-` and `_` alike."""
    found = {word.lstrip("-") for _, action in EVERY for word in action.option_strings}
    for path in (REPOSITORY / "bundles").glob("*/configs/*.json"):
        found |= {re.split("#|::", key)[0] for key in json.loads(path.read_text(encoding="utf-8"))}
    for path in (
        path for folder in ("benchmarks", "examples", "tests") for path in (REPOSITORY / folder).rglob("*.py")
    ):
        found |= set(re.findall(r'add_argument\(\s*"--([\w-]+)"', path.read_text(encoding="utf-8")))
    return {name.replace("-", "_") for name in found | FOREIGN}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_every_option_that_a_page_mentions_is_there(page):
    mentioned = re.findall(r"(?<![\w-])--(\w[\w-]*)", page.read_text(encoding="utf-8"))
    assert not sorted({name for name in mentioned if name.replace("-", "_") not in known_options()})


def test_commands_that_take_long_keep_their_log_in_the_folder_that_they_name():
    for command, entry in COMMANDS.items():
        if entry.log is not None:
            (option,) = (action for action in actions(parser_of(command)) if action.dest == entry.log)
            assert option.type is Path and "folder" in shown(command, option) or option.dest == "output_dir"
    assert {"demo", "compare", "fetch-tiles"} <= {name for name, entry in COMMANDS.items() if entry.log}

"""Every option of every command has its meaning, unit and default in the help; pages name options that exist."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from inspect import signature
from pathlib import Path
from typing import get_type_hints

import pytest

from monai_ext.__main__ import COMMANDS, main
from monai_ext.commands.command_line import parse_options

REPOSITORY = Path(__file__).parents[2]
LESIONS = REPOSITORY / "bundles" / "lesion_unet"
CARDS = sorted((REPOSITORY / "bundles").glob("*/docs/README.md"))
PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").glob("*.md")), *CARDS]
# Options of tools other than ours that pages mention.
FOREIGN = {
    "bundle_path", "check", "ckpt_file", "config_file", "filepath", "help", "ignore-missing", "input_shape", "logdir",
    "meta_file", "nnodes", "net_id", "nproc_per_node", "opset_version", "quiet", "rdzv", "standalone", "bundle_root",
    "max-restarts", "use_trace", "app", "conf", "download", "studies",
}  # fmt: skip
UNITS = (
    "raters bands batches bins bytes cases cores cpus dates degrees epochs factor fields folds forward gpus images "
    "iterations latent levels members networks passes patches pictures pixels processes records requests resamples "
    "runs samples scenes seconds seeds share shares side starts steps targets tasks threads tiles times tries updates "
    "windows"
).split()


def options_of(kind: type) -> Iterator[tuple[Field, object]]:
    """The fields of a dataclass of options and of those inside it, with their types."""
    types = get_type_hints(kind)
    for each in fields(kind):
        if is_dataclass(types[each.name]):
            yield from options_of(types[each.name])
        elif each.name not in ("arguments", "loss_arguments"):  # of `compare`, which are not typed by these names
            yield each, types[each.name]


OPTIONS = [(name, *option) for name, command in COMMANDS.items() for option in options_of(command.load()[1])]
NAMES = [f"{name} {each.name}" for name, each, _ in OPTIONS]


@cache
def help_of(command: str) -> dict[str, str]:
    """The help of each option of a command, as it is printed, on one line."""
    with redirect_stdout(io.StringIO()) as printed, suppress(SystemExit):
        parse_options(COMMANDS[command].load()[1], ["--help"])
    found, name = {}, ""
    for line in re.findall(r"^  (\S.*|  .*)", printed.getvalue(), re.MULTILINE):
        if start := re.match(r"(?:-h, )?--(\w+)|\[?([A-Z]{2,})\b", line):
            name = (start[1] or start[2]).lower()
        found[name] = f"{found.get(name, '')} {' '.join(line.split())}".strip()
    return found


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_the_meaning_unit_and_default_of_every_option(command):
    for name, each, kind in OPTIONS:
        if name != command:
            continue
        text = help_of(command)["input" if each.name == "paths" else each.name]
        meaning = re.sub(r"^\S+ (\S* )??(?=[a-z])|\(default: .*\)|\(required\)", "", text)
        assert meaning.split(), text
        if each.default is MISSING:
            assert "(required)" in text or each.name == "paths", text
        elif each.default not in (None, ()):
            assert "(default: " in text, text
        if re.search(r"\b(int|float)\b", str(kind)) and each.name not in ("seed", "split_seed", "zoom"):
            words = set(re.findall(r"[a-z]+", f"{each.name.replace('_', ' ')} {text}".lower()))
            assert words & {*UNITS, *(unit.removesuffix("s") for unit in UNITS)}, text


def test_one_thing_has_one_name():
    names = {each.name for _, each, _ in OPTIONS}
    assert len(NAMES) > 80
    assert not names & {"workers", "threads", "processes", "output_folder", "model", "out", "truth", "human"}
    folders = [(name, each.name) for name, each, _ in OPTIONS if each.name == "output"]
    assert folders == [("predict", "output"), ("export", "output"), ("many_hr show", "output")]  # or a folder


@cache
def known_options() -> set[str]:
    """Options of our commands and settings of all configs."""
    found = {each.name for _, each, _ in OPTIONS}
    for path in (REPOSITORY / "bundles").glob("*/configs/*.json"):
        found |= {re.split("#|::", key)[0] for key in json.loads(path.read_text(encoding="utf-8"))}
    for path in (
        path for folder in ("benchmarks", "examples", "tests") for path in (REPOSITORY / folder).rglob("*.py")
    ):
        found |= set(re.findall(r'add_argument\(\s*"--([\w-]+)"', path.read_text(encoding="utf-8")))
    return found | FOREIGN


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_every_option_that_a_page_mentions_is_there(page):
    mentioned = re.findall(r"(?<![\w-])--(\w[\w-]*)", page.read_text(encoding="utf-8"))
    assert not sorted({name for name in mentioned if name not in known_options()})


def test_commands_that_keep_a_log_have_an_output_dir():
    for name, command in COMMANDS.items():
        if command.keeps_log:
            assert ("output_dir", Path) in [(each.name, kind) for owner, each, kind in OPTIONS if owner == name]
    assert {"demo", "compare", "fetch_tiles"} <= {name for name, command in COMMANDS.items() if command.keeps_log}


def test_only_commands_that_run_bundles_pass_unknown_options_on():
    further = [name for name, command in COMMANDS.items() if len(signature(command.load()[0]).parameters) > 1]
    assert further == ["train", "evaluate", "predict", "compare", "qubiq"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("report", "Missing from monai_ext report: COMPARISON"),
        ("report a --colour red", "unknown arguments: --colour red"),
        ("score --predictions a --targets b --estimator W", "invalid choice 'W' for argument '--estimator'"),
        ("viewer a.png b.html --window 1 2 3", "--window takes {INT INT INT INT}, not '1', '2', '3'"),
        ("upscale image.png", "name one input or more, and the output."),
        ("many_hr paint", "usage: monai_ext COMMAND"),
        ("paint", "no command 'paint'"),
        ("", "usage: monai_ext COMMAND"),
    ],
)
def test_wrong_use_ends_in_one_sentence_and_status_2(words, sentence, capsys):
    try:
        status = main(words.split())
    except SystemExit as end:
        status = end.code
    printed = capsys.readouterr()
    assert status == 2 and sentence in printed.err and printed.out == ""
    assert printed.err.count("\n") == 1 or printed.err.startswith("usage")


def test_an_interrupted_command_ends_with_status_130(monkeypatch, capsys):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("monai_ext.commands.comparison.report.report", interrupted)
    assert main(["report", "folder"]) == 130
    assert capsys.readouterr().err.strip() == "interrupted: the same command begins again"


def test_a_reader_of_the_output_may_end_before_it(monkeypatch, capsys):
    unread, written = os.pipe()
    os.close(unread)
    with os.fdopen(written, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert main(["bundles", "list"]) == 1
    assert capsys.readouterr().err == ""


def test_torch_is_imported_by_commands_that_compute_alone():
    code = "import sys; from monai_ext.__main__ import COMMANDS; COMMANDS[{!r}].load(); print('torch' in sys.modules)"
    for name in ("compare", "report", "inspect", "pack"):
        command = [sys.executable, "-c", code.format(name)]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "False", name


def test_options_are_read_back_as_they_are_typed():
    kind = COMMANDS["fetch_tiles"].load()[1]
    words = "--bbox -76.62 39.28 -76.58 39.30 --zoom 16 --output_dir tiles --dry_run --quiet"
    line = parse_options(kind, words.split())
    assert line.options == kind((-76.62, 39.28, -76.58, 39.3), 16, Path("tiles"), dry_run=True)
    assert line.quiet and line.further == ()


@pytest.mark.parametrize(
    ("typed", "way_on"),
    [
        (
            "upscale a.png b.png --bundle bundles/srgan_aerial",
            ": the same command with --resume goes on from the strips",
        ),
        (
            f"compare --bundle {REPOSITORY}/bundles/lesion_unet --dataset_dir d --output_dir o",
            ": the same command goes on from what is there",
        ),
        ("fetch_tiles --bbox 1 1 2 2 --zoom 3 --output_dir o", ": the same command goes on from what is there"),
        ("many_hr build --tiles t --output_dir o", ": the same command goes on from what is there"),
        ("report o", ": the same command begins again\n"),
        ("many_hr check o", ": the same command begins again\n"),
        ("convert a --output_dir o", ": remove the output folder, and the same command begins again\n"),
        ("reproduce o", ": the same command goes on from what is there"),
    ],
)
def test_an_interrupt_is_one_sentence_with_the_way_on(typed, way_on, monkeypatch, capsys):
    name = next(name for name in COMMANDS if typed.startswith(name))
    kind = COMMANDS[name].load()[1]

    def interrupted(options, further=()):
        raise KeyboardInterrupt

    monkeypatch.setattr(type(COMMANDS[name]), "load", lambda command: (interrupted, kind))
    monkeypatch.setattr("monai_ext.__main__.keep_log", lambda folder: None)
    assert main(typed.split()) == 130
    assert f"\ninterrupted{way_on}" in capsys.readouterr().err


def test_what_the_package_logs_reaches_the_terminal_unless_quiet(monkeypatch, capsys):
    kind = COMMANDS["report"].load()[1]

    def logs(options):
        for write in (logging.getLogger("monai_ext.a").info, logging.getLogger("monai_ext.a").warning):
            write(f"a range was found, by {write.__name__}")
        return 0

    monkeypatch.setattr(type(COMMANDS["report"]), "load", lambda command: (logs, kind))
    for words, levels in ((["report", "o"], ["info", "warning"]), (["report", "o", "--quiet"], ["warning"])):
        monkeypatch.setattr(logging.getLogger(), "handlers", [])
        assert main(words) == 0
        assert capsys.readouterr().err.splitlines() == [f"a range was found, by {level}" for level in levels]

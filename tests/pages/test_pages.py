"""Every command of every page and of every `--help` is run on phantoms; the README's Python is run too.

A command that is new on a page is run from then on, at its place; `page_registry.py` has an entry for each page.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch
from page_registry import joined, stories
from pages import PAGES, REPOSITORY, commands, make_project, options, run, settings, sources

from monai_ext.__main__ import COMMANDS, examples, main
from monai_ext.data import write_lesion_phantoms, write_rater_phantoms

SOURCES = sources()
STORIES = stories()
NOT_RUN = joined("not_run")
PYTHON = re.compile(r"```python\n(.*?)```", re.DOTALL)


def excuse(words: list[str]) -> str | None:
    """The entry of `NOT_RUN` that says why a command is not run."""
    return next((start for start in NOT_RUN if " ".join(words).startswith(start)), None)


def outputs(words: list[str]) -> list[Path]:
    """What a command names as the place of its results."""
    named = options(words)
    return [Path(named[key]) for key in ("output", "output_dir") if key in named and "--dry_run" not in words]


def test_commands_are_found_in_blocks_and_in_prose():
    page = """
Type `python -m monai_ext` or `python -m monai_ext viewer`, or all of `python
-m monai_ext viewer A B`.

    X=1 python a.py \\
        --b "c d"   # why
```text
not this
```
```
make c
```
* a list
  `make d`
"""
    found = [" ".join(words) for words in commands(page)]
    assert found == ["python -m monai_ext viewer A B", "X=1 python a.py --b c d", "make c", "make d"]


def test_every_source_of_commands_is_in_one_story_and_every_excuse_is_needed():
    assert sorted(name for names in STORIES.values() for name in names) == sorted(SOURCES)
    assert set(NOT_RUN) == {excuse(words) for told in SOURCES.values() for words in told} - {None}
    typed = {word for told in SOURCES.values() for words in told for word in words}
    replaced = joined("stands_for")
    assert replaced.keys() | joined("reads").keys() <= typed | set(replaced.values())


def test_a_command_of_an_unknown_program_is_refused(monkeypatch):
    assert excuse(["conda", "create"]) is None
    with pytest.raises(AssertionError, match="conda create is neither run nor excused"):
        run(["conda", "create"], monkeypatch)


@pytest.mark.parametrize("story", STORIES)
def test_commands_run_as_typed_one_after_the_other(story, tmp_path, monkeypatch):
    make_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    typed: list[list[str]] = []
    for words in (words for source in STORIES[story] for words in SOURCES[source]):
        if excuse(words) is None and words not in typed:
            run(words, monkeypatch)
            typed.append(words)
            assert all(path.exists() for path in outputs(words)), words
    for path in tmp_path.rglob("final.pt"):
        weights = torch.load(path, weights_only=True)
        assert all(value.isfinite().all() for value in weights.values()), path


def test_bundle_runs_name_settings_that_exist(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    for words in (words for told in SOURCES.values() for words in told if {"--config_file", "run"} <= {*words}):
        given = {re.split("#|::", key)[0] for key in options(words[words.index("run") :])}
        assert given - settings(words) == {"config_file"}, words


def test_our_own_commands_are_told_by_help_with_examples(capsys):
    for name in COMMANDS:
        with pytest.raises(SystemExit) as stop:
            main([*name.split(), "--help"])
        text = capsys.readouterr().out
        assert stop.value.code == 0 and "usage" in text and examples(name) in text.split("examples:")[1]
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(examples(name) in text for name in COMMANDS)


def test_an_unknown_option_is_named(capsys):
    with pytest.raises(SystemExit):
        main(["report", "folder", "--colour", "red"])
    assert "--colour" in capsys.readouterr().err


def test_python_on_pages_is_run(tmp_path, monkeypatch):
    """That of docs/many_hr.md is run in tests/data/many_hr/test_build.py."""
    told = {page: PYTHON.findall(page.read_text(encoding="utf-8")) for page in PAGES}
    pages = [REPOSITORY / name for name in ("README.md", "docs/in_your_project.md")]
    assert {page for page, found in told.items() if found} == {*pages, REPOSITORY / "docs/many_hr.md"}
    code = "\n".join(block for page in pages for block in told[page])
    if not (REPOSITORY / "bundles" / "lesion_unet" / "models" / "model.pt").is_file():
        pytest.skip("the bundle ships no weights")
    write_lesion_phantoms(tmp_path / "lesions", count=22, size=(48, 64))
    write_rater_phantoms(tmp_path / "raters", count=2, size=(52, 40, 8))
    monkeypatch.chdir(REPOSITORY)
    namespace: dict = {}
    for name, folder in (("ISIC2017", "lesions"), ("LIDC", "raters")):
        code = code.replace(f'"{name}"', repr(str(tmp_path / folder)))
    exec(compile(code, "pages", "exec"), namespace)
    assert namespace["masks"].shape[1:] == (5, 40, 40, 12) and namespace["masks"].any()
    assert namespace["loss"].isfinite() and isinstance(namespace["trained"], namespace["MobileNetV2UNet"])

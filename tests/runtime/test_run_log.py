"""Logs in one place: `run.log` in the output folder has what was logged and told, and the error at the end."""

from __future__ import annotations

import logging
import os
import re
import sys

import pytest
from processes import FAILING, run_python

from monai_ext.runtime import run_log
from monai_ext.runtime.run_log import LOG_FILE, keep_log, note, tell

LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} - (\S+) - (\w+) - (.*)")


@pytest.fixture(autouse=True)
def no_log_afterwards():
    yield
    keep_log(None)


def lines(folder) -> list[tuple[str, str, str]]:
    """(logger, level, message) of the lines of a log that have a time."""
    text = (folder / LOG_FILE).read_text(encoding="utf-8")
    return [match.groups() for match in map(LINE.fullmatch, text.splitlines()) if match]


def test_what_is_logged_and_told_stands_in_the_folder_under_the_command(tmp_path, capsys):
    keep_log(tmp_path)
    logging.getLogger("monai_ext.data").info("decoded 3 images")
    logging.getLogger("monai_ext.data").debug("nobody wants to know")
    tell("\n== training: python -m ...")
    assert lines(tmp_path) == [
        ("monai_ext.data", "INFO", "decoded 3 images"),
        ("monai_ext", "INFO", "== training: python -m ..."),
    ]
    assert (tmp_path / LOG_FILE).read_text().startswith("\n# command: ")
    assert capsys.readouterr().err == "\n== training: python -m ...\n"


def test_the_folder_is_not_made_for_the_log_but_what_waited_is_written_once_it_is_there(tmp_path):
    folder = tmp_path / "run"
    log = keep_log(folder)
    note("before")
    assert not folder.exists()
    folder.mkdir()
    note("after")
    assert [message for *_, message in lines(folder)] == ["before", "after"]
    log.flush()
    assert (folder / LOG_FILE).read_text().count("# command: ") == 1


def test_a_later_log_ends_the_one_before_and_a_second_run_adds_to_the_same_file(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        keep_log(tmp_path / name)
        note(f"in {name}")
    keep_log(tmp_path / "a")
    logging.getLogger().warning("again in a")
    assert [message for *_, message in lines(tmp_path / "a")] == ["in a", "again in a"]
    assert [message for *_, message in lines(tmp_path / "b")] == ["in b"]
    keep_log(None)
    note("nowhere")
    tell("nowhere")
    assert len(lines(tmp_path / "a")) == 2


def test_of_several_processes_only_the_first_logs_and_the_others_add_errors(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    keep_log(tmp_path)
    logging.getLogger("monai_ext").info("as on rank 0")
    note("as on rank 0")
    note("only here", logging.ERROR)
    assert lines(tmp_path) == [("monai_ext@rank1", "ERROR", "only here")]
    assert "# command" not in (tmp_path / LOG_FILE).read_text()


def test_output_that_is_redirected_to_the_log_is_not_written_twice(tmp_path, monkeypatch):
    with (tmp_path / LOG_FILE).open("w") as file:
        monkeypatch.setattr(sys, "stderr", file)
        assert keep_log(tmp_path) is None
        tell("once")
    assert (tmp_path / LOG_FILE).read_text() == "once\n"


@pytest.mark.skipif(not hasattr(os, "geteuid") or not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_log_that_cannot_be_written_ends_with_one_line_and_the_run_goes_on(tmp_path, capsys):
    (tmp_path / LOG_FILE).symlink_to("/dev/full")
    keep_log(tmp_path)
    for _ in range(3):
        logging.getLogger("monai_ext").warning("something")
    told = [line for line in capsys.readouterr().err.splitlines() if "cannot be written" in line]
    assert len(told) == 1 and told[0].startswith("no log from here on: ") and "No space left" in told[0]


def test_a_log_in_a_folder_that_cannot_be_is_none(tmp_path):
    keep_log(tmp_path / ("x" * 300))
    note("something", logging.ERROR)


def test_odd_characters_are_logged(tmp_path):
    keep_log(tmp_path)
    note("Läsion ✓ \udcff")
    assert lines(tmp_path)[0][2] == "Läsion ✓ \\udcff"


def test_the_error_that_ends_a_process_stands_in_its_log_with_the_stack_trace(tmp_path):
    (tmp_path / "out").mkdir()
    done = run_python(FAILING.format(log_dir="out"), tmp_path, MONAI_EXT_TRACEBACK="")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert lines(tmp_path / "out")[-1] == (
        "monai_ext",
        "ERROR",
        "error: '../a' cannot name a file in 'out': it leads out of the folder, or is no name.",
    )
    assert "Traceback (most recent call last):" in (tmp_path / "out" / LOG_FILE).read_text()


def test_warnings_still_reach_standard_error_of_a_process_that_configured_no_logging(tmp_path):
    code = "import logging\nfrom monai_ext.runtime.run_log import keep_log\nkeep_log('.')\n"
    code += "logging.getLogger('a').warning('odd')"
    done = run_python(code, tmp_path)
    assert done.returncode == 0 and done.stderr == "odd\n"
    assert lines(tmp_path) == [("a", "WARNING", "odd")]


def test_progress_passes_items_on_and_is_drawn_where_it_is_shown(monkeypatch, capsys):
    assert list(run_log.progress([1, 2], "pack", "bundle")) == [1, 2] and capsys.readouterr().err == ""
    monkeypatch.setattr(run_log, "shows_progress", lambda: True)
    assert list(run_log.progress([1, 2], "pack", "bundle")) == [1, 2] and "pack: " in capsys.readouterr().err

from __future__ import annotations

import io
import re

import pytest
from processes import FAILING, run_python

from monai_ext.runtime.errors import explain, network_reason
from monai_ext.storage.files import atomic_path, inside, write_text


def error_of(action) -> BaseException:
    try:
        action()
    except Exception as error:
        return error
    raise AssertionError("no error was raised")


def wrapped() -> None:
    try:
        inside("out", "../a")
    except ValueError as error:
        raise RuntimeError("Failed to instantiate component") from error


def test_the_sentence_of_our_own_error_is_found_through_wrappers():
    assert explain(error_of(wrapped)).startswith("'../a' cannot name a file in 'out'")


def test_errors_raised_elsewhere_are_not_explained():
    assert explain(error_of(lambda: int("x"))) is None
    assert explain(KeyError("x")) is None


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ("x" * 300, r"cannot use 'x+' \(File name too long\): choose shorter names."),
        ("", r"cannot use '.*' \(Is a directory\): name a file, not a folder."),
    ],
)
def test_refusals_of_the_system_have_a_way_out_wherever_they_occur(place, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused = error_of(lambda: io.FileIO(place or str(tmp_path)))
    assert re.fullmatch(sentence, explain(refused))


@pytest.mark.parametrize(
    "of", ["", "<urllib3.connection.HTTPConnection object at 0x7f>: ", "HTTPConnection(host='a', port=9): "]
)
def test_the_reason_of_a_failed_request_is_its_innermost_without_objects(of):
    inner = OSError(f"{of}refused (111): at a:9")
    assert network_reason(OSError(ValueError(inner))) == "refused (111): at a:9"


@pytest.mark.parametrize(("show", "traceback"), [("", False), ("1", True)])
def test_an_uncaught_error_ends_the_process_with_its_sentence(show, traceback, tmp_path):
    done = run_python(FAILING.format(log_dir=None), tmp_path, MONAI_EXT_TRACEBACK=show)
    assert done.returncode == 1
    assert done.stderr.rstrip().splitlines()[-1].startswith("error: '../a' cannot name a file in 'out'")
    assert ("Traceback" in done.stderr) == traceback
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("cause", "show", "traceback"),
    [("inside('out', '../a')", "", False), ("1 / 0", "", True), ("inside('out', '../a')", "1", True)],
)
def test_an_error_that_is_logged_on_its_way_has_no_stack_trace_either(cause, show, traceback, tmp_path):
    code = (
        "import logging\nfrom monai_ext.runtime.errors import report_errors_in_one_sentence as report\n"
        f"from monai_ext.storage.files import inside\nreport()\nreport()\ntry:\n    {cause}\n"
        "except Exception as error:\n    logging.getLogger('StatsHandler').exception(f'Exception: {error}')\n"
    )
    done = run_python(code, tmp_path, MONAI_EXT_TRACEBACK=show)
    assert done.returncode == 0 and done.stderr.startswith("Exception: ") and ("Traceback" in done.stderr) == traceback


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "table.csv"
    write_text(path, "old")
    with pytest.raises(ZeroDivisionError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert [p.name for p in path.parent.iterdir()] == ["table.csv"]


def test_temporary_files_keep_the_suffix_and_hide_their_name(tmp_path):
    with atomic_path(tmp_path / "picture.png") as temporary:
        assert temporary.suffix == ".png" and temporary.name.startswith(".picture")
        temporary.write_bytes(b"x")
    assert (tmp_path / "picture.png").read_bytes() == b"x"


def test_an_interrupt_of_a_run_is_one_sentence_with_the_way_on(tmp_path):
    code = (
        "from monai_ext.runtime.errors import WAYS_ON, report_errors_in_one_sentence as report\n"
        "report(log_dir='.')\nWAYS_ON.append('--resume true goes on')\nraise KeyboardInterrupt\n"
    )
    done = run_python(code, tmp_path, MONAI_EXT_TRACEBACK="")
    assert done.returncode in (130, -2) and done.stderr.strip() == "interrupted: --resume true goes on"
    assert "WARNING - interrupted: --resume true goes on" in (tmp_path / "run.log").read_text()
    assert "Traceback" in run_python(code, tmp_path, MONAI_EXT_TRACEBACK="1").stderr


def test_names_that_the_locale_cannot_read_are_one_sentence_with_the_way_out(tmp_path):
    error = error_of(lambda: write_text(tmp_path / "a.txt", "d\udcc3\udca4"))
    assert explain(error).startswith("a name holds letters that Python takes for") and "PYTHONUTF8=1" in explain(error)

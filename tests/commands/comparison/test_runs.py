"""Runs in processes of their own, and what their logs are summed up in."""

from __future__ import annotations

import subprocess
import sys

import pytest
from fake_bundle import alive, wait_for

from monai_ext.commands.comparison.runs import LocalBackend, Run


def test_a_run_that_ignores_sigterm_is_killed_after_the_grace(tmp_path, monkeypatch):
    monkeypatch.setattr("monai_ext.commands.comparison.runs.GRACE_S", 0.3)
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    )
    deaf = Run("bce", 0, 0, ((sys.executable, "-S", "-c", code),), tmp_path)
    quick = Run("dice", 0, 0, ((sys.executable, "-S", "-c", "import time; time.sleep(0.4)"),), tmp_path / "quick")
    quick.folder.mkdir()
    outcomes = LocalBackend(jobs=2)([deaf, quick])
    assert next(outcomes).run is quick
    pid = int((tmp_path / "run.pid").read_text())
    wait_for(lambda: "deaf\n" in (tmp_path / "run.log").read_text())
    outcomes.close()
    assert not alive(pid)


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("raise KeyError('dice')", "KeyError: 'dice'"),
        ("import sys; sys.stderr.write('Traceback\\nOSError: no\\nerror: say it\\n'); sys.exit(1)", "say it"),
        (
            "try:\n    open('/no/file')\nexcept OSError as e:\n    raise RuntimeError('Failed to instantiate') from e",
            "FileNotFoundError: [Errno 2] No such file or directory: '/no/file'",
        ),
        ("import sys; print('only words'); sys.exit(3)", "only words"),
        ("import sys; sys.exit(3)", "ended with exit status 3 and without a word"),
        ("import os; os.kill(os.getpid(), 9)", "ended by SIGKILL (often: out of memory)"),
    ],
)
def test_the_log_is_summed_up_in_one_sentence(tmp_path, code, sentence):
    run = Run("bce", 0, 0, ((sys.executable, "-S", "-c", code),), tmp_path)
    (outcome,) = LocalBackend()([run])
    assert outcome.error == sentence


def test_an_old_error_in_the_log_is_not_taken_for_the_new_one(tmp_path):
    (tmp_path / "run.log").write_text("\n# command: before\nValueError: an old story\n")
    (outcome,) = LocalBackend()([Run("bce", 0, 0, ((sys.executable, "-S", "-c", "raise SystemExit(2)"),), tmp_path)])
    assert outcome.error == "ended with exit status 2 and without a word"


def test_a_program_that_is_not_there_is_a_failed_run(tmp_path):
    (outcome,) = LocalBackend()([Run("bce", 0, 0, (("/no/such/program",),), tmp_path)])
    assert outcome.error.startswith("/no/such/program could not be started")


def test_no_job_is_no_backend():
    with pytest.raises(ValueError, match="jobs = 0"):
        LocalBackend(jobs=0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills a process with its parent")
def test_a_tied_run_is_killed_with_the_process_that_started_it(tmp_path):
    code = f"""
from pathlib import Path
from monai_ext.commands.comparison.runs import LocalBackend, Run, tied_to_this_process
run = Run("bce", 0, 0, (({sys.executable!r}, "-S", "-c", "import time; time.sleep(60)"),), Path({str(tmp_path)!r}))
list(LocalBackend(wrapper=tied_to_this_process())([run]))
"""
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        wait_for((tmp_path / "run.pid").exists)
        pid = int((tmp_path / "run.pid").read_text())
        assert alive(pid)
        process.kill()
    wait_for(lambda: not alive(pid), 10)

"""Bundle commands: built, checked, executed here and in a process of their own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from monai_ext.commands.bundles import run_commands
from monai_ext.commands.bundles.run_commands import bundle_command, check_command, execute, run_here, typed


def test_one_config_is_named_several_are_a_list_and_the_line_can_be_pasted():
    assert bundle_command(["a.json"], {})[-1] == "a.json"
    line = typed(bundle_command(["a.json", "b c.json"], {"size": [1, 2], "region": "left lung"}))
    assert line == (
        """python -m monai.bundle run --config_file "['a.json', 'b c.json']" """
        "--size '[1, 2]' --region 'left lung'"
    )


def test_an_option_that_no_config_has_is_refused_before_anything_runs(tmp_path):
    (tmp_path / "train.json").write_text('{"max_epochs": 1}')
    check_command(bundle_command([tmp_path / "train.json"], {"max_epochs": 3}))
    with pytest.raises(ValueError, match="did you mean --max_epochs"):
        check_command(bundle_command([tmp_path / "train.json"], {"max_epoch": 3}))
    with pytest.raises(ValueError, match="read as a number"):
        check_command(bundle_command([tmp_path / "train.json"], {"output_dir": "2017"}))


def test_a_run_in_this_process_has_the_arguments_of_its_own_process_and_gives_them_back(monkeypatch):
    seen, before = [], list(sys.argv)

    def module(name, *, run_name, alter_sys):
        seen.append((name, run_name, alter_sys, list(sys.argv)))
        raise KeyboardInterrupt

    monkeypatch.setattr(run_commands.runpy, "run_module", module)
    with pytest.raises(KeyboardInterrupt):
        run_here(bundle_command(["a.json"], {"fold": 1}))
    arguments = ["monai/bundle/__main__.py", "run", "--config_file", "a.json", "--fold", "1"]
    assert seen == [("monai.bundle", "__main__", True, arguments)] and sys.argv == before


def test_a_process_of_its_own_returns_its_status_and_is_waited_for_after_an_interrupt(monkeypatch):
    assert execute(["-S", "-E", "-c", "raise SystemExit(3)"]) == 3
    waits: list[float | None] = []

    class Process:
        def wait(self, timeout: float | None = None) -> int:
            waits.append(timeout)
            if timeout is None and len(waits) == 1:
                raise KeyboardInterrupt
            if timeout is not None:
                raise subprocess.TimeoutExpired("python", timeout)
            return -9

        def kill(self) -> None:
            waits.append(-9)

    monkeypatch.setattr(run_commands.subprocess, "Popen", lambda *_, **__: Process())
    with pytest.raises(KeyboardInterrupt):
        execute(["-c", ""])
    assert waits == [None, run_commands.GRACE_S, -9, None]

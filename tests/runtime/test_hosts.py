from __future__ import annotations

import sys
import types

import pytest

from monai_ext.runtime.hosts import has_own_process, in_monai_label, put_aside
from monai_ext.runtime.start import start_run


@pytest.mark.parametrize(
    ("program", "own"),
    [
        ("/lib/monai/bundle/__main__.py", True),
        ("/lib/monai_ext/__main__.py", True),
        ("/bin/monai_ext", True),
        ("/lib/monailabel/main.py", False),
        ("/bin/jupyter", False),
        ("", False),
    ],
)
def test_the_commands_of_bundles_and_of_this_package_have_a_process_of_their_own(program, own):
    assert has_own_process([program, "run"]) == own


def test_an_earlier_run_is_put_aside_under_the_first_free_number(tmp_path):
    run = tmp_path / "dice"
    assert put_aside(run) is None
    for number in (1, 2):
        run.mkdir()
        (run / "run.json").write_text(str(number))
        assert put_aside(run) == tmp_path / f"dice-{number}" and not run.exists()
    assert (tmp_path / "dice-2/run.json").read_text() == "2"
    run.mkdir()
    assert put_aside(run) is None and run.is_dir()  # nothing was trained in it


def test_a_host_keeps_its_hooks_and_the_runs_of_others(tmp_path, monkeypatch):
    (tmp_path / "run.json").write_text("{}")
    hook = sys.excepthook
    start_run(tmp_path)
    assert sys.excepthook is hook and (tmp_path / "run.json").exists() and not in_monai_label()
    monkeypatch.setitem(sys.modules, "monailabel", types.ModuleType("monailabel"))
    start_run(tmp_path)
    assert in_monai_label() and not tmp_path.exists() and tmp_path.with_name(f"{tmp_path.name}-1").is_dir()
    start_run(None)

"""An evaluation is only used with the run, the weights and the table that it is of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from monai_ext.handlers.training.evaluation import check_evaluation

CASES = {"training": {"a": "1", "b": "2"}, "validation": {"c": "3", "d": "4"}}
SETTINGS = {"method": "ordered", "fold": 0, "anonymous": "true"}


@pytest.fixture
def run(tmp_path) -> Path:
    (tmp_path / "run" / "evaluation").mkdir(parents=True)
    (tmp_path / "run" / "final.pt").write_text("weights")
    write(tmp_path / "run" / "run.json", settings=SETTINGS, cases=CASES)
    return tmp_path / "run"


def write(path: Path, **content: object) -> None:
    path.write_text(json.dumps(content))


def scored(run: Path, cases: dict[str, str], digest: str = "9a7f2a1b0c3d4e5f") -> None:
    write(run / "evaluation" / "evaluation.json", cases=cases, origin="", weights={str(run / "final.pt"): digest})


def test_settings_that_are_not_those_of_the_run_are_refused_with_both(run):
    check_evaluation(run, "cd", {"method": "ordered", "anonymous": True, "other": 1})
    with pytest.raises(ValueError, match="has fold = 1, the run.json of its run has 0: run evaluate.json again"):
        check_evaluation(run, "cd", {"fold": 1})


def test_cases_that_were_trained_on_are_refused_by_name_or_by_image(run):
    with pytest.raises(ValueError, match=r"1 of the 2 cases scored in .* were trained on \(a\)"):
        check_evaluation(run, "ac", {})
    check_evaluation(run, "ax", {})  # of another data set, which has its own "a"
    (run / "final.pt").unlink()
    scored(run, {"x": "2", "c": "3"})
    with pytest.raises(ValueError, match=r"were trained on \(x\)"):
        check_evaluation(run, "xc", {})


def test_other_weights_and_other_tables_are_refused(run):
    scored(run, CASES["validation"])
    with pytest.raises(ValueError, match="is of other weights than .*final.pt now holds"):
        check_evaluation(run, "cd", {})
    with pytest.raises(ValueError, match=r"the table beside it are of other cases \(d\)"):
        check_evaluation(run, "c", {})


def test_without_a_record_nothing_is_compared(run):
    (run / "run.json").unlink()
    check_evaluation(run, "ab", {"fold": 7})

"""The comparison with a stand-in for the bundle: finishing, continuing, failing, refusing, stopping."""

from __future__ import annotations

import ast
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from fake_bundle import IDS, alive, fake_commands, go, times, wait_for

from monai_ext.commands.comparison.compare import (
    ComparisonBusyError,
    ComparisonError,
    Plan,
    bundle_commands,
    compare,
)
from monai_ext.commands.comparison.runs import LocalBackend

DRIVER = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from fake_bundle import go
go(Path({folder!r}))
"""


pytestmark = pytest.mark.usefixtures("impatient")


def start(place: Path) -> subprocess.Popen:
    code = DRIVER.format(tests=str(Path(__file__).parents[2] / "support"), folder=str(place))
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)


ALL = {f"{loss}/fold{fold}_seed0" for loss in ("bce", "dice") for fold in (0, 1)}


def test_every_run_is_trained_and_evaluated_once_and_then_skipped(place):
    assert go(place) == []
    assert go(place) == []
    assert times(place, "train") == times(place, "evaluate") == dict.fromkeys(ALL, 1)
    record = json.loads((place / "out/dice/fold1_seed0/finished.json").read_text())
    assert (record["loss"], record["fold"], record["seed"]) == ("dice", 1, 0)
    assert record["settings"]["configs"]["train.json"]["lr"] == 0.001
    assert record["seconds"] > 0 and "torch" in record["versions"]


def test_a_failed_run_is_named_with_its_error_and_the_others_go_on(place, capfd):
    (place / "bundle/control/fail_train_bce").touch()
    failed = go(place)
    assert [outcome.run.name for outcome in failed] == ["bce/fold0_seed0", "bce/fold1_seed0"]
    assert failed[0].error == "RuntimeError: bce went wrong in train"
    assert "Traceback" in failed[0].log.read_text()
    assert "bce/fold0_seed0 failed: RuntimeError: bce went wrong in train" in capfd.readouterr().err
    (place / "bundle/control/fail_train_bce").unlink()
    assert go(place) == []
    assert times(place, "train") == {name: 2 if name.startswith("bce") else 1 for name in ALL}


def test_a_failed_evaluation_does_not_repeat_the_training(place):
    (place / "bundle/control/fail_evaluate_dice").touch()
    assert len(go(place)) == 2
    (place / "bundle/control/fail_evaluate_dice").unlink()
    assert go(place) == []
    assert times(place, "train") == dict.fromkeys(ALL, 1)


def test_a_run_without_its_table_is_failed_and_can_be_repeated(place):
    (place / "bundle/control/forget").touch()
    assert "left no evaluation/cases.csv" in go(place)[0].error
    (place / "bundle/control/forget").unlink()
    assert go(place) == []


def test_further_losses_and_seeds_join_the_folder_and_its_plan(place):
    go(place)
    go(place, losses=("tversky",), seeds=(1,))
    plan = json.loads((place / "out/plan.json").read_text())
    assert plan["losses"] == ["tversky", "bce", "dice"]
    assert plan["seeds"] == [1, 0]
    assert set(times(place, "train")) == ALL | {"tversky/fold0_seed1", "tversky/fold1_seed1"}


def test_all_losses_of_a_fold_come_before_the_next_fold(place):
    plan = Plan(place / "bundle", place / "data", place / "out", ("bce", "dice"), 2, (0, 1))
    names = [run.name for run in plan.runs(fake_commands)]
    assert names[:3] == ["bce/fold0_seed0", "dice/fold0_seed0", "bce/fold1_seed0"]
    assert len(set(names)) == 8


def test_jobs_run_side_by_side_and_share_the_cores(place, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    (place / "bundle/control/hang_train").touch()
    plan = Plan(place / "bundle", place / "data", place / "out", ("bce", "dice"), 2)
    runs = plan.runs(fake_commands)
    for run in runs:
        run.folder.mkdir(parents=True)
    outcomes = LocalBackend(jobs=2)(runs)

    def free() -> None:
        wait_for(lambda: len(times(place, "train")) == 2)
        (place / "bundle/control/hang_train").unlink()

    thread = threading.Thread(target=free)
    thread.start()
    assert all(outcome.error is None for outcome in outcomes)
    thread.join()
    threads = (place / "out/bce/fold0_seed0/train.txt").read_text().strip()
    assert int(threads) == max(1, len(os.sched_getaffinity(0)) // 2)


def test_the_threads_that_the_user_chose_are_those_of_a_run(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert LocalBackend(jobs=2).environment["OMP_NUM_THREADS"] == "7"
    assert LocalBackend(threads=3).environment["OMP_NUM_THREADS"] == "3"
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    assert int(LocalBackend(jobs=2).environment["OMP_NUM_THREADS"]) == max(1, len(os.sched_getaffinity(0)) // 2)


def test_another_backend_receives_the_runs_one_by_one(place):
    taken = []

    def backend(runs):
        for run in runs:
            taken.append((run.name, (run.folder / "started.json").exists()))
            return  # a scheduler that is stopped after its first run
            yield

    plan = Plan(place / "bundle", place / "data", place / "out", ("bce", "dice"), 2)
    assert compare(plan, make_commands=fake_commands, list_ids=lambda _: IDS, backend=backend) == []
    assert taken == [("bce/fold0_seed0", True)]
    assert len(list((place / "out").glob("*/*/started.json"))) == 1


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"arguments": {"max_epochs": "20"}}, "arguments::max_epochs is now '20', .* with '10'"),
        ({"arguments": {}}, "arguments::max_epochs is now 'not set'"),
        ({"folds": 3}, "folds is now '3', .* with '2'"),
        ({"ids": [*IDS, "case6"]}, "dataset::cases is now '7', .* with '6'"),
        ({"ids": [*IDS[:-1], "other"]}, "dataset::ids_sha256"),
    ],
)
def test_settings_that_differ_from_those_of_a_run_are_refused_by_name(place, changes, key):
    go(place, losses=("bce",), arguments={"max_epochs": "10"})
    with pytest.raises(ComparisonError, match=key):
        go(place, **({"arguments": {"max_epochs": "10"}} | changes))


def test_a_changed_config_is_refused_but_not_a_changed_description(place):
    go(place, losses=("bce",))
    config = place / "bundle/configs/train.json"
    config.write_text('{"lr": 0.001, "net": {"_target_": "UNet", "_desc_": "as in the paper"}}')
    assert go(place) == []
    config.write_text('{"lr": 0.001, "net": {"_target_": "FlexibleUNet"}}')
    with pytest.raises(ComparisonError, match=r"configs::train.json::net::_target_ is now 'FlexibleUNet'"):
        go(place)


def test_a_run_that_was_only_started_keeps_its_settings_too(place):
    (place / "bundle/control/fail_train_bce").touch()
    go(place, losses=("bce",))
    with pytest.raises(ComparisonError, match="fold0_seed0 was started with 'not set'"):
        go(place, losses=("bce",), arguments={"lr": "1"})


def test_a_damaged_record_is_named(place):
    go(place)
    (place / "out/bce/fold0_seed0/started.json").write_text("{")
    with pytest.raises(ComparisonError, match="started.json is damaged"):
        go(place)


def test_a_second_comparison_in_the_folder_is_refused(place):
    (place / "out").mkdir()
    with (place / "out/.compare.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write("process 123 on elsewhere")
        file.flush()
        with pytest.raises(ComparisonBusyError, match="process 123 on elsewhere"):
            go(place)
    assert go(place) == []  # a lock file without its holder is no lock


def test_a_loss_that_the_bundle_has_not_is_refused_unless_it_is_added(place):
    config = place / "bundle" / "configs" / "train.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"losses": {"bce": {}, "dice": {}}}))
    plan = Plan(place / "bundle", place / "data", place / "out", ("bce", "dice"), 2)
    with pytest.raises(ComparisonError, match="the bundle has no loss 'focal': choose from bce, dice"):
        replace(plan, losses=("bce", "focal"))
    replace(plan, losses=("bce", "focal"), arguments={"losses#focal#_target_": "monai.losses.FocalLoss"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"losses": ()}, "losses = "),
        ({"losses": ("bce", "bce")}, "none twice"),
        ({"losses": ("../bce",)}, "cannot name a folder"),
        ({"folds": 1}, "folds = 1"),
        ({"arguments": {"seed": "1"}}, "--seed is set by the comparison"),
        ({"figure_ids": ("nobody",)}, "'nobody' is not among the 6 cases"),
    ],
)
def test_impossible_plans_are_refused(place, changes, message):
    with pytest.raises(ComparisonError, match=message):
        go(place, **changes)


def test_a_folder_that_is_no_bundle_is_named(place):
    with pytest.raises(FileNotFoundError, match="no configs/train.json in the bundle"):
        Plan(place / "data", place / "data", place / "out")


def test_a_terminated_comparison_takes_its_runs_along_and_continues_later(place):
    (place / "bundle/control/hang_train").touch()
    process = start(place)
    pid_file = place / "out/bce/fold0_seed0/run.pid"
    wait_for(lambda: pid_file.exists() and times(place, "train"))
    pid = int(pid_file.read_text())
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode != 0
    assert not alive(pid) and not pid_file.exists()
    (place / "bundle/control/hang_train").unlink()
    assert go(place) == []
    assert times(place, "train")["bce/fold0_seed0"] == 2


def test_a_killed_comparison_keeps_the_folder_locked_until_its_run_has_ended(place):
    (place / "bundle/control/hang_train").touch()
    process = start(place)
    pid_file = place / "out/bce/fold0_seed0/run.pid"
    wait_for(pid_file.exists)
    process.kill()
    process.communicate(timeout=120)
    with pytest.raises(ComparisonBusyError, match=rf"process {process.pid} on .*run\.pid"):
        go(place)
    pid = int(pid_file.read_text())
    os.killpg(pid, signal.SIGKILL)
    wait_for(lambda: not alive(pid))
    (place / "bundle/control/hang_train").unlink()
    assert go(place) == []


def test_the_bundle_is_run_with_every_choice(place):
    plan = Plan(
        place / "bundle", place / "data", place / "out", arguments={"max_epochs": "10"}, figure_ids=("case1", "it's")
    )
    folder = plan.output_dir / "dice" / "fold1_seed7"
    train, evaluate = bundle_commands(plan, "dice", 1, 7, folder)
    assert train[:5] == (sys.executable, "-m", "monai.bundle", "run", "--config_file")
    options = dict(zip(train[4::2], train[5::2], strict=True))
    assert options == {
        "--config_file": str(place / "bundle/configs/train.json"),
        "--bundle_root": str(place / "bundle"),
        "--dataset_dir": str(place / "data"),
        "--loss_name": "dice",
        "--fold": "1",
        "--folds": "5",
        "--seed": "7",
        "--output_dir": str(folder),
        "--max_epochs": "10",
        "--resume": "true",
    }
    further = dict(zip(evaluate[4::2], evaluate[5::2], strict=True))
    assert [Path(path).name for path in ast.literal_eval(further["--config_file"])] == ["train.json", "evaluate.json"]
    assert ast.literal_eval(further["--figure_ids"]) == ["case1", "it's"]
    assert further["--max_epochs"] == "10" and "--resume" not in further


def test_parts_work_side_by_side_and_together_do_every_run_once(place):
    (place / "bundle/control/hang_train").touch()
    failed: list = []
    first = threading.Thread(target=lambda: failed.extend(go(place, part=(1, 3))))
    first.start()
    wait_for(lambda: times(place, "train") == {"bce/fold0_seed0": 1})
    (place / "bundle/control/hang_train").unlink()
    assert failed + go(place, part=(2, 3)) + go(place, part=(3, 3)) == []
    first.join()
    assert failed == [] and times(place, "train") == times(place, "evaluate") == dict.fromkeys(ALL, 1)
    assert json.loads((place / "out/plan.json").read_text())["losses"] == ["bce", "dice"]


def test_a_part_is_refused_beside_itself_and_beside_a_whole_comparison(place):
    (place / "bundle/control/hang_train").touch()
    part = threading.Thread(target=lambda: go(place, part=(1, 2)))
    part.start()
    wait_for(lambda: times(place, "train"))
    for other in ((1, 2), None):
        with pytest.raises(ComparisonBusyError, match=f"process {os.getpid()} on"):
            go(place, part=other)
    (place / "bundle/control/hang_train").unlink()
    part.join()
    assert go(place) == []

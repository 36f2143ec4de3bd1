"""The comparison with a stand-in for the bundle: finishing, continuing, failing, refusing, stopping."""

from __future__ import annotations

import ast
import fcntl
import functools
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from fake_bundle import IDS, alive, fake_commands, go, times, wait_for

from monai_ext.commands.command_line import parse_options
from monai_ext.commands.comparison import compare as module
from monai_ext.commands.comparison.backends import BackendOptions, RayOptions
from monai_ext.commands.comparison.compare import (
    CompareOptions,
    ComparisonBusyError,
    ComparisonError,
    Plan,
    bundle_commands,
    compare,
)
from monai_ext.commands.comparison.runs import LocalBackend, Run

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


# ----------------------------------------------------------------------------------------------- finish, continue


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


def test_jobs_run_side_by_side_and_share_the_cores(place):
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


# --------------------------------------------------------------------------------------------------------- refusal


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


# -------------------------------------------------------------------------------------------------------- stopping


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


# --------------------------------------------------------------------------------------------------- error sentences


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


# ---------------------------------------------------------------------------------------------------- command line


def parse(*words: str) -> tuple[CompareOptions, tuple[str, ...]]:
    line = parse_options(CompareOptions, words, passes_on=True)
    return line.options, line.further


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


def test_unknown_options_reach_the_bundle_and_are_never_taken_for_abbreviations(place):
    options, further = command(place, "--seeds", "0", "3", "--max_epochs", "10", "--loss", "x", "--train#lr=-1")
    assert (options.losses, options.seeds, options.no_report) == (("bce", "dice"), (0, 3), False)
    assert module._pairs(further) == {"max_epochs": "10", "loss": "x", "train#lr": "-1"}


@pytest.mark.parametrize(("further", "message"), [(["10"], "'10' is no option"), (["--lr"], "--lr has no value")])
def test_further_arguments_that_are_no_pairs_are_refused(further, message):
    with pytest.raises(ComparisonError, match=message):
        module._pairs(further)


def command(place: Path, *further: str) -> tuple[CompareOptions, tuple[str, ...]]:
    folders = ["--bundle", str(place / "bundle"), "--dataset_dir", str(place), "--output_dir", str(place / "out")]
    return parse(*folders, "--losses", "bce", "dice", "--folds", "2", *further)


def test_the_command_writes_the_report_and_fails_when_a_run_failed(place, monkeypatch, capfd):
    faked = functools.partial(compare, make_commands=fake_commands, list_ids=lambda _: IDS)
    monkeypatch.setattr("monai_ext.commands.plotting.DPI", 20)
    monkeypatch.setattr(module, "compare", faked)
    (place / "bundle/control/fail_train_dice").touch()
    assert module.run(*command(place)) == 1
    assert f"log: {place / 'out/dice/fold0_seed0/run.log'}" in capfd.readouterr().err
    assert "Incomplete: 2 of 4 runs are missing" in (place / "out/report/report.md").read_text()
    (place / "bundle/control/fail_train_dice").unlink()
    assert module.run(*command(place, "--no_report")) == 0
    assert "Incomplete" in (place / "out/report/report.md").read_text()  # not written again


def test_ctrl_c_ends_the_command_with_a_word(place, monkeypatch, capfd):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "compare", interrupted)
    assert module.run(*command(place)) == 130
    assert "the same command continues" in capfd.readouterr().err


# ----------------------------------------------------------------------------------------------- parts and backends


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


@pytest.mark.parametrize("text", ["0/2", "3/2", "2", "a/2", "2/", "-1/2"])
def test_a_part_that_is_none_is_refused(text, place, capsys):
    with pytest.raises(SystemExit):
        command(place, f"--part={text}")
    assert f"'{text}' is no part: write I/N" in capsys.readouterr().err


def test_a_part_leaves_the_report_to_a_command_of_its_own(place, monkeypatch):
    monkeypatch.setattr(
        module, "compare", functools.partial(compare, make_commands=fake_commands, list_ids=lambda _: IDS)
    )
    assert module.run(*command(place, "--part", "2/2")) == 0
    assert set(times(place, "train")) == {"dice/fold0_seed0", "dice/fold1_seed0"}
    assert not (place / "out/report").exists()


def test_an_option_of_another_backend_is_refused(place):
    with pytest.raises(ValueError, match="--gpus_per_run 0.5 is an option of --backend ray"):
        BackendOptions(ray=RayOptions(gpus_per_run=0.5))


def test_without_ray_a_sentence_says_how_to_get_it(place, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r'Ray, which is not installed: pip install "ray>=2.40"'):
        module.run(*command(place, "--backend", "ray"))
    assert not (place / "out").exists()


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

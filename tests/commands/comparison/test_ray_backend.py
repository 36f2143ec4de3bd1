"""Comparisons on a local Ray: the folders and the report of the local backend, whatever happens to its workers."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from pathlib import Path

import pytest
from fake_bundle import alive, go, make_place, offspring, parent_of, times, wait_for

from monai_ext.commands.comparison.ray_backend import TOKEN, RayBackend, RayOptions, _storage_problem, _Task
from monai_ext.commands.comparison.report import report
from monai_ext.commands.comparison.runs import Run

ray = pytest.importorskip("ray", reason="needs the extra 'ray'")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills a run with its lost worker")


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """Two CPUs and a GPU that is none: Ray counts it and hands its number on. None of its processes outlives it."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    before = offspring(os.getpid())
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # else workers inherit that it is ignored
    ray.init(address="local", num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False)
    signal.signal(signal.SIGINT, handler)
    yield
    started = offspring(os.getpid()) - before
    assert started
    ray.shutdown()
    wait_for(lambda: not any(map(alive, started)))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return make_place(tmp_path)


def shell_run(folder: Path, loss: str, code: str) -> Run:
    (folder / loss).mkdir()
    return Run(loss, 0, 0, ((sys.executable, "-S", "-c", code),), folder / loss)


def pids(place: Path) -> list[int]:
    """Of the runs that are alive, as their `run.pid` tells."""
    texts = [path.read_text() for path in (place / "out").glob("*/*/run.pid")]
    return [int(text) for text in texts if text]


def tables(folder: Path) -> dict[str, str]:
    """The report's files, without its pictures and without what a clock says."""
    found = {path.name: path for path in (folder / "report").rglob("*") if path.suffix in (".csv", ".md", ".json")}
    return {name: re.sub(r"[\d.]+ (s|min|h|hours)\b", "TIME", path.read_text()) for name, path in found.items()}


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_killed_worker_is_replaced_and_the_report_is_that_of_the_local_backend(place, monkeypatch):
    monkeypatch.setattr("monai_ext.storage.pictures.DPI", 20)
    (place / "bundle/control/hang_train").touch()
    seen: dict = {}

    def kill_a_worker() -> None:
        wait_for(lambda: len(pids(place)) == len(times(place, "train")) == 2)
        seen["pid"] = pids(place)[0]
        seen["worker"] = parent_of(seen["pid"])
        os.kill(seen["worker"], signal.SIGKILL)
        wait_for(lambda: not alive(seen["pid"]))
        seen["dead"] = True
        (place / "bundle/control/hang_train").unlink()

    thread = threading.Thread(target=kill_a_worker)
    thread.start()
    assert go(place, backend=RayBackend(RayOptions(gpus_per_run=0.5), needed=(place / "data",))) == []
    thread.join()
    assert seen["dead"] and seen["worker"] != os.getpid()
    counts = times(place, "train")
    assert sorted(counts.values()) == [1, 1, 1, 2] and set(times(place, "evaluate").values()) == {1}
    assert go(place, output="alone") == []
    for name in ("out", "alone"):
        report(place / name)
    assert files_below(place / "out") == files_below(place / "alone")
    theirs, ours = tables(place / "alone"), tables(place / "out")
    assert theirs and {name: text.replace("/alone", "/out") for name, text in theirs.items()} == ours
    assert go(place, backend=RayBackend(RayOptions(gpus_per_run=0.0))) == []  # finished runs are skipped
    assert times(place, "train") == counts


def test_a_run_that_fails_by_itself_is_reported_and_not_repeated(place):
    (place / "bundle/control/fail_train_bce").touch()
    failed = go(place, backend=RayBackend(RayOptions(gpus_per_run=0.0)))
    assert {outcome.run.name for outcome in failed} == {"bce/fold0_seed0", "bce/fold1_seed0"}
    assert failed[0].error == "RuntimeError: bce went wrong in train" and failed[0].log.is_file()
    assert set(times(place, "train").values()) == {1}


def test_a_worker_that_is_lost_again_and_again_is_a_failed_run(tmp_path):
    run = shell_run(tmp_path, "bce", "import os, signal; os.kill(os.getppid(), signal.SIGKILL)")
    (outcome,) = RayBackend(RayOptions(gpus_per_run=0.0, retries=1))([run])
    assert "its worker was lost, 2 times in all" in outcome.error
    assert (run.folder / "run.log").read_text().count("# command: ") == 2
    assert not (run.folder / TOKEN).exists()


def test_two_runs_share_a_gpu_and_have_the_threads_of_their_cpus(tmp_path):
    code = """
import os, time
print(os.environ["CUDA_VISIBLE_DEVICES"], os.environ["OMP_NUM_THREADS"], flush=True)
open("{}", "w")
end = time.time() + 240
while not os.path.exists("{}"):
    assert time.time() < end
"""
    a, b = tmp_path / "a_began", tmp_path / "b_began"
    runs = [shell_run(tmp_path, "a", code.format(a, b)), shell_run(tmp_path, "b", code.format(b, a))]
    assert [outcome.error for outcome in RayBackend(RayOptions(gpus_per_run=0.5))(runs)] == [None, None]
    assert all((run.folder / "run.log").read_text().splitlines()[-1] == "0 1" for run in runs)


def test_closing_stops_what_is_running(tmp_path):
    slow = shell_run(tmp_path, "slow", "import time; time.sleep(600)")
    quick = shell_run(tmp_path, "quick", "pass")
    outcomes = RayBackend(RayOptions(gpus_per_run=0.0))([slow, quick])
    assert next(outcomes).run.loss == "quick"
    wait_for((slow.folder / "run.pid").exists)
    pid = int((slow.folder / "run.pid").read_text())
    outcomes.close()
    wait_for(lambda: not alive(pid))
    wait_for(lambda: not (slow.folder / "run.pid").exists() and not (slow.folder / TOKEN).exists())


def test_a_worker_that_does_not_see_the_data_says_so(tmp_path):
    run = shell_run(tmp_path, "bce", "open('began', 'w')")
    (outcome,) = RayBackend(RayOptions(gpus_per_run=0.0), needed=[tmp_path / "elsewhere"])([run])
    assert f"does not see '{tmp_path / 'elsewhere'}': put --output_dir, bundle and data on storage" in outcome.error
    assert not (run.folder / "run.log").exists()


@pytest.mark.parametrize("content", [None, "the token of another machine"])
def test_a_worker_whose_folder_is_another_one_says_so(tmp_path, content):
    run = shell_run(tmp_path, "bce", "pass")
    if content is not None:
        (run.folder / TOKEN).write_text(content)
    problem = _storage_problem(_Task(run, "a token", (), sys.executable, ".", 1))
    assert (
        f"'{run.folder}' of the worker on" in problem and "is not the folder that this comparison writes to" in problem
    )


def test_runs_that_no_machine_can_hold_are_refused(tmp_path):
    backend = RayBackend(RayOptions(gpus_per_run=2, cpus_per_run=1))
    with pytest.raises(
        ValueError, match=r"no machine of the Ray cluster can hold a run of 1 CPUs and 2 GPUs .* 2 and 1"
    ):
        next(backend([shell_run(tmp_path, "bce", "pass")]))


@pytest.mark.parametrize("options", [{"gpus_per_run": -1}, {"cpus_per_run": 0}, {"retries": -1}, {"gpus_per_run": 1.5}])
def test_impossible_numbers_are_refused(options):
    (name,) = options
    with pytest.raises(ValueError, match=f"{name} = "):
        RayOptions(**options)

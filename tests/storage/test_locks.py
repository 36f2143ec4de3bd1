"""Two runs in one folder, and what killed ones leave there."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

import pytest
from bundle_runs import sentence_of
from killing import forked

from monai_ext.storage import locks
from monai_ext.storage.files import atomic_path, remove_leftovers
from monai_ext.storage.locks import FolderBusyError, FolderLock
from tests.bundles.test_lesion_unet import phantoms, train  # noqa: F401  (phantoms is a fixture)
from tests.faults.test_kills import scratch, train_tiny  # noqa: F401  (scratch is a fixture)

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="works with forks of this process")


def hold(folder: Path, holding: Path) -> None:
    FolderLock(folder).acquire()
    holding.touch()
    time.sleep(120)


@pytest.fixture
def holder(tmp_path):
    """Another process that works in tmp_path / "run"; its number."""
    process = os.fork()
    if process == 0:
        try:
            hold(tmp_path / "run", tmp_path / "holding")
        finally:
            os._exit(1)
    while not (tmp_path / "holding").exists():
        time.sleep(0.002)
    yield process
    try:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    except (ProcessLookupError, ChildProcessError):  # the test has ended it
        return


def test_a_second_run_in_a_folder_is_refused_until_the_first_is_no_more(tmp_path, holder, caplog):
    with pytest.raises(FolderBusyError) as caught:
        train_tiny(tmp_path / "run")
    assert f"another run (process {holder} on {socket.gethostname()}) works in '{tmp_path / 'run'}'" in str(
        caught.value
    )
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".run.lock"]  # it has touched nothing
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    train_tiny(tmp_path / "run")
    assert f"by process {holder} on {socket.gethostname()} ended without a word" in caplog.text
    assert not list((tmp_path / "run").glob(".*"))


def test_two_bundle_runs_never_work_in_one_folder(phantoms, tmp_path, holder):  # noqa: F811
    assert f"process {holder} on" in sentence_of(lambda: train(tmp_path / "run", phantoms))
    assert not list((tmp_path / "run").glob("*.pt")) and not (tmp_path / "run" / "run.json").exists()


def test_the_lock_goes_with_the_run_whether_it_ends_or_fails(tmp_path, monkeypatch):
    with monkeypatch.context() as patched, pytest.raises(ZeroDivisionError):
        patched.setattr("monai_ext.handlers.training.checkpoints._random_state", lambda: 1 / 0)
        train_tiny(tmp_path)
    assert not (tmp_path / ".run.lock").exists()
    train_tiny(tmp_path)
    assert not (tmp_path / ".run.lock").exists()


def test_children_of_a_run_do_not_keep_its_lock(tmp_path, scratch):  # noqa: F811
    def run() -> None:
        FolderLock(tmp_path / "run").acquire()
        if os.fork() == 0:  # as the workers of a data loader
            time.sleep(5)
            os._exit(0)
        os.kill(os.getpid(), signal.SIGKILL)

    assert forked(run, scratch) == -signal.SIGKILL
    lock = FolderLock(tmp_path / "run")
    lock.acquire()
    lock.release()


def test_a_lock_in_one_process_is_taken_over_and_released_once(tmp_path):
    one, other = FolderLock(tmp_path), FolderLock(tmp_path)
    one.acquire()
    other.acquire()
    assert f"process {os.getpid()} on" in (tmp_path / ".run.lock").read_text()
    other.release()
    one.release()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("holder_text", "refused"),
    [
        (f"process {os.getppid()} on {socket.gethostname()}", True),
        (f"process 4194304 on {socket.gethostname()}", False),  # beyond the largest number there is
        ("process 1 on another-machine", True),
        ("", False),
        ("\x00 nonsense", False),
    ],
)
def test_without_locks_of_the_file_system_the_name_in_the_file_counts(tmp_path, monkeypatch, holder_text, refused):
    monkeypatch.setattr(locks, "fcntl", None)
    (tmp_path / ".run.lock").write_text(holder_text)
    lock = FolderLock(tmp_path)
    if refused:
        with pytest.raises(FolderBusyError, match=r"if it is no more, remove '.*\.run\.lock'"):
            lock.acquire()
    else:
        lock.acquire()
        lock.release()
        assert not list(tmp_path.iterdir())


def test_leftovers_of_the_dead_go_and_those_of_the_living_stay(tmp_path, scratch):  # noqa: F811
    def die() -> None:
        with atomic_path(tmp_path / "table.csv") as temporary:
            temporary.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)

    assert forked(die, scratch) == -signal.SIGKILL
    assert len(list(tmp_path.glob(".table-*.part.csv"))) == 1
    with atomic_path(tmp_path / "table.csv") as temporary:
        temporary.write_text("new")
        remove_leftovers(tmp_path, "other")
        assert len(list(tmp_path.glob(".table-*.part.csv"))) == 2
        remove_leftovers(tmp_path, "table")
        assert list(tmp_path.glob(".table-*.part.csv")) == [temporary]
    assert (tmp_path / "table.csv").read_text() == "new"

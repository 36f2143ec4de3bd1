"""Two runs in one folder, and what killed ones leave there."""

from __future__ import annotations

import errno
import os
import signal
import socket
import time
from pathlib import Path

import pytest
from bundle_runs import sentence_of
from killing import forked
from lesion_runs import train
from tiny_training import train_tiny

from monai_ext.storage.locks import FolderBusyError, FolderLock, holder_in, try_lock, write_holder

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
    assert f"by process {holder} on {socket.gethostname()} was killed; this one takes over the folder" in caplog.text
    assert not list((tmp_path / "run").glob(".*"))


def test_two_bundle_runs_never_work_in_one_folder(lesion_phantoms, tmp_path, holder):
    assert f"process {holder} on" in sentence_of(lambda: train(tmp_path / "run", lesion_phantoms))
    assert not list((tmp_path / "run").glob("*.pt")) and not (tmp_path / "run" / "run.json").exists()


def test_the_lock_goes_with_the_run_whether_it_ends_or_fails(tmp_path, monkeypatch):
    with monkeypatch.context() as patched, pytest.raises(ZeroDivisionError):
        patched.setattr("monai_ext.handlers.training.checkpoints._random_state", lambda: 1 / 0)
        train_tiny(tmp_path)
    assert not (tmp_path / ".run.lock").exists()
    train_tiny(tmp_path)
    assert not (tmp_path / ".run.lock").exists()


def test_children_of_a_run_do_not_keep_its_lock(tmp_path, scratch):
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


def test_where_the_file_system_has_no_locks_the_file_counts_until_its_process_is_dead(tmp_path, monkeypatch, scratch):
    def no_locks(*_: object) -> bool:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)

    def hold_and_die() -> None:
        FolderLock(tmp_path / "run").acquire()
        assert forked(lambda: FolderLock(tmp_path / "run").acquire(), scratch) == 1
        told = (scratch / "child.log").read_text()
        assert f"FolderBusyError: another run (process {os.getpid()} on" in told and "remove '" in told
        os.kill(os.getpid(), signal.SIGKILL)

    (tmp_path / "outer").mkdir()
    assert forked(hold_and_die, tmp_path / "outer") == -signal.SIGKILL
    lock = FolderLock(tmp_path / "run")
    lock.acquire()
    lock.release()
    assert not list((tmp_path / "run").iterdir())


def test_a_shared_lock_admits_others_that_share_it_and_no_exclusive_one(tmp_path, scratch):
    path = tmp_path / "lock"

    def outcomes() -> None:
        with path.open("a+") as file:
            assert try_lock(file, shared=True)
        with path.open("a+") as file:
            assert not try_lock(file)

    with path.open("a+") as file:
        assert try_lock(file, shared=True)
        write_holder(file)
        assert holder_in(file) == f"process {os.getpid()} on {socket.gethostname()}"
        assert forked(outcomes, scratch) == 0
        assert try_lock(file)
    with path.open("a+") as file:
        assert try_lock(file)  # closing has released it

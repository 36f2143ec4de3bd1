"""Actions in processes that are killed at a chosen moment, or that have no room on the disk.

The processes are forks of this one, so that none has to start anew: a hundred of them cost seconds. They are killed by
the kernel's SIGKILL, or, in the middle of a write, by its SIGXFSZ. A full disk is a limit on the size of files, or, on
Linux, a small disk in memory that no other process sees.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from monai_ext.runtime.errors import explain

LONGEST_S = 120.0
CHANGES = frozenset({"os.rename", "os.remove", "os.link", "os.truncate", "os.chmod", "os.mkdir"})
NEW_MOUNTS, NEW_USERS = 0x20000, 0x10000000  # of unshare(2)
REMOUNT, RECURSIVE, PRIVATE = 0x20, 0x4000, 0x40000  # of mount(2)
REFUSED = 77  # exit status

Action = Callable[[], object]


def forked(action: Action, folder: Path, *, prepare: Action | None = None, after_s: float | None = None) -> int:
    """Do `action` in a process of its own; its exit status, or minus the signal that ended it.

    Args:
        folder: where its output goes, `child.log`; it must not be one that `action` works in.
        prepare: done first in that process.
        after_s: kill it after so many seconds, if it still lives.
    """
    process = os.fork()
    if process == 0:
        _be_the_child(action, folder / "child.log", prepare)
    deadline = time.monotonic() + (LONGEST_S if after_s is None else after_s)
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            assert after_s is not None, f"the process hung; its output is in {folder / 'child.log'}"
            return -signal.SIGKILL
        time.sleep(0.002)


def _be_the_child(action: Action, log: Path, prepare: Action | None) -> None:
    """Never returns."""
    status = 1
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(output, stream)
        sys.stdout = sys.stderr = os.fdopen(output, "w", buffering=1)
        logging.basicConfig(stream=sys.stderr, level=logging.WARNING, force=True)
        if prepare is not None:
            prepare()
        action()
        status = 0
    except BaseException:  # whatever it is, this process must not go on as the one that it is a copy of
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(status)


def changes(action: Action, folder: Path, scratch: Path) -> list[str]:
    """What `action` does to files in `folder`, in order: each of these is a moment at which it can be killed."""
    record = scratch / "changes.json"
    seen: list[str] = []

    def watched() -> None:
        action()
        record.write_text(json.dumps(seen))

    status = forked(watched, scratch, prepare=lambda: _watch(folder, seen.append))
    assert status == 0, (scratch / "child.log").read_text()
    return json.loads(record.read_text())


def killed_before(number: int, action: Action, folder: Path, scratch: Path) -> bool:
    """Kill `action` as it is about to make its change number `number` (from 0) of a file in `folder`.

    False if it makes so few, and has ended.
    """
    left = [number]

    def count(change: str) -> None:
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1

    status = forked(action, scratch, prepare=lambda: _watch(folder, count))
    assert status in (0, -signal.SIGKILL), (status, (scratch / "child.log").read_text())
    return status != 0


def killed_in_mid_write(most: int, action: Action, scratch: Path) -> bool:
    """Kill `action` as it writes more than `most` bytes into one file; False if it never does."""
    status = forked(action, scratch, prepare=lambda: _limit(most, signal.SIG_DFL))
    assert status in (0, -signal.SIGXFSZ), (status, (scratch / "child.log").read_text())
    return status != 0


def without_room(most: int, action: Action, scratch: Path) -> str | None:
    """Do `action` where no file can grow beyond `most` bytes; the sentence that it ends with, None if it succeeds."""
    answer = scratch / "answer.json"

    def told() -> None:
        sentence = sentence_or_none(action)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        answer.write_text(json.dumps(sentence))

    status = forked(told, scratch, prepare=lambda: _limit(most, signal.SIG_IGN))
    assert status == 0, (status, (scratch / "child.log").read_text())
    return json.loads(answer.read_text())


def sentence_or_none(action: Action) -> str | None:
    """Do `action`; the sentence that it ends with, None if it succeeds. An error without a sentence is raised."""
    try:
        action()
    except Exception as error:
        sentence = explain(error)
        if sentence is None:
            raise
        return sentence
    return None


class SmallDisk:
    """A tmpfs at `folder`, seen by this process alone from its making on."""

    def __init__(self, folder: Path, kib: int):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        _call("mount", b"tmpfs", os.fsencode(folder), b"tmpfs", 0, b"size=%dk" % kib)

    def resize(self, kib: int) -> None:
        _call("mount", b"tmpfs", os.fsencode(self.folder), b"tmpfs", REMOUNT, b"size=%dk" % kib)

    def fill(self, *, leave_kib: int = 0) -> None:
        """Let another file take all room but this."""
        status = os.statvfs(self.folder)
        (self.folder / "ballast").write_bytes(bytes(status.f_bavail * status.f_frsize - (leave_kib << 10)))

    def names(self) -> set[str]:
        """Of all files on it, hidden ones as well."""
        return {path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file()}


def on_small_disk(action: Callable[[SmallDisk], object], folder: Path, *, kib: int, scratch: Path) -> None:
    """Do `action` in a process of its own in which `folder` is a disk of so many KiB; skip where the system forbids it.

    What `action` asserts is asserted here.
    """
    disk: list[SmallDisk] = []

    def prepare() -> None:
        try:
            _have_mounts_of_ones_own()
            disk.append(SmallDisk(folder, kib))
        except (OSError, AttributeError) as error:  # not permitted; not Linux
            (scratch / "refused").write_text(str(error))
            os._exit(REFUSED)

    status = forked(lambda: action(disk[0]), scratch, prepare=prepare)
    if status == REFUSED:
        pytest.skip(f"no disk of one's own can be mounted here: {(scratch / 'refused').read_text()}")
    assert status == 0, (status, (scratch / "child.log").read_text())


def _have_mounts_of_ones_own() -> None:
    """As root, or else as the root of a user namespace."""
    user, group = os.geteuid(), os.getegid()
    try:
        _call("unshare", NEW_MOUNTS)
    except PermissionError:
        _call("unshare", NEW_MOUNTS | NEW_USERS)
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
            Path("/proc/self", name).write_text(text)
    _call("mount", b"none", b"/", None, RECURSIVE | PRIVATE, None)


def _call(name: str, *arguments: object) -> None:
    """A function of the C library."""
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _limit(most: int, disposition: signal.Handlers) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGXFSZ, disposition)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))


def _watch(folder: Path, tell: Callable[[str], object]) -> None:
    """Tell of every change of a file in `folder` before it happens; for the rest of this process."""
    root = os.path.join(os.fspath(folder), "")

    def hook(event: str, details: tuple) -> None:
        if event == "open":
            writes = isinstance(details[2], int) and details[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if not writes:
                return
        elif event not in CHANGES:
            return
        if isinstance(details[0], (str, os.PathLike)) and f"{os.fspath(details[0])}/".startswith(root):
            tell(f"{event} {os.path.relpath(details[0], root)}")

    sys.addaudithook(hook)

"""A stand-in for a bundle, and comparisons of it: shared by the tests of all backends."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from monai_ext.commands.comparison.compare import Plan, compare

IDS = [f"case{number}" for number in range(6)]
# Stands for `python -m monai.bundle run`: FOLDER STAGE CONTROL [SCORE]. Files in CONTROL make it do more than its duty.
FAKE = """
import os, sys, time
from pathlib import Path
folder, stage, control = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
loss, fold = folder.parent.name, int(folder.name[4:].split("_")[0])
with open(folder / f"{stage}.txt", "a") as file:
    file.write(os.environ["OMP_NUM_THREADS"] + "\\n")
if (control / f"fail_{stage}_{loss}").exists():
    raise RuntimeError(f"{loss} went wrong in {stage}")
while (control / f"hang_{stage}").exists():
    time.sleep(0.02)
if stage == "evaluate" and not (control / "forget").exists():
    names = "dice jaccard precision sensitivity specificity threshold_jaccard legacy_average_precision".split()
    (folder / "evaluation").mkdir(exist_ok=True)
    lines = [f"case{n}," + ",".join((sys.argv[4:] or ["0.9"]) * len(names)) for n in range(6) if n % 2 == fold]
    (folder / "evaluation" / "cases.csv").write_text("id," + ",".join(names) + "\\n" + "\\n".join(lines) + "\\n")
"""


def make_place(folder: Path) -> Path:
    """`folder` with a stand-in bundle."""
    (folder / "bundle" / "configs").mkdir(parents=True)
    (folder / "bundle" / "control").mkdir()
    (folder / "data").mkdir()
    (folder / "bundle" / "fake.py").write_text(FAKE)
    (folder / "bundle" / "configs" / "train.json").write_text('{"lr": 0.001, "net": {"_target_": "UNet"}}')
    (folder / "bundle" / "configs" / "evaluate.json").write_text("{}")
    return folder


def fake_commands(plan: Plan, loss: str, fold: int, seed: int, folder: Path) -> tuple[tuple[str, ...], ...]:
    script, control = plan.bundle / "fake.py", plan.bundle / "control"
    return tuple(
        (sys.executable, "-S", str(script), str(folder), stage, str(control)) for stage in ("train", "evaluate")
    )


def go(
    folder: Path,
    *,
    jobs: int = 1,
    ids: Sequence[str] = IDS,
    output: str = "out",
    backend: Callable | None = None,
    part: tuple[int, int] | None = None,
    **changes: object,
) -> list:
    """A comparison of two losses over two folds in `folder`, which `make_place` made."""
    choices = {"losses": ("bce", "dice"), "folds": 2} | changes
    plan = Plan(folder / "bundle", folder / "data", folder / output, **choices)
    options = {"make_commands": fake_commands, "list_ids": lambda _: ids, "backend": backend, "part": part}
    return compare(plan, jobs=jobs, **options)


def times(place: Path, stage: str, output: str = "out") -> dict[str, int]:
    """How often each run went through `stage`."""
    paths = (place / output).glob(f"*/*/{stage}.txt")
    return {f"{path.parent.parent.name}/{path.parent.name}": len(path.read_text().split()) for path in paths}


def wait_for(condition: Callable[[], object], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def offspring(pid: int) -> set[int]:
    """The processes that a process started, and those that they started."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has just ended
            parents[int(folder.name)] = parent_of(int(folder.name))
    found, last = set(), {pid}
    while last:
        last = {child for child, parent in parents.items() if parent in last}
        found |= last
    return found

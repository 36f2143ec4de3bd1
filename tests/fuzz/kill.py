"""Jobs that are killed (SIGKILL) at random moments and done again: nothing may be left, and all results be the same.

    python tests/fuzz/kill.py --kills 5

prints, for each job, its time, how many of the kills met it alive, the files that stayed which a run without a kill has
not, and the results that differ from it. Processes are forks of this one, so that none has to start anew.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

sys.path[:0] = [str(Path(__file__).parents[1] / "support"), str(Path(__file__).parents[2])]
warnings.simplefilter("ignore")

import torch  # noqa: E402
from bundle_runs import BUNDLES, run_bundle  # noqa: E402
from fabricated_comparison import write_comparison  # noqa: E402
from fake_bundle import go, make_place  # noqa: E402
from killing import forked  # noqa: E402
from lesion_runs import TINY, train  # noqa: E402
from many_hr import build, write_tiles  # noqa: E402
from PIL import Image  # noqa: E402
from tile_server import fetch, good, serving  # noqa: E402
from tiny_training import start_with_cache  # noqa: E402

from monai_ext.__main__ import main as command  # noqa: E402
from monai_ext.commands.comparison.compare import ComparisonBusyError  # noqa: E402
from monai_ext.commands.comparison.report import report  # noqa: E402
from monai_ext.data.tiles.grid import TileArea  # noqa: E402
from monai_ext.phantoms.lesions import write_lesion_phantoms  # noqa: E402
from monai_ext.storage.records import read_record  # noqa: E402

# Parts of results that differ from one run to the next without a kill: times, processes, the pace of a machine.
VARYING_FILES = ("run.json", "last.pt")
LOGS = ("run.log", "log.txt")
VARYING_KEYS = frozenset({"seconds", "started", "finished", "time", "created", "minutes", "sum_of_seconds", "output"})
LOCKS = frozenset({".compare.lock", ".run.lock", ".lock"})


class Job(NamedTuple):
    """Something that works in a folder, and the files that are there before."""

    do: Callable[[Path], object]
    before: Path | None = None


def jobs(place: Path, stack: ExitStack) -> dict[str, Job]:
    """Ten jobs, each of seconds; what they need is made in `place`."""
    write_lesion_phantoms(place / "lesions", count=8, size=(32, 48))
    settings = TINY | {"max_epochs": 3, "cache_dir": str(place / "cache"), "resume": "true"}
    lesions = place / "lesions"
    made(lambda: train(place / "trained" / "run", lesions, **settings), place)
    tiles = write_tiles(place / "tiles")
    picture = place / "picture.png"
    Image.effect_noise((160, 120), 60).convert("RGB").save(picture)
    (place / "comparison").mkdir()
    comparison = write_comparison(place / "comparison")
    server = stack.enter_context(serving(good))
    area = TileArea(88.0, 22.0, 88.5, 22.5, zoom=13)

    def evaluate(folder: Path) -> None:
        files = ["train.json", "evaluate.json"]
        run_bundle("lesion_unet", files, dataset_dir=str(lesions), output_dir=str(folder / "run"), **settings)

    def infer(folder: Path) -> None:
        places = {"dataset_dir": str(lesions / "images"), "output_dir": str(folder)}
        run_bundle("lesion_unet", ["inference.json"], **places)

    def upscale(folder: Path) -> None:
        typed(f"upscale {picture} {folder / 'large.png'} --bundle {BUNDLES / 'srgan_aerial'} --resume")

    def compare(folder: Path) -> None:
        for _ in range(200):  # a run of the killed comparison may outlive it
            try:
                go(folder, losses=("bce",))
                return
            except ComparisonBusyError:
                time.sleep(0.1)

    return {
        "train": Job(lambda folder: train(folder / "run", lesions, **settings)),
        "evaluate": Job(evaluate, place / "trained"),
        "inference": Job(infer),
        "upscale": Job(upscale),
        "pack": Job(
            lambda folder: typed(f"pack {BUNDLES / 'lesion_unet'} {BUNDLES / 'prob_unet'} --output_dir {folder}")
        ),
        "many_hr build": Job(lambda folder: build(tiles, folder / "set")),
        "fetch_tiles": Job(lambda folder: fetch(server, folder / "fetched", area)),
        "compare": Job(compare, make_place(place / "compared")),
        "report": Job(lambda folder: report(comparison, folder / "report")),
        "cache of decoded images": Job(lambda folder: start_with_cache(folder)),
    }


def typed(words: str) -> None:
    if command(words.split()):
        raise RuntimeError(words)


def made(action: Callable[[], object], place: Path) -> None:
    """Do `action` in a fork, and see that it ends well."""
    scratch = place / "scratch"
    scratch.mkdir(exist_ok=True)
    status = forked(action, scratch)
    if status:
        raise RuntimeError(f"status {status}: {(scratch / 'child.log').read_text()[-3000:]}")


def results(folder: Path) -> dict[str, Any]:
    """Every file below `folder`, without what varies."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_file() or path.name in (*LOCKS, *LOGS) or "tensorboard/" in name:
            continue
        if path.name in VARYING_FILES:
            found[name] = "there"
        elif path.suffix == ".pt":
            found[name] = [(key, value.tolist()) for key, value in torch.load(path, weights_only=True).items()]
        elif path.suffix == ".json":
            found[name] = without_times(read_record(path, object))  # its checksum, checked and left out
        elif path.suffix == ".csv":
            with path.open(newline="") as file:
                found[name] = [without_times(row) for row in csv.DictReader(file)]
        elif path.suffix == ".txt" and "compared" in str(folder) or path.name in ("train.txt", "evaluate.txt"):
            found[name] = "there"  # how often a stand-in ran
        else:
            found[name] = path.read_bytes()
    return found


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_times(part) for key, part in value.items() if key not in VARYING_KEYS}
    return [without_times(part) for part in value] if isinstance(value, list) else value


def killed(name: str, job: Job, place: Path, *, kills: int, rng: random.Random) -> dict[str, Any]:
    """Do the job once whole, then killed at `kills` random moments and done again."""

    def start(folder: Path) -> Path:
        shutil.rmtree(folder, ignore_errors=True)
        if job.before is None:
            folder.mkdir(parents=True)
        else:
            shutil.copytree(job.before, folder)
        return folder

    whole = place / "work" / name.replace(" ", "_") / "run"  # the same path each time: some results have it
    times = []
    for _ in range(2):  # the first fills the system's caches
        begun = time.perf_counter()
        made(lambda: job.do(start(whole)), place)
        times.append(time.perf_counter() - begun)
    expected, alive, tries, left, other = results(whole), 0, 0, [], []
    while alive < kills and tries < 4 * kills:
        tries += 1
        folder, moment = start(whole), min(times) * rng.uniform(0.03, 0.9)
        alive += forked(lambda folder=folder: job.do(folder), place / "scratch", after_s=moment) < 0
        made(lambda folder=folder: job.do(folder), place)
        given = results(folder)
        left += sorted(given.keys() - expected.keys())
        other += [key for key in expected if given.get(key) != expected[key]]
    seconds = min(times)
    return {"job": name, "seconds": round(seconds, 2), "killed": alive, "left": left, "other": other}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=5, help="of each job (5)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (0)")
    parser.add_argument("--only", nargs="*", help="names of jobs (all)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    failed = 0
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        place = Path(folder)
        for name, job in jobs(place, stack).items():
            if options.only and name not in options.only:
                continue
            found = killed(name, job, place, kills=options.kills, rng=random.Random(f"{options.seed} {name}"))
            failed += bool(found["left"] or found["other"])
            sys.stdout.write(json.dumps(found) + "\n")
            sys.stdout.flush()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

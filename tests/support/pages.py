"""The commands of every page and of every `--help`: found, and run in this process on phantoms at toy size.

A command is a line of an indented block, or of a fenced one that names no other language, or inline code that begins
with a program and says more than its name. `run` types it: folders that it reads and that no earlier command
left are filled with phantoms, numbers are lowered to `SMALL`, and further processes are forks of this one or this one.
What is particular to a page is in `page_registry.py`.
"""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import runpy
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from io import BytesIO
from itertools import dropwhile
from pathlib import Path
from types import SimpleNamespace

import fire
import monai.bundle
import numpy as np
import pytest
import torch
import torch.distributed.run
import torch.multiprocessing
from fake_bundle import FAKE
from page_registry import joined
from PIL import Image
from tile_server import serving

from monai_ext.__main__ import COMMANDS, examples, main
from monai_ext.commands.bundles import run_commands
from monai_ext.commands.comparison import compare, runs
from monai_ext.commands.uncertainty import checks as uncertainty_checks
from monai_ext.commands.uncertainty.checks import CheckSettings

REPOSITORY = Path(__file__).parents[2]
PAGES = [
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md", "weights/README.md")),
    *sorted((REPOSITORY / "docs").glob("*.md")),
    *sorted((REPOSITORY / "bundles").glob("*/docs/README.md")),
]
PROGRAMS = {"python", "torchrun", "make", "pip", "tensorboard", "sbatch", "srun", "ray", "mkdocs", "."}
NAMES_ALONE = {
    "-m",
    "run",
    "demo",
    "monai.bundle",
    "monai_ext",
    *" ".join(COMMANDS).split(),
}  # say what runs, not on what
SHELL = {"", "sh", "bash", "console"}
Words = Sequence[str]


# --- found ---------------------------------------------------------------------------------------------------------


def commands(text: str) -> list[list[str]]:
    """The commands of a page in order, split as a shell does, continued lines joined."""
    return [_of_python(shlex.split(line, comments=True)) for line in _lines(text.replace("\\\n", " "))]


def _of_python(words: list[str]) -> list[str]:
    """`monai_ext` is the console script of `python -m monai_ext`."""
    return ["python", "-m", *words] if words[:1] == ["monai_ext"] else words


def _lines(text: str) -> Iterator[str]:
    prose, language, before = [], None, ""
    for line in text.splitlines():
        fence = re.match(r"```(\w*)", line)
        indented = language is None and line.startswith("    ") and (not before.strip() or before.startswith("    "))
        if fence or indented:
            yield from _inline(prose)
            prose = []
        if fence:
            language = None if language is not None else fence.group(1)
        elif indented or language in SHELL:
            yield from [line.strip()] * bool(line.strip())
        elif language is None:
            prose.append(line)
        before = line
    yield from _inline(prose)


def _inline(prose: Sequence[str]) -> Iterator[str]:
    for code in re.findall(r"`([^`]+)`", "\n".join(prose)):
        words = code.split()
        typed = list(dropwhile(lambda word: "=" in word, words))
        if typed and typed[0] in PROGRAMS and not set(typed[1:]) <= NAMES_ALONE:
            yield " ".join(words)


def sources() -> dict[str, list[list[str]]]:
    """The commands of each page and of each `--help`, where there are any."""
    found = {page.relative_to(REPOSITORY).as_posix(): commands(page.read_text(encoding="utf-8")) for page in PAGES}
    helps = {f"{name} --help": examples(name).replace("\\\n", " ").splitlines() for name in COMMANDS}
    found |= {name: [shlex.split(line) for line in lines] for name, lines in helps.items()}
    return {name: told for name, told in found.items() if told}


def _photographs(path: str, asked_before: int) -> tuple[int, dict[str, str], bytes]:
    """What a tile server answers: a picture of its own for each address."""
    seed = [int(number) for number in re.findall(r"\d+", path)]
    picture = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    picture.save(content := BytesIO(), "JPEG")
    return 200, {"Content-Type": "image/jpeg"}, content.getvalue()


def make_project(folder: Path) -> None:
    """The repository's folders that commands name."""
    for name in ("constraints.txt", "docs", "examples", "monai_ext", "tests"):
        (folder / name).symlink_to(REPOSITORY / name)
    shutil.copytree(REPOSITORY / "bundles", folder / "bundles", ignore=shutil.ignore_patterns("runs", "eval"))


def _supply(words: Words) -> None:
    makers = joined("reads")
    for option, word in zip(("", *words), words, strict=False):
        if word in makers and not Path(word).exists() and option != "--output_dir":
            Path(word).parent.mkdir(parents=True, exist_ok=True)
            makers[word](Path(word))


# --- run -----------------------------------------------------------------------------------------------------------

SMALL = {
    "spatial_size": [32, 32], "size_stages": [[0, 1]], "scales": [1], "crop_size": 32, "batch_size": 4, "max_epochs": 1,
    "pretrain_epochs": 1, "adversarial_epochs": 1, "val_interval": 1, "phantom_count": 16, "samples": 2, "members": 2,
    "weight_samples": 2, "latent_samples": 2, "evaluated_samples": 2, "shown_tiles": 1, "discriminator_features": 4,
    "calibration_fraction": 0.5,
}  # fmt: skip
FEW_QUESTIONS = partial(
    CheckSettings, asked=2, size=32, scales=(2, 4), noises=(0.0, 0.1), weight_samples=2, latent_samples=2,
    interval_scenes=20, mode_fields=2, mode_steps=2, mode_samples=3,
)  # fmt: skip


def run(words: Words, patch) -> None:
    """Run a command in this process as it would run in one of its own; `patch` is pytest's monkeypatch."""
    while "=" in words[0]:
        patch.setenv(*words[0].split("=", 1))
        words = words[1:]
    words = [joined("stands_for").get(word, word).replace("/PATH/", f"{os.getcwd()}/") for word in words]
    _supply(words)
    words += shlex.split(joined("shorter").get(program_of(words), ""))
    _make_room(words)
    if words[0] == "torchrun":
        _in_forks(words, patch)
    elif words[0] == "make":
        subprocess.run(["make", "--dry-run", "-C", str(REPOSITORY), *words[1:]], check=True, capture_output=True)
    elif words[:3] == ["python", "-m", "monai.bundle"]:
        _bundle(words, patch)
    elif words[:3] == ["python", "-m", "monai_ext"]:
        _ours(words, patch)
    elif program_of(words).startswith("benchmarks."):
        module = importlib.import_module(program_of(words))
        patch.setattr(module, "subprocess", _without_processes(patch))
        patch.setattr(sys, "argv", words[2:])
        module.main()
    else:
        assert words[0] == "python" and words[1].endswith(".py"), f"{shlex.join(words)} is neither run nor excused"
        patch.setattr(sys, "argv", words[1:])
        try:
            runpy.run_path(words[1], run_name="__main__")
        except SystemExit as end:
            assert not end.code


def _make_room(words: Words) -> None:
    """Remove another training from where this one is to go: it is not to be resumed. Before there are processes."""
    given = options(words)
    if "config_file" in given and "ckpt_path" not in settings(words):
        folder = Path(given.get("output_dir", ""))
        if "output_dir" in given and (folder / "run.json").exists():
            shutil.rmtree(folder)


def program_of(words: Words) -> str:
    """What a command runs: `monai.bundle`, one of our commands, a module, a file, or a program of the system."""
    if words[0] != "python":
        return words[0]
    if words[1] != "-m":
        return words[1]
    if words[2] != "monai_ext":
        return words[2]
    return next(name for name in COMMANDS if words[3:][: len(name.split())] == name.split())


def options(words: Words) -> dict[str, str]:
    return {key[2:]: value for key, value in zip(words, words[1:], strict=False) if key.startswith("--")}


def configs(words: Words) -> list[str]:
    """The config files of a bundle run."""
    named = options(words)["config_file"]
    return ast.literal_eval(named) if named.startswith("[") else [named]


def settings(words: Words) -> set[str]:
    """The names of what those config files set."""
    return {key for name in configs(words) for key in json.loads(Path(name).read_text(encoding="utf-8"))}


def _bundle(words: Words, patch) -> None:
    if words[3] == "run":
        known, given = settings(words), options(words)
        small = {key: value for key, value in SMALL.items() if key in known and _is_more(given.get(key), value)}
        if "pretrain_epochs" in known:
            small.pop("max_epochs", None)  # it is their sum
        else:
            small.pop("crop_size", None)  # of volumes: none by default
        if "volumes.json" in given.get("config_file", ""):
            small |= {"crop_size": [32, 32, 4], "features": 4}
        if "volumes.json" in given.get("config_file", "") or _of_volumes(given.get("ckpt_path", "")):
            small.pop("spatial_size", None)
        words = [*words, *(word for key, value in small.items() for word in (f"--{key}", str(value)))]
    patch.setattr(sys, "argv", ["/x/monai/bundle/__main__.py", *words[3:]])
    fire.Fire({"run": monai.bundle.run, "download": monai.bundle.download}, command=list(words[3:]))


def _of_volumes(weights: str) -> bool:
    record = Path(weights).with_name("run.json") if weights else Path()
    return record.is_file() and json.loads(record.read_text(encoding="utf-8"))["settings"].get("spatial_dims") == 3


def _is_more(given: str | None, least: object) -> bool:
    """Whether an option is to be lowered to `least`: not if it is a smaller number already."""
    return not (given is not None and isinstance(least, int) and given[0] != "[" and float(given) <= least)


def _ours(words: Words, patch) -> None:
    patch.setattr("monai_ext.storage.pictures.DPI", 20)
    patch.setattr(uncertainty_checks, "CheckSettings", FEW_QUESTIONS)
    patch.setattr(runs, "subprocess", _without_processes(patch))
    for name in ("execute", "run_here"):
        patch.setattr(run_commands, name, partial(bundle_run, patch=patch))
    patch.setattr(sys, "argv", ["monai_ext", *words[3:]])
    arguments, named = list(words[3:]), options(words)
    with ExitStack() as stack:
        if words[3] == "compare":
            shutil.rmtree(named["output_dir"], ignore_errors=True)
        if named.get("backend") == "ray":
            stack.enter_context(_cluster())
        if words[3] == "fetch_tiles" and "--dry_run" not in words:
            server = stack.enter_context(serving(_photographs))
            arguments += ["--url", server.source.template, "--rate", "1000"]
        assert main(arguments) == 0


@contextmanager
def _cluster() -> Iterator[None]:
    """A local Ray, and runs for its workers that train nothing."""
    ray = pytest.importorskip("ray", reason="needs the extra 'ray'")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setitem(compare.compare.__kwdefaults__, "make_commands", _stand_ins)
        ray.init(address="local", num_cpus=4, num_gpus=1, include_dashboard=False, log_to_driver=False)
        try:
            yield
        finally:
            ray.shutdown()


def _stand_ins(plan: compare.Plan, loss: str, fold: int, seed: int, folder: Path) -> tuple[tuple[str, ...], ...]:
    stages = ("train", "evaluate")
    return tuple((sys.executable, "-S", "-c", FAKE, str(folder), stage, str(folder / "control")) for stage in stages)


def bundle_run(words: Words, *, patch, **_: object) -> int:
    """`execute` and `run_here` of `run_commands`, at toy size in this process."""
    launched = words[:2] == ("-m", "torch.distributed.run")
    run(["torchrun", *words[2:]] if launched else ["python", *words], patch)
    return 0


def _without_processes(patch) -> SimpleNamespace:
    """The module `subprocess` for those who start Python: it works here."""

    def work(command: Words, **_: object) -> SimpleNamespace:
        bundle_run(tuple(command[command.index("-m") :]), patch=patch)
        return SimpleNamespace(returncode=0, pid=os.getpid(), poll=lambda: 0)

    constants = {name: getattr(subprocess, name) for name in ("DEVNULL", "STDOUT", "TimeoutExpired")}
    return SimpleNamespace(run=work, Popen=work, **constants)


def _in_forks(words: Words, patch) -> None:
    """Two processes at most, whatever torchrun is asked for; forks need not import everything again."""
    asked = torch.distributed.run.get_args_parser().parse_args(list(words[1:]))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    count = min(2, int(asked.nproc_per_node))
    command = ["python", "-m", asked.training_script, *asked.training_script_args]
    command += ["--device", "$torch.device('cpu')"]
    given = (count, port, command, patch)
    torch.multiprocessing.start_processes(_rank, args=given, nprocs=count, start_method="fork")


def _rank(rank: int, count: int, port: int, command: Words, patch) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    _bundle(command, patch)

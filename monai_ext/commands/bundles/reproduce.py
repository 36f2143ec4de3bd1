"""`reproduce`: a training repeated from its run.json, and what differs before and after."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from monai_ext.commands.bundles import run_commands
from monai_ext.commands.command_line import Computed, Positional
from monai_ext.data.run_cases import TrainedRun, read_trained_run
from monai_ext.handlers import load_checkpoint
from monai_ext.handlers.training.identity import disagreement
from monai_ext.handlers.training.provenance import environment, git_revision, merged_config, package_versions
from monai_ext.runtime.command_lines import shell_line
from monai_ext.runtime.run_log import keep_log, tell
from monai_ext.storage.records import read_record, write_record

__all__ = ["Repetition", "ReproduceError", "ReproduceOptions", "differences", "plan_repetition", "read_run", "run"]

CONFIG = "reproduced.json"
NUMERIC_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUBLAS_WORKSPACE_CONFIG")  # set again as they were
COMPARED = ("platform", "processor", "threads", "cuda", "cuda_version", "cudnn")
WAY_OUT = "repeat the run by hand"
SHOWN = 8  # names of changed settings in one sentence


@dataclass(frozen=True)
class ReproduceOptions:
    """Repeat a training from its run.json into a new folder, and list what differs, before and after.

    The config is taken from run.json, not from the bundle, which may have changed since. A config is code: look at the
    run.json of somebody else with `python -m monai_ext inspect RUN` first.
    """

    run: Positional[Path]
    """folder of a training, or its run.json"""
    output_dir: Computed[Path | None] = None
    """new folder (RUN with _again); an interrupted repetition is continued"""
    dataset_dir: Computed[Path | None] = None
    """where the data lie now, if they have moved"""
    dry_run: bool = False
    """show what differs and what would be executed, and stop"""


class ReproduceError(ValueError):
    """A run cannot be repeated from its record."""


@dataclass(frozen=True)
class Repetition:
    """What repeats a run: `command`, executed in `folder` with `variables` added to the environment."""

    command: tuple[str, ...]
    folder: Path
    variables: Mapping[str, str]
    config: Mapping[str, Any]
    output_dir: Path

    def typed(self) -> str:
        """The command as one would type it."""
        variables = [f"{name}={shlex.quote(value)}" for name, value in self.variables.items()]
        return " ".join([f"cd {shlex.quote(str(self.folder))} &&", *variables, shell_line(self.command)])


def read_run(run: Path) -> dict[str, Any]:
    """The content of a run's run.json, which `RunRecord` wrote.

    Args:
        run: the folder of the run, or the file itself.

    Raises:
        FileNotFoundError: there is none.
        ReproduceError: it is damaged, or holds no config.
    """
    path = run / "run.json" if run.is_dir() else run
    if not path.is_file() or path.suffix != ".json":
        raise FileNotFoundError(f"no run.json in '{run}': give the output_dir of a training.")
    record = read_record(path, dict[str, Any], error=ReproduceError, way_out=WAY_OUT)
    origin = record.get("origin")
    if not isinstance(origin, dict) or not isinstance(origin.get("folder"), str):
        raise ReproduceError(
            f"'{path}' was written before records held the config: repeat the run by hand, from its settings."
        )
    config = origin.get("config")
    if not isinstance(config, dict):
        raise ReproduceError(
            f"'{path}' holds no config: the run was not started by `python -m monai.bundle run`, so repeat it by the "
            "program that started it."
        )
    if odd := _oddities(record):
        raise ReproduceError(f"{path} is damaged ({odd[0]}): {WAY_OUT}.")
    return record


def _oddities(record: Mapping[str, Any]) -> list[str]:
    """What in a record is not of the type that `RunRecord` writes, in words."""
    origin, made_on = record["origin"], record.get("environment") or {}
    parts = {"versions": record.get("versions"), "environment": made_on, "git": record.get("git")}
    parts |= {"origin.options": origin.get("options")}
    odd = [f"{name} is no mapping" for name, part in parts.items() if not isinstance(part or {}, dict)]
    if odd:
        return odd
    options, variables = origin.get("options") or {}, made_on.get("variables") or {}
    files = options.get("config_file", "")
    names = [*(files if isinstance(files, list) else [files]), options.get("args_file", "")]
    if files == [] or not all(isinstance(name, str) and "\0" not in name for name in names):
        odd.append("origin.options.config_file names no files")
    if not isinstance(variables, dict) or not str(variables.get("WORLD_SIZE", 1)).isdecimal():
        odd.append("environment.variables has no number of processes")
    recorded = origin["config"].get("dataset_dir")
    if "\0" in origin["folder"] or "\0" in str(recorded):
        odd.append("a folder's name holds a NUL")
    return odd


def differences(record: Mapping[str, Any]) -> list[str]:
    """Sentences on what is other now than when the run was made: versions, revision, machine, the bundle's config."""
    found = []
    for kind, then, now in (
        ("version of", record.get("versions") or {}, package_versions()),
        ("environment:", record.get("environment") or {}, environment()),
    ):
        names = COMPARED if kind == "environment:" else now
        found += [
            f"{kind} {name} was {then.get(name)}, is {now.get(name)}"
            for name in names
            if then.get(name) != now.get(name)
        ]
    then, now = record.get("git") or {}, git_revision() or {}
    if then.get("revision") != now.get("revision"):
        found.append(f"git revision was {then.get('revision')}, is {now.get('revision')}")
    if then.get("changed") or now.get("changed"):
        when = " and ".join(name for name, side in (("then", then), ("now", now)) if side.get("changed"))
        found.append(f"the checkout had changes that no revision holds ({when})")
    if changed := _changed_settings(record["origin"]):
        more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
        found.append(
            f"the bundle's configs differ from the recorded one, which is used: {', '.join(changed[:SHOWN])}{more}"
        )
    return found


def _changed_settings(origin: Mapping[str, Any]) -> list[str]:
    options = dict(origin.get("options") or {})
    files = options.get("config_file")
    names = [files] if isinstance(files, str) else list(files or ())
    options["config_file"] = [os.path.join(origin["folder"], name) for name in names]
    now = merged_config(options) if names else None
    if now is None:
        return ["they are not there any more"]
    then = origin["config"]
    return sorted(key for key in then.keys() | now.keys() if then.get(key) != now.get(key))


def plan_repetition(record: Mapping[str, Any], output_dir: Path, *, dataset_dir: Path | None = None) -> Repetition:
    """The command that repeats a run into `output_dir`, in the folder where it was started.

    Args:
        dataset_dir: where the data lie now, if they have moved.

    Raises:
        FileNotFoundError: the folder where it was started, or the data, are not there.
        ReproduceError: the config has no output_dir, or `output_dir` holds something else.
    """
    origin = record["origin"]
    folder, config, options = Path(origin["folder"]), origin["config"], origin.get("options") or {}
    output_dir = output_dir.absolute()
    if not os.path.isdir(folder):  # which takes a name that is too long for one that is not there
        raise FileNotFoundError(f"the run was started in '{folder}', which is not there: its relative paths need it.")
    if "output_dir" not in config:
        raise ReproduceError("the recorded config has no output_dir: it cannot be sent to a new folder.")
    data = dataset_dir.absolute() if dataset_dir is not None else None
    recorded = config.get("dataset_dir")
    given = data is None and isinstance(recorded, str) and not recorded.startswith("$")
    if given and not os.path.exists(folder / recorded):
        raise FileNotFoundError(
            f"the data of the run, '{folder / recorded}', are not there: name them by --dataset_dir."
        )
    chosen: dict[str, object] = {
        "config_file": output_dir / CONFIG,
        **_companions(folder, options),
        "output_dir": output_dir,
    }
    chosen |= {} if data is None else {"dataset_dir": data}
    chosen |= {key: options[key] for key in ("init_id", "final_id") if key in options}
    if _started_before(output_dir, config):
        chosen["resume"] = "true"
    words = [word for key, value in chosen.items() for word in (f"--{key}", str(value))]
    run_id = [str(options["run_id"])] if "run_id" in options else []
    made_on = record.get("environment") or {}
    variables = {"OMP_NUM_THREADS": made_on.get("threads", 1)} | (made_on.get("variables") or {})
    command = (*_launcher(int(variables.get("WORLD_SIZE", 1))), "-m", "monai.bundle", "run", *run_id, *words)
    kept = {name: str(variables[name]) for name in NUMERIC_VARIABLES if name in variables}
    return Repetition(command, folder, kept, config, output_dir)


def _launcher(processes: int) -> tuple[str, ...]:
    if processes == 1:
        return (sys.executable,)
    return (sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}")


def _companions(folder: Path, options: Mapping[str, Any]) -> dict[str, Path]:
    """metadata.json and logging.conf, which MONAI looks for beside the first config file."""
    files = options.get("config_file", "")  # not there where --args_file named it
    beside = Path(files if isinstance(files, str) else files[0]).parent
    found = {"meta_file": beside / "metadata.json", "logging_file": beside / "logging.conf"}
    found |= {key: options[key] for key in found if isinstance(options.get(key), str)}
    return {key: folder / name for key, name in found.items() if os.path.isfile(folder / name)}


def _started_before(output_dir: Path, config: Mapping[str, Any]) -> bool:
    """Whether this repetition was begun in `output_dir` already, so that it can go on."""
    if not output_dir.exists() or not any(output_dir.iterdir()):
        return False
    path = output_dir / CONFIG
    if not path.is_file() or read_record(path, object, error=ReproduceError) != config:
        raise ReproduceError(f"'{output_dir}' holds something else: choose another --output_dir.")
    return "resume" in config


def outcome(run: Path, repeated: Path) -> list[str]:
    """Sentences that compare a run with its repetition: data, seed, best metric, final weights."""
    then, now = (read_record(folder / "run.json", dict[str, Any]) for folder in (run, repeated))
    sentences = []
    for name, key in (("data", "data"), ("seed", "seed")):
        same = "the same" if then.get(key) == now.get(key) else f"{then.get(key)}, now {now.get(key)}"
        sentences.append(f"{name}: {same}")
    first, second = (read_trained_run(folder) or TrainedRun() for folder in (run, repeated))
    if found := disagreement(first, second):
        name, old, new = found
        sentences.append(f"{name}: {old}, now {new}")
    for part, cases in (first.cases or {}).items():
        again = (second.cases or {}).get(part, {})
        if cases != again:
            kept = len(cases.items() & again.items())
            sentences.append(f"{part} cases: {len(cases)}, now {len(again)}, of which {kept} are the same")
    for key in sorted(key for key in now if key.startswith("best_")):
        same = "the same" if then.get(key) == now[key] else f"was {then.get(key)}"
        sentences.append(f"{key.replace('_', ' ')}: {now[key]} ({same})")
    weights = [folder / "final.pt" for folder in (run, repeated)]
    if all(path.is_file() for path in weights):
        sentences.append(f"final weights: {_difference(*map(load_checkpoint, weights))}")
    return sentences


def _difference(first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    shapes = [{name: tuple(value.shape) for name, value in side.items()} for side in (first, second)]
    if shapes[0] != shapes[1]:
        return "of another network"
    largest = max(
        (float((value.double() - second[name].double()).abs().max()) for name, value in first.items()), default=0
    )
    return (
        "the same in every bit"
        if all(torch.equal(v, second[k]) for k, v in first.items())
        else (f"differ by {largest:.3g} at most")
    )


def run(options: ReproduceOptions) -> int:
    """`python -m monai_ext reproduce`: exit status 0, or that of the repeated training where it failed."""
    record = read_run(options.run)
    folder = options.run if options.run.is_dir() else options.run.parent
    output_dir = options.output_dir or folder.absolute().with_name(f"{folder.absolute().name}_again")
    repetition = plan_repetition(record, output_dir, dataset_dir=options.dataset_dir)
    keep_log(output_dir)
    for sentence in differences(record) or ["versions, revision, machine and configs are those of the run"]:
        tell(f"* {sentence}")
    tell(repetition.typed())
    if options.dry_run:
        return 0
    write_record(repetition.output_dir / CONFIG, repetition.config, checksum=False)
    variables = {**os.environ, **repetition.variables}
    if status := run_commands.execute(repetition.command[1:], folder=repetition.folder, variables=variables):
        tell(f"the repeated training failed with exit status {status}: see its message above.")
        return status if status > 0 else 1
    for sentence in outcome(folder, repetition.output_dir):
        tell(f"* {sentence}")
    return 0

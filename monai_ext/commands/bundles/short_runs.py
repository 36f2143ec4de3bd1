"""`train`, `evaluate`, `predict`: bundle runs by short command lines, each shown as the bundle command that it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_ext.commands.bundles import run_commands
from monai_ext.commands.bundles.run_commands import bundle_command, check_command, place, typed
from monai_ext.commands.bundles.shipped import find_bundle
from monai_ext.commands.command_line import Computed, Positional, option_pairs, parse_options, wrong_use
from monai_ext.commands.datasets.layout_names import Kind, LayoutName, PartName
from monai_ext.runtime.command_lines import shell_line
from monai_ext.runtime.errors import WAYS_ON
from monai_ext.runtime.plain_text import without_secrets
from monai_ext.runtime.run_log import tell
from monai_ext.storage.records import read_record

__all__ = [
    "EvaluateOptions", "PredictOptions", "TrainOptions", "evaluate", "evaluation_command", "is_super_resolution",
    "predict", "prediction_command", "train", "training_command",
]  # fmt: skip

# What the short commands set: option of the bundle -> where it is typed.
SET_HERE = {"config_file": "--overlay", "bundle_root": "the first argument"}
FILES = ("config_file", "meta_file", "logging_file", "args_file")


@dataclass(frozen=True)
class TrainOptions:
    """Train a bundle on your data.

    The command `python -m monai.bundle run` that does it is shown and executed. Further options are those at the top of
    the bundle's train.json: --max_epochs 10, --resume true.
    """

    bundle: Positional[str]
    """a bundle's folder, or the name of one of `bundles list`"""
    data: Path
    """folder of the training data, see the bundle's card"""
    output_dir: Computed[Path | None] = None
    """folder of the run (runs/ and the bundle's name)"""
    overlay: Computed[tuple[str, ...]] = ()
    """configs on top of train.json: names of the bundle's own, such as multi_gpu, or files"""
    dry_run: bool = False
    """print the command and stop"""


@dataclass(frozen=True)
class EvaluateOptions:
    """Score a trained run on the cases that were held out, or on other data.

    The command `python -m monai.bundle run` that does it is shown and executed, with the bundle, data and overlays of
    the run. Results go to RUN/evaluation. Further options are those of the bundle's train.json and evaluate.json.
    """

    run: Positional[Path]
    """output folder of a training"""
    data: Computed[Path | None] = None
    """where the data lie now, or another data set (those of the training)"""
    layout: Computed[LayoutName | None] = None
    """of --data, see docs/layouts.md; the bundle then reads a copy in RUN/copies (found, where --data are in no layout
    that the bundle reads)"""
    part: Computed[PartName | None] = None
    """of --data in such a layout: only cases of this part (test, where the layout has it, otherwise all)"""
    bundle: Computed[str | None] = None
    """where the bundle lies now (that of the training)"""
    overlay: Computed[tuple[str, ...]] = ()
    """configs on top of evaluate.json: names of the bundle's own, or files"""
    dry_run: bool = False
    """print the command and stop"""


@dataclass(frozen=True)
class PredictOptions:
    """Apply a trained bundle to a file or a folder.

    Segmentation bundles write masks and probabilities, by a bundle run, whose command is shown and executed; further
    options are those of the bundle's inference.json, such as --ckpt_path runs/lesion_unet/final.pt. Super-resolution
    bundles upscale; further options are those of `upscale`.
    """

    bundle: Positional[str]
    """a bundle's folder, or the name of one of `bundles list`"""
    input: Positional[str]
    """a file or a folder; of super-resolution bundles also the address of a TIFF"""
    output: Positional[Path]
    """folder of the results; of super-resolution bundles also the name of the one output"""
    overlay: Computed[tuple[str, ...]] = ()
    """configs on top of inference.json: names of the bundle's own, or files"""
    dry_run: bool = False
    """print the command and stop"""


def training_command(options: TrainOptions, further: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """The bundle command of `train`, see `bundle_command`.

    Raises:
        FileNotFoundError: there is no such bundle, data or overlay.
    """
    bundle = find_bundle(options.bundle)
    output_dir = options.output_dir or Path("runs", bundle.resolve().name)
    files = _config_files(bundle, "train.json", options.overlay)
    return bundle_command(files, _places(bundle, options.data, output_dir) | dict(further or {}))


def evaluation_command(options: EvaluateOptions, further: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """The bundle command of `evaluate`, see `bundle_command`.

    Settings of the training are taken from its run.json when it runs (`take_settings_of_run`); here only overlays and
    what was set inside the config are repeated.

    Raises:
        FileNotFoundError: there is no such run, or its bundle or data are not there any more.
        ReproduceError: run.json has no command.
    """
    from monai_ext.commands.bundles.reproduce import read_run  # here, since it imports torch

    origin = read_run(options.run)["origin"]
    given: dict[str, Any] = origin.get("options") or {}
    started, recorded = Path(origin["folder"]), origin["config"]
    files = given.get("config_file", [])
    trained_by = [_from(started, file) for file in ([files] if isinstance(files, str) else files)]
    if options.bundle is None:
        bundle = _from(started, given.get("bundle_root", recorded.get("bundle_root", ".")))
        bundle = trained_by[0].parent.parent if trained_by and not (bundle / "configs").is_dir() else bundle
    else:
        bundle = find_bundle(options.bundle)
        own = [bundle / "configs" / file.name for file in trained_by]
        trained_by = [new if new.is_file() else old for new, old in zip(own, trained_by, strict=True)]
    if gone := [file for file in trained_by if not file.is_file()]:
        raise FileNotFoundError(f"the run's config '{gone[0]}' is not there any more: name its bundle by --bundle.")
    data = _from(started, recorded.get("dataset_dir", ".")) if options.data is None else options.data
    if options.data is None and not data.exists():
        raise FileNotFoundError(f"the data of the run, '{data}', are not there: name them by --data.")
    choices = _places(bundle, data, options.run) | _of_copy(bundle, data, options)
    choices |= {key: str(value) for key, value in given.items() if "#" in key or "::" in key}
    evaluated_by = _config_files(bundle, "evaluate.json", options.overlay)
    return bundle_command(list(dict.fromkeys([*trained_by, *evaluated_by])), choices | dict(further or {}))


def prediction_command(options: PredictOptions, further: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """The bundle command of `predict` with a segmentation bundle, see `bundle_command`.

    Raises:
        FileNotFoundError: there is no such bundle, input or overlay.
    """
    bundle = find_bundle(options.bundle)
    files = _config_files(bundle, "inference.json", options.overlay)
    return bundle_command(files, _places(bundle, Path(options.input), options.output) | dict(further or {}))


def is_super_resolution(bundle: Path) -> bool:
    """Whether a bundle upscales: its inference.json has a `scale` at its top."""
    path = bundle / "configs" / "inference.json"
    return path.is_file() and "scale" in read_record(path, dict[str, Any], way_out="take it from the bundle again")


def train(options: TrainOptions, further: Sequence[str]) -> int:
    """`python -m monai_ext train`."""
    settings = _settings("train", further, {"dataset_dir": "--data"})
    return _carried_out("train", training_command(options, settings), dry_run=options.dry_run)


def evaluate(options: EvaluateOptions, further: Sequence[str]) -> int:
    """`python -m monai_ext evaluate`."""
    settings = _settings("evaluate", further, {"dataset_dir": "--data", "output_dir": "the run"})
    return _carried_out("evaluate", evaluation_command(options, settings), dry_run=options.dry_run)


def predict(options: PredictOptions, further: Sequence[str]) -> int:
    """`python -m monai_ext predict`."""
    bundle = find_bundle(options.bundle)
    if not is_super_resolution(bundle):
        settings = _settings("predict", further, {"dataset_dir": "the input", "output_dir": "the output"})
        return _carried_out("predict", prediction_command(options, settings), dry_run=options.dry_run)
    from monai_ext.commands.upscaling import upscale  # here, since it imports torch

    if options.overlay:
        raise wrong_use("monai_ext predict", "--overlay: the network of a super-resolution bundle takes none")
    words = [options.input, str(options.output), "--bundle", str(bundle), *further]
    line = without_secrets(f"python -m monai_ext upscale {shell_line(words)}")
    if options.dry_run:
        print(line)
        return 0
    tell(line)
    WAYS_ON.append(upscale.WAY_ON)
    return upscale.run(parse_options(upscale.UpscaleOptions, words, prog="monai_ext predict").options)


def _places(bundle: Path, data: Path, output_dir: Path) -> dict[str, str]:
    """The options that name folders."""
    if not data.exists():
        raise FileNotFoundError(f"there is no '{data}': name a file or a folder that is there.")
    return {"bundle_root": place(bundle), "dataset_dir": place(data), "output_dir": place(output_dir)}


def _of_copy(bundle: Path, data: Path, options: EvaluateOptions) -> dict[str, str]:
    """Options that name a copy of --data in a layout that the bundle reads; none where it reads them as they are."""
    kind = None if options.data is None else _kind(bundle)
    if kind is None:
        if options.layout or options.part:
            way_out = "name it by --data" if options.data is None else f"{bundle.name} reads tiles alone"
            raise wrong_use("monai_ext evaluate", f"--layout and --part are of another data set: {way_out}")
        return {}
    from monai_ext.commands.datasets.copies import readable_copy  # here, since it imports torch

    folder = options.run / "copies" / data.resolve().name
    copied = readable_copy(data, folder, kind, layout=options.layout, part=options.part, dry_run=options.dry_run)
    if copied == data:
        if options.part:
            raise wrong_use("monai_ext evaluate", f"--part: {data} is read as it is, without parts: leave it out")
        return {}
    return {"dataset_dir": place(copied)} | ({"evaluation_part": "Testing"} if kind == "raters" else {})


def _kind(bundle: Path) -> Kind | None:
    """What the bundle's training reads: one mask for each picture, or those of several raters; None: something else."""
    config = read_record(bundle / "configs" / "train.json", dict[str, Any], way_out="take it from the bundle again")
    targets = [part.get("_target_") for part in config.values() if isinstance(part, dict)]
    if "monai_ext.engines.RaterCases" in targets:
        return "raters"
    return "lesion" if "monai_ext.data.lesion_items" in targets else None


def _from(folder: Path, name: object) -> Path:
    """A path of a run, as it is named from here."""
    path = folder / str(name)
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _config_files(bundle: Path, first: str, overlays: Sequence[str]) -> list[Path]:
    configs = bundle / "configs"
    files = [configs / first]
    for overlay in overlays:
        own = configs / (overlay if overlay.endswith(".json") else f"{overlay}.json")
        files.append(own if own.is_file() else Path(overlay))
    if missing := [file for file in files if not file.is_file()]:
        known = ", ".join(sorted(path.stem for path in configs.glob("*.json")))
        raise FileNotFoundError(f"no config '{missing[0]}': the bundle '{bundle}' has {known}.")
    return files


def _settings(command: str, words: Sequence[str], taken: Mapping[str, str]) -> dict[str, str]:
    """Options of the bundle, as MONAI names them.

    Raises:
        SystemExit: wrong use: no pairs, or an option that the command has under another name.
    """
    try:
        settings = {key.replace("-", "_"): value for key, value in option_pairs(words).items()}
    except ValueError as error:
        raise wrong_use(f"monai_ext {command}", str(error)) from None
    for name, here in {**SET_HERE, **taken}.items():
        if name in settings:
            raise wrong_use(f"monai_ext {command}", f"--{name} is {here} of this command: leave it out")
    return settings


def _carried_out(command: str, words: Sequence[str], *, dry_run: bool) -> int:
    """Show a bundle command and execute it; an option that the configs do not have is wrong use."""
    try:
        check_command(words)
    except ValueError as error:
        raise wrong_use(f"monai_ext {command}", str(error)) from None
    if dry_run:
        print(typed(words))
        return 0
    tell(typed(words))
    return run_commands.run_here(words)

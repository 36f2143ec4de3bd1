"""What is particular to each page whose commands the tests run: one entry for a page, or for the `--help` of a command.

An entry holds for all pages: what several of them read, or leave out, stands with the first of them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from challenge import write_region
from evaluated_runs import CASES, write_run
from layout_trees import coco, ham10000, ph2
from upscaling_toys import noise, save_picture

from monai_ext.__main__ import main
from monai_ext.data import write_lesion_phantoms, write_rater_phantoms
from monai_ext.networks import MobileNetV2Encoder
from monai_ext.phantoms.aerial import write_aerial_phantoms

Maker = Callable[[Path], object]


@dataclass(frozen=True)
class Page:
    """How the commands of a page are run.

    Attributes:
        story: a test, which types the commands of all its pages in this order, in one folder.
        reads: name of a folder or file that commands read -> what makes it there, where no earlier command left it.
        stands_for: word that a reader replaces -> what is typed.
        shorter: program -> options that come last, so that they hold.
        not_run: how commands begin that are not run -> why.
    """

    story: str
    reads: Mapping[str, Maker] = field(default_factory=dict)
    stands_for: Mapping[str, str] = field(default_factory=dict)
    shorter: Mapping[str, str] = field(default_factory=dict)
    not_run: Mapping[str, str] = field(default_factory=dict)


def joined(name: str) -> dict[str, Any]:
    """A field of all pages."""
    return {key: value for page in REGISTRY.values() for key, value in getattr(page, name).items()}


def stories() -> dict[str, list[str]]:
    """Story -> its pages."""
    found: dict[str, list[str]] = {}
    for name, page in REGISTRY.items():
        found.setdefault(page.story, []).append(name)
    return found


def _pictures(folder: Path) -> None:
    folder.mkdir()
    for number in range(2):
        save_picture(folder / f"{number}.png", noise(3, 24, 32, seed=number))


def _raters(folder: Path, count: int = 10) -> None:
    write_rater_phantoms(folder, count=count, size=(32, 32))


def _volumes(folder: Path) -> None:
    write_rater_phantoms(folder, count=6, size=(32, 32, 4))


def _volume_parts(folder: Path) -> None:
    write_rater_phantoms(folder, count=6, size=(32, 32, 4))
    for part in ("Validation", "Testing"):
        (folder / part).mkdir()
        for case in sorted((folder / "Training").iterdir())[-2:]:
            case.rename(folder / part / case.name)


def _region(folder: Path) -> None:
    """Two parts of an organ."""
    _raters(folder / "kidney")
    shutil.copytree(folder / "kidney" / "Training", folder / "kidney" / "Validation")


def _parts(folder: Path) -> None:
    """All three parts of a data set."""
    _raters(folder, 14)
    for number, case in enumerate(sorted((folder / "Training").iterdir())):
        case.rename(case.with_name(f"{case.name}_p{number // 2:04d}"))  # of a patient
    for part in ("Validation", "Testing"):
        (folder / part).mkdir()
        for case in sorted((folder / "Training").iterdir())[-4:]:
            case.rename(folder / part / case.name)


def _patients(folder: Path) -> None:
    _raters(folder, 3)
    for case in list(folder.glob("*/case*")):
        case.rename(case.with_name(case.name.replace("case", "patient")))


def _predictions(folder: Path) -> None:
    """Those of a method that draws as the raters do: a mask for each of them, and a set of 16."""
    for make, name in ((_raters, "known"), (_patients, "patients")):
        make(folder.with_name(name))
        shutil.copytree(folder.with_name(name) / "Training", folder, dirs_exist_ok=True)
        shutil.rmtree(folder.with_name(name))
    for image in folder.rglob("image.nii.gz"):
        image.unlink()
        for number in range(16):
            mask = image.with_name(f"task01_seg{number % 5 + 1:02d}.nii.gz")
            shutil.copy(mask, image.with_name(f"task01_sample{number + 1:02d}.nii.gz"))


def _tiles(folder: Path) -> None:
    write_aerial_phantoms(folder, count=30, size=(64, 64))


def _tile(path: Path) -> None:
    save_picture(path, noise(3, 16, 16))


def _evaluated(folder: Path) -> None:
    for name in ("holistic", "combined"):
        write_run(folder / name, name, better=0.0, cases=CASES[1:11])  # as of `_raters`


def _cameras(column: Path) -> None:
    """A camera of each image in ISIC2017, in the CSV of `column`."""
    ids = sorted(path.stem for path in Path("ISIC2017/images").iterdir())
    rows = "".join(f"{name},{'abcd'[number % 4]}\n" for number, name in enumerate(ids))
    column.with_name(column.name.partition(":")[0]).write_text(f"id,camera\n{rows}", encoding="utf-8")


def _trained_bundle(archive: Path) -> None:
    assert main(["pack", "bundles/lesion_unet", "--output_dir", "packed"]) == 0
    shutil.copy("packed/lesion_unet.zip", archive)


def _copied(source: str) -> Callable[[Path], None]:
    def copy(target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if Path(source).is_dir() else shutil.copy)(source, target)

    return copy


REGISTRY = {
    "README.md": Page(
        "readme",
        reads={
            "ISIC2017": lambda folder: write_lesion_phantoms(folder, count=22, size=(32, 40)),
            "PICTURES": _pictures,
            "QUBIQ": _region,
            "RATERS": _raters,
            "VOLUMES": _volumes,
            "predicted": _predictions,
            "mobilenet_v2.pt": lambda path: torch.save(MobileNetV2Encoder().state_dict(), path),
        },
        stands_for={"imagenet": "mobilenet_v2.pt"},
        shorter={"compare": "--losses bce dice --folds 2", "score": "--resamples 100"},
        not_run={"pip ": "installs from a network", "tensorboard ": "serves until it is stopped"},
    ),
    "docs/segmentation.md": Page("readme"),
    "docs/commands.md": Page("readme"),
    "train --help": Page("readme"),
    "evaluate --help": Page("readme"),
    "predict --help": Page("readme"),
    "compare --help": Page("readme"),
    "bundles/lesion_unet/docs/README.md": Page(
        "lesions",
        reads={"CAMERAS.csv:camera": _cameras},
        not_run={"python -m weights.cameras ": "needs names of ISIC 2017; tests/weights/test_cameras.py runs it"},
    ),
    "demo --help": Page("lesions"),
    "report --help": Page("lesions"),
    "reproduce --help": Page("lesions"),
    "bundles/qubiq_holistic/docs/README.md": Page("raters", reads={"BU-BIL": _raters, "runs/cells": _evaluated}),
    "docs/raters.md": Page("raters"),
    "consensus --help": Page("raters"),
    "agreement --help": Page("raters", shorter={"agreement": "--resamples 100 --shown 2"}),
    "score --help": Page("raters", reads={"cells": _raters, "lidc-nodule": _patients}),
    "rater_viewer --help": Page("raters"),
    "rater_table --help": Page(
        "raters",
        reads={
            "runs/holistic": lambda folder: write_run(folder, "holistic", better=0.0),
            "runs/combined": lambda folder: write_run(folder, "combined", better=0.0),
        },
    ),
    "qubiq --help": Page("raters", reads={"CHALLENGE": lambda folder: write_region(folder / "kidney")}),
    "bundles/prob_unet/docs/README.md": Page(
        "anonymous", reads={"LIDC": _raters, "LIDC-2D": _parts, "LIDC-3D": _volume_parts}
    ),
    "bundles/srgan_aerial/docs/README.md": Page(
        "tiles",
        reads={"TILES": _tiles, "tile.png": _tile},
        stands_for={"INPUT": "tile.png", "OUTPUT": "enlarged.tif"},
    ),
    "bundles/bayesian_srgan_aerial/docs/README.md": Page(
        "answers",
        reads={
            "runs/srgan/final.pt": _copied("bundles/srgan_aerial/models/srresnet.pt"),
            "runs/content/final.pt": _copied("bundles/srgan_aerial/models/model.pt"),
            "here/model.pt": _copied("bundles/bayesian_srgan_aerial/models/model.pt"),
            "here.png": _tile,
        },
        stands_for={"['here']": "['phantom_0003']", "INPUT": "here.png", "OUTPUT": "here_enlarged.tif"},
        shorter={"uncertainty_checks": "--steps 1 --members 2 --scenes 2 3"},
    ),
    "upscale --help": Page("answers", reads={"orthophoto.tif": _tile}),
    "viewer --help": Page("answers"),
    "uncertainty_report --help": Page("answers", reads={"runs/bayesian_noisy": _copied("runs/bayesian")}),
    "uncertainty_checks --help": Page("answers"),
    "fetch_tiles --help": Page("sets", reads={"tiles/baltimore": _tiles}),
    "check --help": Page("sets"),
    "many_hr build --help": Page("sets", shorter={"many_hr build": "--records 12 --targets 2 --size 32 --block 1"}),
    "many_hr check --help": Page("sets"),
    "many_hr show --help": Page("sets"),
    "docs/many_hr.md": Page("sets"),
    "docs/super_resolution.md": Page("rasters"),
    "docs/scaling.md": Page("machines", shorter={"benchmarks.unit_costs": "--runs 25 --tiles 8"}),
    "CONTRIBUTING.md": Page(
        "house",
        stands_for={"ADDRESS": "https://example.org/weights", "bundles/NAME": "bundles/lesion_unet"},
        shorter={
            "tests/fuzz/fuzz_readers.py": "--count 60",
            "tests/fuzz/fuzz_silent.py": "--count 60",
            "tests/fuzz/many_files.py": "--count 20",
            "tests/fuzz/fuzz_inspect.py": "--count 60",
        },  # fmt: skip
        not_run={
            ". ": "changes the shell that it is typed in",
            "python tests/fuzz/kill.py ": "minutes, in forks; tests/faults/test_kills.py kills the same work",
            "OMP_NUM_THREADS=1 python -m pytest ": "these tests are that",
        },
    ),
    "benchmarks/README.md": Page(
        "house",
        not_run={
            "python -m benchmarks ": "minutes; tests/benchmarks/test_performance.py runs a quick one",
            "python -m benchmarks.same_results ": "tests/benchmarks/test_same_results.py runs it on phantoms",
        },
    ),
    "docs/bundles.md": Page("house"),
    "bundles list --help": Page("house"),
    "bundles get --help": Page("house"),
    "docs/monai_label.md": Page(
        "house",
        not_run={
            "monailabel ": "a server in an environment of its own: make monai_label",
            "cp -r bundles/lesion_unet ": "into the folder of that server",
        },
    ),
    "docs/exports.md": Page(
        "house",
        not_run={
            "python -m monai_ext page ": "fetches ONNX Runtime for the browser: make page_test",
            "python -m monai.bundle ckpt_export ": "tests/bundles/test_bundles.py exports by it",
            "python -m http.server ": "serves until it is stopped",
        },
    ),
    "export --help": Page("house"),
    "page --help": Page("house"),
    "docs/clients.md": Page("house", shorter={"benchmarks.inference_engines": "--pictures 0 --rounds 1"}),
    "docs/layouts.md": Page("layouts", reads={"SOURCE": ph2}),
    "convert --help": Page("layouts", reads={"annotations": coco, "HAM10000": ham10000}),
    "docs/in_your_project.md": Page("house", shorter={"examples/in_your_own_project.py": "--epochs 1"}),
    "docs/structure.md": Page("house"),
    "weights/README.md": Page(
        "house", not_run={"python -m weights ": "trainings; tests/weights/test_recipes.py checks every command"}
    ),
    "pack --help": Page("house"),
    "inspect --help": Page("house", reads={"downloaded_bundle.zip": _trained_bundle}),
}

"""Bundles run in this process as `python -m monai.bundle run` runs them: shared by the tests of all bundles."""

from __future__ import annotations

import csv
import logging
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from monai.bundle import ConfigWorkflow

from monai_ext.runtime.errors import explain

BUNDLES = Path(__file__).parents[2] / "bundles"


def workflow(bundle: str, files: Sequence[str], **options) -> ConfigWorkflow:
    """An initialised workflow of config files of a bundle, later ones on top of earlier ones; nothing has run yet."""
    root = BUNDLES / bundle
    paths = [str(root / "configs" / name) for name in files]
    kind = "infer" if files[0].startswith("inference") else "train"
    built = ConfigWorkflow(config_file=paths, workflow_type=kind, bundle_root=str(root), **options)
    built.initialize()
    return built


def run_bundle(bundle: str, files: Sequence[str], **options) -> ConfigWorkflow:
    """`workflow`, run to its end."""
    built = workflow(bundle, files, **options)
    built.run()
    built.finalize()
    return built


def trainer_of(bundle: str, settings: Mapping[str, object]) -> Callable[..., ConfigWorkflow]:
    """A function (folder, data, files=("train.json",), **options) that trains `bundle` with `settings` and options."""

    def train(folder: Path, data: Path, files: Sequence[str] = ("train.json",), **options) -> ConfigWorkflow:
        return run_bundle(bundle, files, dataset_dir=str(data), output_dir=str(folder), **(settings | options))

    return train


def train_in_two_processes(bundle: str, folder: Path, data: Path, **settings) -> list[dict[str, str]]:
    """Train under torchrun with `multi_gpu.json`, as it is typed; the rows of epochs.csv."""
    configs = BUNDLES / bundle / "configs"
    options = {
        "config_file": [str(configs / name) for name in ("train.json", "multi_gpu.json")],
        "bundle_root": configs.parent, "dataset_dir": data, "output_dir": folder, **settings,
    }  # fmt: skip
    torchrun = (sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    pairs = [part for key, value in options.items() for part in (f"--{key}", str(value))]
    subprocess.run([*torchrun, "-m", "monai.bundle", "run", *pairs], check=True, capture_output=True)
    return rows(folder / "epochs.csv")


def score_in_one_process(bundle: str, folder: Path, data: Path, score: str, **settings) -> float:
    """What `final.pt` of a run in `folder` scores where one process sees all validation items."""
    built = workflow(bundle, ["train.json"], dataset_dir=str(data), output_dir=f"{folder}_scored", **settings)
    evaluator = built.evaluator
    evaluator.network.load_state_dict(torch.load(folder / "final.pt", weights_only=True))
    evaluator.run()
    return evaluator.state.metrics[score]


def rows(path: Path) -> list[dict[str, str]]:
    """Lines of a CSV file by column."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def sentence_of(action: Callable[[], object]) -> str:
    """The sentence with which a bundle run would end that raises what `action` raises."""
    logging.disable(logging.CRITICAL)
    try:
        action()
    except Exception as error:
        sentence = explain(error)
        assert sentence is not None, f"not explained: {error!r}"
        return sentence
    finally:
        logging.disable(logging.NOTSET)
    raise AssertionError("nothing was raised")

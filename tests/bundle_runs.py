"""Bundles run in this process as `python -m monai.bundle run` runs them: shared by the tests of all bundles."""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from monai.bundle import ConfigWorkflow

from monai_ext.errors import explain

BUNDLES = Path(__file__).parents[1] / "bundles"


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

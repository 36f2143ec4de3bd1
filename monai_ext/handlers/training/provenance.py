"""Provenance of a run as plain JSON values: command, merged config, code revision, packages and machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from fire.parser import DefaultParseValue
from monai.bundle import ConfigParser

import monai_ext
from monai_ext.handlers.engine import Engine
from monai_ext.storage.fingerprint import fingerprint

__all__ = ["bundle_arguments", "command", "data_of", "environment", "git_revision", "merged_config", "package_versions"]

PACKAGES = (
    "monai_ext", "monai", "torch", "pytorch-ignite", "numpy", "scipy", "scikit-image", "pillow", "nibabel",
    "tensorboard", "fire",
)  # fmt: skip
VARIABLES = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "CUBLAS_WORKSPACE_CONFIG", "WORLD_SIZE",
    "PYTORCH_CUDA_ALLOC_CONF", "MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_",
)  # fmt: skip
NO_CONFIG = ("meta_file", "logging_file", "args_file", "config_file", "run_id", "init_id", "final_id", "tracking")


def bundle_arguments(argv: Sequence[str]) -> dict[str, Any] | None:
    """The options of `python -m monai.bundle run`, as Fire reads them, from that process's arguments.

    Args:
        argv: of the process, the script first; `sys.argv`.

    Returns:
        Option -> value, or None if the process is something else.

    >>> bundle_arguments(["/lib/monai/bundle/__main__.py", "run", "--config_file", "a.json", "--max_epochs=3"])
    {'config_file': 'a.json', 'max_epochs': 3}
    """
    script = Path(argv[0]).parts[-3:] if argv else ()
    if script != ("monai", "bundle", "__main__.py") or "run" not in argv[1:2]:
        return None
    options: dict[str, Any] = {}
    words = list(argv[2:])
    if words and not words[0].startswith("-"):
        options["run_id"] = words.pop(0)
    while words:
        key, equals, value = words.pop(0).lstrip("-").partition("=")
        if not equals:
            value = words.pop(0) if words and not words[0].startswith("--") else "True"
        options[key.replace("-", "_")] = DefaultParseValue(value)
    return options


def merged_config(options: Mapping[str, Any]) -> dict[str, Any] | None:
    """The config that a bundle run was given, all files and options merged as `monai.bundle` does, not resolved.

    None where files cannot be read any more.
    """
    parser = ConfigParser()
    try:
        given = dict(ConfigParser.load_config_file(options["args_file"])) if "args_file" in options else {}
        given |= options
        parser.read_config(given["config_file"])
        parser.update({key: value for key, value in given.items() if key not in NO_CONFIG})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return {key: value for key, value in parser.get().items() if key != "_meta_"}


def git_revision() -> dict[str, Any] | None:
    """{"revision": hash, "changed": whether files differ from it} of the checkout this package lies in, or None."""
    root = Path(monai_ext.__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    revision = _git(root, "rev-parse", "HEAD")
    changes = _git(root, "status", "--porcelain", "--untracked-files=no")
    return None if revision is None else {"revision": revision, "changed": bool(changes)}


def _git(root: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def package_versions() -> dict[str, str | None]:
    """Versions of the packages that a result may depend on, and Python's."""
    return {name: _version(name) for name in PACKAGES} | {"python": platform.python_version()}


def _version(package: str) -> str | None:
    if package == "monai_ext":
        return monai_ext.__version__
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def environment() -> dict[str, Any]:
    """Machine, threads, CUDA, and the environment variables that change results or speed; none of the others."""
    cuda = torch.cuda.is_available()
    return {
        "platform": platform.platform(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name() if cuda else None,
        "cuda_version": torch.version.cuda if cuda else None,
        "cudnn": torch.backends.cudnn.version() if cuda else None,
        "deterministic": torch.are_deterministic_algorithms_enabled() or torch.backends.cudnn.deterministic,
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def data_of(engine: Engine | None) -> dict[str, Any] | None:
    """`fingerprint` of the items an engine's loader draws from; None where the data set has no list of items.

    Under torch.distributed it is that of the rank's own shard. Files that cannot be read do not stop a run: then the
    record is {"unreadable": why}.
    """
    dataset = getattr(getattr(engine, "data_loader", None), "dataset", None)
    items = getattr(dataset, "data", None)
    if not isinstance(items, (list, tuple)):
        return None
    try:
        return fingerprint(items)
    except OSError as error:
        return {"unreadable": str(error)}


def command() -> dict[str, Any]:
    """This process's command, folder, and, for a bundle run, its options and merged config."""
    options = bundle_arguments(sys.argv)
    return {
        "command": list(sys.orig_argv),
        "folder": os.getcwd(),
        "options": options,
        "config": None if options is None else merged_config(options),
    }

"""`export`: the network of a bundle as ONNX, torch.export or TorchScript, at any size of its input."""

from __future__ import annotations

import importlib
import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from monai_ext.commands.bundles.network import load_bundle_network
from monai_ext.commands.bundles.shipped import find_bundle
from monai_ext.commands.command_line import Computed, Positional, wrong_use
from monai_ext.networks.onnx_files import MISSING_ONNX, input_shape, onnx_bytes
from monai_ext.runtime.run_log import tell
from monai_ext.storage.files import atomic_path

__all__ = ["ExportOptions", "largest_difference", "run", "saved_network"]

SIZES = {2: ((2, 45, 70), (1, 64, 96), (3, 33, 17)), 3: ((2, 20, 24, 12), (1, 33, 17, 9))}  # batch, then space
FORMATS = {".onnx": "ONNX", ".pt2": "torch.export", ".ts": "TorchScript"}
TOLERANCE = {False: 1e-3, True: 2e-2}  # share of the outputs' span; True: weights in half precision


@dataclass(frozen=True)
class ExportOptions:
    """Export the network of a bundle for other programs, for images of any size.

    The ending of the output chooses the format: .onnx (ONNX Runtime, OpenVINO and others), .pt2 (torch.export) or .ts
    (TorchScript). Preprocessing, test-time augmentation and activation are those of the bundle's inference.json, and
    are not part of the file. What was written is read again and compared with PyTorch at several sizes.
    """

    bundle: Positional[str]
    """a bundle's folder, or the name of one of `bundles list`"""
    output: Positional[Path]
    """file to write: .onnx, .pt2 or .ts"""
    weights: Computed[Path | None] = None
    """another file of weights (the bundle's models/model.pt)"""
    half: bool = False
    """of .onnx: weights stored in half precision, which halves the file; numbers are computed in single precision"""


def saved_network(network: nn.Module, path: Path, *, half: bool = False) -> Callable[[Tensor], Tensor]:
    """Write a network in the format of the file's ending, and return what the file computes.

    Raises:
        ValueError: a package is missing that the format needs.
    """
    channels, axes = input_shape(network)
    batch, *size = SIZES[axes][0]
    example = torch.rand(batch, channels, *size)
    if path.suffix == ".ts":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            script: Any = torch.jit.script(network)
            with atomic_path(path) as temporary:
                torch.jit.save(script, str(temporary))
            return torch.jit.load(str(path))
    if path.suffix == ".pt2":
        program = _exported_program(network, example)
        with atomic_path(path) as temporary:
            torch.export.save(program, temporary)
        loaded = torch.export.load(path)
        known = inspect.signature(loaded.module).parameters
        # Guards on sizes of one pixel or one image concern the layout in memory, not the result.
        return loaded.module(**({"check_guards": False} if "check_guards" in known else {}))
    model = onnx_bytes(network, example, half=half)
    with atomic_path(path) as temporary:
        temporary.write_bytes(model)
    return _onnx_function(model)


def _exported_program(network: nn.Module, example: Tensor) -> torch.export.ExportedProgram:
    symbolic: Any = importlib.import_module("torch.fx.experimental._config")  # where PyTorch keeps this setting
    sizes = dict.fromkeys([0, *range(2, example.ndim)], torch.export.Dim.DYNAMIC)
    with symbolic.patch(backed_size_oblivious=True):  # one program for all sizes, 1 included
        return torch.export.export(network, (example,), dynamic_shapes=(sizes,))


def _onnx_function(model: bytes) -> Callable[[Tensor], Tensor]:
    try:
        import onnxruntime
    except ImportError as error:
        raise ValueError(MISSING_ONNX) from error
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return lambda image: torch.from_numpy(session.run(None, {"image": image.numpy()})[0])


@torch.no_grad()
def largest_difference(network: nn.Module, other: Callable[[Tensor], Tensor]) -> tuple[float, float] | None:
    """Largest difference between two outputs over several sizes, and their span; None for a network that draws.

    NaN of `other` makes the difference NaN.

    Raises:
        ValueError: the network itself gives NaN or infinity.
    """
    channels, axes = input_shape(network)
    generator = torch.Generator().manual_seed(0)
    differences, spans = [], []
    for shape in SIZES[axes]:
        image = torch.rand(shape[0], channels, *shape[1:], generator=generator)
        expected = network(image)
        if not expected.isfinite().all():
            raise ValueError("the network gives NaN or infinity for images of random values: take other weights.")
        if not torch.equal(expected, network(image)):
            return None
        differences.append((other(image) - expected).abs().max())
        spans.append(expected.max() - expected.min())
    return float(torch.stack(differences).max()), float(torch.stack(spans).max())


def run(options: ExportOptions) -> int:
    """`python -m monai_ext export`."""
    if options.output.suffix not in FORMATS:
        known = ", ".join(f"{ending} ({name})" for ending, name in FORMATS.items())
        raise wrong_use("monai_ext export", f"'{options.output}' has no known ending: choose {known}")
    if options.half and options.output.suffix != ".onnx":
        raise wrong_use("monai_ext export", "--half is for .onnx: leave it out")
    network, _ = load_bundle_network(find_bundle(options.bundle), options.weights)
    found = largest_difference(network, saved_network(network, options.output, half=options.half))
    size = options.output.stat().st_size / 1e6
    tell(f"wrote '{options.output}': {FORMATS[options.output.suffix]}, {size:.1f} MB")
    if found is None:
        tell("the network draws at random: its outputs were not compared with those of PyTorch")
        return 0
    difference, span = found
    compared = ", ".join(" x ".join(map(str, shape)) for shape in SIZES[input_shape(network)[1]])
    print(f"largest difference from PyTorch {difference:.1e}, of outputs that span {span:.3g} (N and size {compared})")
    if difference <= TOLERANCE[options.half] * span:
        return 0
    tell(f"that is not below {TOLERANCE[options.half]:.1%} of the span: do not use '{options.output}'")
    return 1

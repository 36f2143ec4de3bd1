"""ONNX models of networks, with free sizes of their input."""

from __future__ import annotations

import importlib.util
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd as Convolution

__all__ = ["MISSING_ONNX", "input_shape", "need_onnx", "onnx_bytes"]

AXES = ("N", "H", "W", "D")
SMALLEST_HALVED = 256  # numbers in an array; smaller ones, such as sizes, stay as they are
MISSING_ONNX = "ONNX needs further packages: pip install onnx onnxruntime."


def input_shape(network: nn.Module) -> tuple[int, int]:
    """Channels and spatial axes of the images that a network takes: those of its first convolution.

    Raises:
        ValueError: it has none.
    """
    first = next((layer for layer in network.modules() if isinstance(layer, Convolution)), None)
    if first is None:
        raise ValueError(f"{type(network).__name__} has no convolution: its input is unknown.")
    return first.in_channels, len(first.kernel_size)


def need_onnx() -> None:
    """Check that what exports ONNX is installed.

    Raises:
        ValueError: it is not.
    """
    if importlib.util.find_spec("onnx") is None:
        raise ValueError(MISSING_ONNX)


def onnx_bytes(
    network: nn.Module,
    example: Tensor,
    *,
    outputs: Sequence[str] = ("pred",),
    half: bool = False,
    free: Sequence[int] | None = None,
) -> bytes:
    """The ONNX model of a network, image -> outputs.

    Args:
        half: weights stored as float16 and cast to float32 where they are used.
        free: axes of the image whose size is free, and in the outputs those of the same number; None: batch and space.

    Raises:
        ValueError: the package onnx is missing.
    """
    need_onnx()
    free = [0, *range(2, example.ndim)] if free is None else free
    named = {axis: AXES[0 if axis == 0 else axis - 1] for axis in free}
    with torch.no_grad(), warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        file = Path(folder, "model.onnx")
        torch.onnx.export(
            network,
            (example,),
            file,
            dynamo=False,
            # Normalisations stay apart from convolutions, whose weights are in half precision already: rounded once.
            training=torch.onnx.TrainingMode.PRESERVE if half else torch.onnx.TrainingMode.EVAL,
            input_names=["image"],
            output_names=list(outputs),
            dynamic_axes={name: named for name in ("image", *outputs)} if named else None,
        )
        model = file.read_bytes()
    return _with_halved_weights(model) if half else model


def _with_halved_weights(model: bytes) -> bytes:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    graph = (loaded := onnx.load_from_string(model)).graph
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < SMALLEST_HALVED:
            continue
        name = tensor.name
        stored = f"{name}_half"
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), stored))
        casts.append(helper.make_node("Cast", [stored], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return loaded.SerializeToString()

"""Outputs of networks exported to ONNX with dynamic sizes."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from torch import Tensor, nn


def onnx_output(network: nn.Module, example: Tensor, image: Tensor) -> np.ndarray:
    """What ONNX Runtime computes for `image`, after an export with `example`; skips the test where it is missing."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    buffer = io.BytesIO()
    axes = {0: "N", 2: "H", 3: "W"}
    torch.onnx.export(
        network,
        (example,),
        buffer,
        dynamo=False,
        input_names=["image"],
        output_names=["pred"],
        dynamic_axes={"image": axes, "pred": axes},
    )
    session = onnxruntime.InferenceSession(buffer.getvalue(), providers=["CPUExecutionProvider"])
    return session.run(None, {"image": image.numpy()})[0]

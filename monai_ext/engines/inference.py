"""Networks for inference alone: BatchNorm merged into convolutions, or computed by ONNX Runtime or OpenVINO."""

from __future__ import annotations

import copy
import hashlib
import importlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import monai_ext
from monai_ext.engines.precision import autocast_dtype
from monai_ext.networks import MapSampler, RaterSampler, merge_batch_norms
from monai_ext.networks.onnx_files import input_shape, onnx_bytes
from monai_ext.storage.files import atomic_path
from monai_ext.storage.folders import cache_folder, files_in

__all__ = ["INFERENCE_ENGINES", "ExportedNetwork", "inference_network"]

INFERENCE_ENGINES = ("torch", "onnxruntime", "openvino")

_logger = logging.getLogger(__name__)


class ExportedNetwork(nn.Module):
    """Images -> what `compute` makes of them as float32 arrays, on the device of the images."""

    def __init__(self, compute: Callable[[np.ndarray], np.ndarray]):
        super().__init__()
        self.compute = compute

    def forward(self, images: Tensor) -> Tensor:
        result = self.compute(images.detach().float().cpu().contiguous().numpy())
        return torch.from_numpy(result).to(images.device)


def inference_network(network: nn.Module, engine: str = "torch", precision: str = "auto") -> nn.Module:
    """A copy of `network` in evaluation mode, or what stands for it, that predicts faster and cannot be trained.

    Outputs are those of `network` up to rounding. Of methods for several raters the network within is exported; samples
    are drawn from its maps as ever. Exported networks are kept in the folder of `cache_folder`, by a digest of network
    and weights.

    Args:
        engine: "torch" merges BatchNorm into convolutions; "onnxruntime" and "openvino" compute on the CPU, with as
            many threads as PyTorch, images -> one tensor.
        precision: see `autocast_dtype`; of OpenVINO. ONNX Runtime computes in float32, and PyTorch as its caller has
            chosen.

    Raises:
        ValueError: another engine, one whose package is not installed, a network on another device, or a method for
            several raters that has noise or several networks.
    """
    if engine not in INFERENCE_ENGINES:
        raise ValueError(f"engine={engine!r}: choose one of {', '.join(INFERENCE_ENGINES)}.")
    if engine == "torch":
        network = copy.deepcopy(network).eval()
        merge_batch_norms(network)
        return network
    if isinstance(network, RaterSampler):
        return _sampler(network, engine, precision)
    device = next((values.device for values in network.parameters()), torch.device("cpu"))
    if device.type != "cpu":
        raise ValueError(f"--engine {engine} computes on the CPU, and the network is on {device}: add --device cpu.")
    package: Any = _package(engine)
    model = _exported(network)
    if engine == "onnxruntime":
        return ExportedNetwork(_in_onnxruntime(package, model)).eval()
    bfloat16 = autocast_dtype("cpu", precision) is not None
    return ExportedNetwork(_in_openvino(package, model, "bf16" if bfloat16 else "f32")).eval()


def _sampler(method: RaterSampler, engine: str, precision: str) -> nn.Module:
    """A method for several raters whose network is computed by an engine."""
    within = dict(method.named_children()).get("network")
    if not isinstance(method, MapSampler) or within is None:
        raise ValueError(
            f"--engine {engine} computes methods that draw their samples from the maps of one network, such as heads "
            f"and ordered, and this one is {type(method).__name__}: leave --engine out."
        )
    method = copy.deepcopy(method).eval()
    method.add_module("network", inference_network(within, engine, precision))
    return method


def _package(engine: str) -> Any:
    try:
        return importlib.import_module(engine)
    except ImportError as error:
        raise ValueError(f"--engine {engine} needs further packages: pip install onnx {engine}.") from error


def _in_onnxruntime(onnxruntime: Any, model: bytes) -> Callable[[np.ndarray], np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"image": images})[0]


def _in_openvino(openvino: Any, model: bytes, precision: str) -> Callable[[np.ndarray], np.ndarray]:
    core = openvino.Core()
    settings = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = core.compile_model(core.read_model(model), "CPU", settings).create_infer_request()
    return lambda images: request.infer([images], share_inputs=True)[0]


def _exported(network: nn.Module) -> bytes:
    """The ONNX model of a network, as it was kept or exported anew.

    The name of its file has a digest of the network and one of the content, so that damaged files are not used.
    """
    folder, digest = cache_folder() / "onnx", _digest(network)
    for file in [*files_in(folder)] if folder.is_dir() else []:
        if file.name.startswith(f"{digest}-") and (model := file.read_bytes()) and file.name == _named(digest, model):
            return model
    channels, axes = input_shape(network)
    model = onnx_bytes(copy.deepcopy(network).eval(), torch.zeros(2, channels, *[64] * axes))
    try:
        with atomic_path(folder / _named(digest, model)) as temporary:
            Path(temporary).write_bytes(model)
    except OSError as error:
        _logger.warning("cannot keep the exported network (%s): name another folder by MONAI_EXT_CACHE", error)
    return model


def _digest(network: nn.Module) -> str:
    digest = hashlib.sha256(f"{network} {monai_ext.__version__} {torch.__version__}".encode())
    for name, values in network.state_dict().items():
        digest.update(f"{name} {values.dtype}".encode())
        digest.update(values.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:32]


def _named(digest: str, model: bytes) -> str:
    return f"{digest}-{hashlib.sha256(model).hexdigest()[:32]}.onnx"

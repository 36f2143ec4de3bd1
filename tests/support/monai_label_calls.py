"""What MONAI Label 0.8.5 does with a bundle, call by call, without its server: `BundleInferTask`, `BundleTrainTask`."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import monai.bundle
import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor, decollate_batch
from monai.transforms import Compose, Resize


class InferTask:
    """Of a bundle folder; `labels` are name -> value as `/info` lists them."""

    def __init__(self, root: Path):
        self.root = root
        self.config = ConfigParser()
        self.config.read_config(str(root / "configs/inference.json"))
        self.config.config.update({"bundle_root": str(root)})
        self.config.config["use_click"] = False
        formats = json.loads((root / "configs/metadata.json").read_text(encoding="utf-8"))["network_data_format"]
        self.image, self.pred = next(iter(formats["inputs"])), next(iter(formats["outputs"]))
        names = formats["outputs"][self.pred]["channel_def"]
        self.labels = {name.lower(): int(value) for value, name in names.items() if name.lower() != "background"}
        self.network = self.config.get_parsed_content("network_def", instantiate=True)

    def __call__(self, file: Path) -> tuple[np.ndarray, np.ndarray | None]:
        """The array that is written, axes reversed as ITK takes them, and its affine."""
        request = {"model": self.root.name, "image": str(file), "device": "cpu", "result_extension": ".nii.gz"}
        data: dict[str, Any] = {**request, "image_path": str(file), "model_filename": ["model.pt"]}
        steps = self.config.get_parsed_content("preprocessing", instantiate=True)
        data = self._run(data, list(steps.transforms) if isinstance(steps, Compose) else steps)
        inferer = self.config.get_parsed_content("inferer", instantiate=True)
        network = copy.deepcopy(self.network)
        weights = torch.load(self.root / "models/model.pt", map_location="cpu", weights_only=True)
        network.load_state_dict(weights.get("model", weights), strict=False)
        network.eval()
        inputs = data[self.image] if torch.is_tensor(data[self.image]) else torch.from_numpy(data[self.image])
        with torch.no_grad():
            outputs = inferer(inputs[None], network)
        data[self.pred] = decollate_batch(outputs)[0] if isinstance(outputs, dict) else outputs[0]
        steps = self.config.get_parsed_content("postprocessing", instantiate=True)
        data = self._run(data, list(steps.transforms) if isinstance(steps, Compose) else steps)
        data = self._restored(data)
        return self._written(data)

    @staticmethod
    def _run(data: dict, steps: Sequence[Any]) -> dict:
        for step in steps:
            data = step(data)
            data.setdefault("latencies", {})[type(step).__name__] = 0.0
        return data

    def _restored(self, data: dict) -> dict:
        """`Restored`, which it adds after the bundle's own steps."""
        image, result = data.get(self.image), data[self.pred]
        meta = image.meta if isinstance(image, MetaTensor) else data.get(f"{self.image}_meta_dict", {})
        size = result.shape[1:]
        wanted = meta.get("spatial_shape", size)[-len(size) :]
        if np.any(np.not_equal(size, wanted)):
            result = Resize(spatial_size=wanted, mode="nearest")(result)
        result = result if len(result.shape) <= 3 else result[0] if result.shape[0] == 1 else result
        return {**data, self.pred: result, f"{self.pred}_meta_dict": {"affine": meta.get("original_affine")}}

    def _written(self, data: dict) -> tuple[np.ndarray, np.ndarray | None]:
        result, affine = data[self.pred], data[f"{self.pred}_meta_dict"]["affine"]
        pixels = result.array if isinstance(result, MetaTensor) else np.asarray(result)
        return pixels.transpose().copy(), affine if pixels.ndim > 2 else None


def train(root: Path, pairs: Sequence[dict[str, str]], *, max_epochs: int, **further: Any) -> None:
    """`run_single_gpu`, with a quarter of the pairs for validation."""
    config = ConfigParser()
    config.read_config(str(root / "configs/train.json"))
    handlers = config.get("train#handlers", [])
    weights = root / "models/model.pt"
    if weights.exists() and not [each for each in handlers if each.get("_target_") == "CheckpointLoader"]:
        loader = {"_target_": "CheckpointLoader", "load_path": str(weights), "load_dict": {"model": "$@network"}}
        handlers.insert(0, {**loader, "strict": False})
    held_out = max(1, len(pairs) // 4)
    overrides = {
        "bundle_root": str(root),
        "train#trainer#max_epochs": max_epochs,
        "train#dataset#data": [dict(pair) for pair in pairs[held_out:]],
        "device": "cpu",
        "train#handlers": handlers,
        "validate#dataset#data": [dict(pair) for pair in pairs[:held_out]],
    }
    monai.bundle.run(
        run_id="run",
        init_id=None,
        final_id=None,
        meta_file=str(root / "configs/metadata.json"),
        config_file=str(root / "configs/train.json"),
        **{**overrides, **further},
    )

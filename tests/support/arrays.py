"""A decoder of arrays in files, and its data set."""

from __future__ import annotations

import time

import numpy as np
import torch

from monai_ext.data import DeviceDataset


class ReadArrays:
    """Decoder of the tests: an .npy image, its threshold as label; counts its calls outside of its attributes."""

    calls: list[str] = []

    def __init__(self, threshold: int = 127, seconds: float = 0.0) -> None:
        self.threshold, self.seconds = threshold, seconds

    def __call__(self, item: dict) -> dict:
        ReadArrays.calls.append(item["id"])
        time.sleep(self.seconds)
        image = torch.from_numpy(np.load(item["image"]))
        return {"id": item["id"], "image": image, "label": (image[:1] > self.threshold).byte()}


def dataset(items: list[dict], transform=None, **settings) -> DeviceDataset:
    return DeviceDataset(items, transform or ReadArrays(), progress=False, **settings)

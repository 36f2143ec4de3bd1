"""Calibrate probability maps by a temperature."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from monai_ext.formulas.temperature import check_temperature, tempered

__all__ = ["Temperedd"]


class Temperedd(MapTransform):
    """Probabilities at a temperature, see `monai_ext.formulas.temperature.tempered`.

    Args:
        keys: maps of probabilities.
        temperature: 1 leaves them as they are.
    """

    def __init__(self, keys: KeysCollection, temperature: float = 1.0):
        super().__init__(keys)
        self.temperature = check_temperature(temperature)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        for key in self.key_iterator(item) if self.temperature != 1 else ():
            item[key] = tempered(torch.as_tensor(item[key]), self.temperature)
        return item

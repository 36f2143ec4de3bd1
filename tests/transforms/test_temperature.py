"""The temperature as a transform of predictions."""

from __future__ import annotations

import torch

from monai_ext.formulas.temperature import tempered
from monai_ext.transforms import Temperedd


def test_only_the_named_maps_change():
    item = {"pred": torch.rand(1, 3, 3), "label": torch.rand(1, 3, 3)}
    found = Temperedd("pred", 2.0)(item)
    assert torch.equal(found["pred"], tempered(item["pred"], 2.0)) and found["label"] is item["label"]
    assert Temperedd("pred")(item)["pred"] is item["pred"]

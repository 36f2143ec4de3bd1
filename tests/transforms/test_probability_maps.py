"""What transforms of probability maps have in common."""

from __future__ import annotations

import pytest
import torch

from monai_ext.transforms.probability_maps import ProbabilityMapTransform


class Halved(ProbabilityMapTransform):
    def one_channel(self, probability):
        assert probability.ndim == 2
        return probability / 2


def test_each_channel_of_the_named_maps_changes_and_only_if_enabled():
    maps = torch.rand(3, 4, 5)
    item = {"pred": maps, "label": maps}
    found = Halved("pred")(item)
    assert torch.equal(found["pred"], maps / 2) and found["label"] is maps and item["pred"] is maps
    assert Halved("pred", enabled="false")(item)["pred"] is maps


def test_errors_name_what_is_wrong():
    with pytest.raises(ValueError, match="threshold=0 must lie between 0 and 1"):
        Halved("pred", threshold=0)
    with pytest.raises(ValueError, match=r"'pred' must be a map \(C, H, W\), not of shape \(4, 5\)"):
        Halved("pred")({"pred": torch.rand(4, 5)})

from __future__ import annotations

import pytest
import torch
from torch import nn

from monai_ext.losses import FirstSamples


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_the_first_samples_of_each_case_are_compared_with_its_own_target(count):
    samples = torch.arange(6.0).reshape(2, 3, 1, 1, 1).expand(2, 3, 1, 2, 2)
    target = torch.tensor([0.0, 3.0]).reshape(2, 1, 1, 1).expand(2, 1, 2, 2)
    expected = {1: 0.0, 2: 0.5}.get(count, 1.0)
    assert FirstSamples(nn.L1Loss(), count)(samples, target) == expected


def test_no_sample_at_all_is_refused():
    with pytest.raises(ValueError, match="count=0"):
        FirstSamples(nn.L1Loss(), 0)

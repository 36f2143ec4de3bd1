"""Settings of objects as text."""

from __future__ import annotations

import functools

import pytest
import torch
from arrays import ReadArrays

from monai_ext.storage.object_key import describe


def test_settings_are_told_from_values_not_addresses() -> None:
    def closure(n: int):
        return lambda item: {"x": n}

    assert describe(ReadArrays(3)) == describe(ReadArrays(3)) != describe(ReadArrays(4))
    assert describe(closure(1)) == describe(closure(1)) != describe(closure(2))
    assert describe(functools.partial(int, base=2)) != describe(functools.partial(int, base=3))
    assert describe({"b": 1, "a": torch.ones(2)}) == describe({"a": torch.ones(2), "b": 1})
    with pytest.raises(ValueError, match=r"object are unknown.*cache_key\(\)"):
        describe([object()])

"""ONNX models of networks; that they give equal numbers at other sizes is tested with `export`."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from monai_ext.networks import RaterHeads
from monai_ext.networks.onnx_files import input_shape, onnx_bytes


def test_the_input_is_that_of_the_first_convolution():
    assert input_shape(nn.Sequential(nn.ReLU(), nn.Conv2d(1, 2, 3), nn.Conv2d(2, 3, 3))) == (1, 2)
    assert input_shape(nn.Conv3d(4, 2, 3)) == (4, 3)
    with pytest.raises(ValueError, match="no convolution"):
        input_shape(RaterHeads(nn.ReLU()))


def test_only_named_axes_are_free():
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(onnx_bytes(nn.Conv2d(3, 2, 1), torch.rand(2, 3, 8, 9), free=[0, 3]))
    axes = model.graph.input[0].type.tensor_type.shape.dim
    assert [axis.dim_param or axis.dim_value for axis in axes] == ["N", 3, 8, "W"]


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ValueError, match="pip install onnx onnxruntime"):
        onnx_bytes(nn.Conv2d(3, 2, 1), torch.rand(2, 3, 8, 8))

"""Networks for inference alone against the network that they stand for."""

from __future__ import annotations

import logging
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from monai_ext.engines import inference
from monai_ext.engines.inference import ExportedNetwork, inference_network
from monai_ext.networks import OrderedHeads, RaterHeads, RaterSampler


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MONAI_EXT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "onnx"


@pytest.fixture
def exports(monkeypatch):
    """What was exported; the model is the number of the export."""
    found: list = []

    def exported(network, *_):
        found.append(network)
        return b"%d" % len(found)

    monkeypatch.setattr(inference, "onnx_bytes", exported)
    return found


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 1, 1))


def test_pytorch_merges_batch_norm_in_a_copy():
    network = small()
    network(torch.rand(4, 3, 8, 8))  # statistics of a batch
    faster = inference_network(network)
    assert isinstance(faster.get_submodule("1"), nn.Identity) and not faster.training
    assert isinstance(network[1], nn.BatchNorm2d) and network.training
    images = torch.rand(2, 3, 5, 7)
    torch.testing.assert_close(faster(images), network.eval()(images))


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_other_engines_give_what_pytorch_gives(engine):
    pytest.importorskip("onnx")
    pytest.importorskip(engine)
    network = nn.Sequential(small(), nn.Conv2d(1, 2, 3, 2, 1), nn.Upsample(scale_factor=2)).eval()
    other = inference_network(network, engine, "fp32")
    with torch.inference_mode():
        for shape in ((8, 3, 36, 48), (1, 3, 33, 17)):
            images = torch.randn(shape).contiguous(memory_format=torch.channels_last)
            expected = network(images)
            given = other(images)
            other(torch.zeros_like(images))  # which must not overwrite the result
            assert (given - expected).abs().max() < 1e-3 * expected.abs().max()


@pytest.mark.parametrize("method", [RaterHeads, OrderedHeads])
def test_samples_are_drawn_from_the_maps_of_another_engine(method, exports, monkeypatch):
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)).eval()
    sampler = method(network)
    monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace())

    def compute(images: np.ndarray) -> np.ndarray:
        return network(torch.from_numpy(images)).numpy()

    monkeypatch.setattr(inference, "_in_onnxruntime", lambda package, model: compute)
    faster: Any = inference_network(sampler, "onnxruntime")
    pytorch: Any = inference_network(sampler)
    assert isinstance(faster, method) and isinstance(faster.network, ExportedNetwork) and len(exports) == 1
    assert sampler.network is network
    images = torch.rand(2, 1, 6, 6)
    for other in (faster, pytorch):
        given, expected = other.predict(images, 4), sampler.predict(images, 4)
        torch.testing.assert_close(given.share, expected.share)
        torch.testing.assert_close(given.samples, expected.samples)


def test_methods_that_draw_noise_are_left_to_pytorch():
    class Noisy(RaterSampler):
        pass

    with pytest.raises(ValueError, match="heads and ordered, and this one is Noisy: leave --engine out"):
        inference_network(Noisy(), "onnxruntime")


def test_arrays_go_in_and_tensors_come_out():
    given = ExportedNetwork(lambda images: images[:, :1] * 2)(torch.ones(1, 3, 2, 2, dtype=torch.bfloat16))
    assert given.dtype == torch.float32 and given.tolist() == [[[[2, 2], [2, 2]]]]


def test_an_exported_network_is_kept_by_its_weights_and_checked(exports, cache):
    network = small()
    assert inference._exported(network) == inference._exported(network) == b"1"
    (file,) = cache.iterdir()
    with torch.no_grad():
        network[3].bias.add_(1)
    assert inference._exported(network) == b"2" and len(list(cache.iterdir())) == 2
    file.write_bytes(b"0")
    with torch.no_grad():
        network[3].bias.sub_(1)
    assert inference._exported(network) == b"3"  # what is damaged is not used
    assert all(not exported.training for exported in exports) and network.training


def test_a_folder_that_cannot_be_written_is_no_obstacle(exports, cache, caplog):
    cache.parent.write_text("a file")
    with caplog.at_level(logging.WARNING):
        assert inference._exported(small()) == b"1"
    assert "MONAI_EXT_CACHE" in caplog.text


@pytest.mark.usefixtures("exports")
def test_engines_are_given_threads_and_precision(monkeypatch):
    seen: dict = {}

    def compiled(model, device, settings):
        seen.update(settings, model=model, device=device)
        request = SimpleNamespace(infer=lambda images, **_: [np.zeros((1, 1, 2, 2), np.float32)])
        return SimpleNamespace(create_infer_request=lambda: request)

    core = SimpleNamespace(read_model=lambda model: model, compile_model=compiled)
    monkeypatch.setitem(sys.modules, "openvino", SimpleNamespace(Core=lambda: core))
    for precision, hint in (("fp32", "f32"), ("bf16", "bf16")):
        assert inference_network(small(), "openvino", precision)(torch.zeros(1, 3, 2, 2)).shape == (1, 1, 2, 2)
        assert seen["INFERENCE_PRECISION_HINT"] == hint
    assert seen["INFERENCE_NUM_THREADS"] == torch.get_num_threads() and seen["model"] == b"1"


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_missing_engine_is_named_with_the_way_out(engine, monkeypatch):
    monkeypatch.setitem(sys.modules, engine, None)
    with pytest.raises(ValueError, match=f"--engine {engine} needs .*pip install onnx {engine}"):
        inference_network(small(), engine)


def test_unknown_engines_and_other_devices_are_refused():
    with pytest.raises(ValueError, match="choose one of torch, onnxruntime, openvino"):
        inference_network(small(), "tensorrt")
    with pytest.raises(ValueError, match="computes on the CPU.*add --device cpu"):
        inference_network(small().to("meta"), "onnxruntime")

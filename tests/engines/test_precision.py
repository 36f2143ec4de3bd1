"""The number format of a training by device and processor."""

from __future__ import annotations

import pytest
import torch

from monai_ext.engines import autocast_dtype, precision


def test_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="precision='half'.*'auto', 'bf16' or 'fp32'"):
        autocast_dtype("cpu", "half")


@pytest.mark.parametrize(
    ("amx", "avx512", "vendor", "expected"),
    [
        (False, False, "AuthenticAMD", None),
        (False, True, "AuthenticAMD", torch.bfloat16),
        (False, True, "GenuineIntel", None),  # instructions that take longer than those of float32
        (False, True, "", None),
        (True, True, "GenuineIntel", torch.bfloat16),
    ],
)
def test_auto_precision_follows_the_processor(monkeypatch, amx, avx512, vendor, expected):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512, raising=False)
    monkeypatch.setattr(precision, "cpu_vendor", lambda: vendor)
    assert autocast_dtype("cpu") is expected
    assert precision.has_bfloat16("cpu") is (amx or avx512)
    assert autocast_dtype("cpu", "bf16") is torch.bfloat16 and autocast_dtype("cpu", "fp32") is None


def test_the_vendor_is_read_where_the_system_tells_it(monkeypatch):
    vendor = precision.cpu_vendor.__wrapped__
    monkeypatch.setattr(precision.Path, "read_text", lambda *_, **__: "processor\t: 0\nvendor_id\t: AuthenticAMD\n")
    assert vendor() == "AuthenticAMD"

    def missing(*_: object, **__: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(precision.Path, "read_text", missing)
    monkeypatch.setattr(precision.platform, "processor", lambda: "Intel64 Family 6 Model 143 Stepping 8, GenuineIntel")
    assert vendor() == "GenuineIntel"
    monkeypatch.setattr(precision.platform, "processor", lambda: "")
    assert vendor() == ""


def gradients(convolution, image):
    convolution.zero_grad()
    output = convolution(image)
    garbage = [torch.full((4**power,), torch.nan) for power in range(2, 10) for _ in range(20)]
    del garbage  # memory that is given out again holds NaN
    output.float().square().sum().backward()
    return convolution.weight.grad


@pytest.mark.parametrize("kind", [torch.nn.Conv3d, torch.nn.ConvTranspose3d])
@pytest.mark.parametrize("shape", [(2, 4, 4), (2, 2, 1), (3, 3, 3), (8, 6, 2)])
def test_weights_of_small_volumes_learn_from_gradients_of_float32(shape, kind):
    torch.manual_seed(0)
    image = torch.randn(3, 16, *shape)
    convolution = kind(16, 16, 3, padding=1)
    expected = gradients(convolution, image).clone()
    precision.small_volumes_in_float32(convolution, torch.device("cpu"), torch.bfloat16)
    with precision.autocast(torch.device("cpu"), torch.bfloat16):
        for _ in range(5):
            found = gradients(convolution, image)
            assert (found - expected).abs().max() < 0.05 * expected.abs().max()
        assert torch.is_autocast_enabled("cpu")


def test_only_small_volumes_in_training_on_a_cpu_leave_bfloat16_and_all_come_back():
    convolution = torch.nn.Conv3d(1, 1, 3, padding=1, dilation=1)
    precision.small_volumes_in_float32(convolution, torch.device("cuda"), torch.bfloat16)
    precision.small_volumes_in_float32(convolution, torch.device("cpu"), None)
    assert not convolution._forward_hooks
    precision.small_volumes_in_float32(convolution, torch.device("cpu"), torch.bfloat16)
    small, large = torch.rand(1, 1, 2, 4, 4), torch.rand(1, 1, 3, 4, 4)
    with precision.autocast(torch.device("cpu"), torch.bfloat16):
        assert convolution(small).dtype == torch.float32 and convolution(large).dtype == torch.bfloat16
        with torch.no_grad():
            assert convolution(small).dtype == torch.bfloat16
        with pytest.raises(RuntimeError, match="channels"):
            convolution(torch.rand(1, 2, 2, 4, 4))
        assert torch.is_autocast_enabled("cpu")
    assert convolution(small).dtype == torch.float32 and not torch.is_autocast_enabled("cpu")

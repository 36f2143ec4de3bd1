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

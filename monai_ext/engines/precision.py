"""Number format of a training step: bfloat16 autocast where the hardware is fast at it, else float32."""

from __future__ import annotations

import logging
import platform
import re
from functools import cache
from pathlib import Path

import torch

__all__ = ["autocast", "autocast_dtype", "cpu_vendor", "has_bfloat16"]

_logger = logging.getLogger(__name__)


def autocast_dtype(device: torch.device | str, precision: str = "auto") -> torch.dtype | None:
    """The autocast dtype for `device`, None for plain float32.

    Args:
        device: where the network runs.
        precision: `"auto"` takes bfloat16 on CUDA devices and on CPUs that gain by it: those with AMX, and AMD's with
            avx512_bf16. On an Intel Xeon with avx512_bf16 alone a step takes 1.4 to 1.5 times as long as in float32
            (`python -m benchmarks --only step,adversarial`), and elsewhere bfloat16 is emulated.
            `"bf16"` and `"fp32"` are taken anywhere.

    Raises:
        ValueError: another `precision`.
    """
    if precision not in ("auto", "bf16", "fp32"):
        raise ValueError(f"precision={precision!r}: choose 'auto', 'bf16' or 'fp32'.")
    if precision == "fp32":
        return None
    if precision == "bf16":
        return torch.bfloat16
    kind = torch.device(device).type
    if kind == "cuda":
        fast = torch.cuda.is_bf16_supported()
    elif kind == "cpu":
        fast = _has("_is_amx_tile_supported") or (_has("_is_avx512_bf16_supported") and cpu_vendor() == "AuthenticAMD")
    else:
        fast = False
    return torch.bfloat16 if fast else None


def has_bfloat16(device: torch.device | str) -> bool:
    """Whether the device has instructions for bfloat16, whether they are fast or not."""
    kind = torch.device(device).type
    if kind == "cpu":
        return _has("_is_avx512_bf16_supported") or _has("_is_amx_tile_supported")
    return autocast_dtype(device) is not None


def _has(probe: str) -> bool:
    return getattr(torch.cpu, probe, lambda: False)()


@cache
def cpu_vendor() -> str:
    """Vendor of the processor, "GenuineIntel" or "AuthenticAMD"; "" if unknown."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = f"vendor_id : {platform.processor().rpartition(' ')[2]}"
    found = re.search(r"vendor_id\s*:\s*(\S+)", text)
    return found.group(1) if found else ""


def autocast(device: torch.device, dtype: torch.dtype | None) -> torch.autocast:
    """An autocast context: of `dtype`, or switched off for None. It may be entered again and again, not within itself.

    Making one takes longer than entering it, since the device is queried: keep it for a loop.
    """
    return torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None)

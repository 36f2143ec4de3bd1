"""Which number format a training step runs in: bfloat16 autocast where the hardware is fast at it, else float32."""

from __future__ import annotations

import logging

import torch

__all__ = ["autocast", "autocast_dtype"]

_logger = logging.getLogger(__name__)


def autocast_dtype(device: torch.device | str, precision: str = "auto") -> torch.dtype | None:
    """The autocast dtype for `device`, None for plain float32.

    Args:
        device: where the network runs.
        precision: `"auto"` takes bfloat16 on CUDA devices and on CPUs that compute in it (avx512_bf16 or AMX; elsewhere
            it is emulated and slower than float32); `"bf16"` and `"fp32"` insist.

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
        fast = any(
            getattr(torch.cpu, probe, lambda: False)()
            for probe in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        )
    else:
        fast = False
    return torch.bfloat16 if fast else None


def autocast(device: torch.device, dtype: torch.dtype | None) -> torch.autocast:
    """An autocast context: of `dtype`, or switched off for None. It may be entered again and again, not within itself.

    Making one asks the device what it can do, which takes longer than entering it: keep it for a loop.
    """
    return torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None)

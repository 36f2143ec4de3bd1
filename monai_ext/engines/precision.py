"""Number format of a training step: bfloat16 autocast where the hardware is fast at it, else float32."""

from __future__ import annotations

import logging
import platform
import re
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["autocast", "autocast_dtype", "cpu_vendor", "has_bfloat16", "small_volumes_in_float32"]

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


def small_volumes_in_float32(network: nn.Module, device: torch.device, dtype: torch.dtype | None) -> None:
    """Train 3-D convolutions in float32 where their input is smaller than the kernel along an axis, on a CPU.

    There the gradients of the weights in bfloat16 are wrong: oneDNN 3.12, which PyTorch 2.13 calls, reads and even
    writes outside of its arrays. Such inputs are those of the deepest levels, so that float32 costs next to no time.
    Nothing is changed on other devices, in other formats, or in networks for images. Transposed convolutions count too.

    >>> network = nn.Conv3d(1, 1, 3, padding=1)
    >>> small_volumes_in_float32(network, torch.device("cpu"), torch.bfloat16)
    >>> with autocast(torch.device("cpu"), torch.bfloat16):
    ...     network(torch.rand(1, 1, 2, 4, 4)).dtype, network(torch.rand(1, 1, 3, 4, 4)).dtype
    (torch.float32, torch.bfloat16)
    """
    if device.type != "cpu" or dtype != torch.bfloat16:
        return
    for module in network.modules():
        if isinstance(module, (nn.Conv3d, nn.ConvTranspose3d)) and max(module.kernel_size) > 1:
            hooks = _Float32WhereSmall(module)
            module.register_forward_pre_hook(hooks.before)
            module.register_forward_hook(hooks.after, always_call=True)


class _Float32WhereSmall:
    """Hooks that leave autocast for the inputs on which a convolution's kernel does not fit, and enter it again."""

    def __init__(self, convolution: nn.Conv3d | nn.ConvTranspose3d):
        sizes = zip(convolution.kernel_size, convolution.dilation, strict=True)
        self.extents = [step * (size - 1) + 1 for size, step in sizes]
        self.left = False

    def before(self, _: nn.Module, args: tuple[Tensor]) -> tuple[Tensor] | None:
        small = any(size < extent for size, extent in zip(args[0].shape[2:], self.extents, strict=True))
        self.left = small and torch.is_grad_enabled() and torch.is_autocast_enabled("cpu")
        if not self.left:
            return None
        torch.set_autocast_enabled("cpu", False)
        return (args[0].float(),)

    def after(self, *_: Any) -> None:
        if self.left:
            torch.set_autocast_enabled("cpu", True)

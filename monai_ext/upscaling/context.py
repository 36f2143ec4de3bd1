"""The context that a window needs so that the output for its core is that for the whole image."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = ["CONTEXTS", "needed_context"]

CONTEXTS = (16, 24, 32, 48, 64)
LARGEST = 80
CORE = 16
TOLERANCE = 0.25 / 255  # what remains of it, on images of millions of pixels, stays below one level of 8 bits

_logger = logging.getLogger(__name__)


@torch.no_grad()
def needed_context(
    network: Callable[[Tensor], Tensor],
    *,
    channels: int,
    device: torch.device | str = "cpu",
    contexts: Sequence[int] = CONTEXTS,
) -> int:
    """The least of `contexts` (pixels on each side) beyond which more would change no value by a quarter of a level.

    Measured on windows cut from white noise, which needs more context than pictures; the largest of `contexts` where
    even that is not enough.

    Args:
        network: (1, channels, h, w) -> (1, any, s*h, s*w), values in [0, 1].
        contexts: in rising order, below 80.
    """
    side = CORE + 2 * LARGEST
    noise = torch.rand(1, channels, side, side, generator=torch.Generator().manual_seed(0)).to(device)

    def core(context: int) -> Tensor:
        window = noise[..., LARGEST - context : side - LARGEST + context, LARGEST - context : side - LARGEST + context]
        output = network(window.contiguous()).float()
        scale = output.shape[-1] // window.shape[-1]
        inside = slice(scale * context, scale * (context + CORE))
        return output[..., inside, inside]

    whole = core(LARGEST)
    difference = float("inf")
    for context in contexts:
        difference = float((core(context) - whole).abs().max())
        if difference <= TOLERANCE:
            return context
    _logger.warning(
        f"the network's receptive field is wider than {contexts[-1]} pixels: seams of about {255 * difference:.1f} of "
        "255 levels may show; a larger --tile has room for more, up to 256, and --mode feather hides them."
    )
    return contexts[-1]

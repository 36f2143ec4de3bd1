"""Evaluation mode, noise and padding for networks of which samples are drawn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "check_count",
    "crop_like",
    "evaluation_mode",
    "kept_in_training",
    "noise_by_case",
    "normal_noise",
    "pad_to_multiples",
    "seeded_globals",
]

KEPT = "_kept_in_training"


def check_count(name: str, value: int) -> None:
    """Raise a ValueError where a count is below 1."""
    if value < 1:
        raise ValueError(f"{name}={value} must be at least 1.")


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Evaluation mode, but see `kept_in_training`, and no gradients inside; afterwards every layer has its own mode."""
    modes = [(layer, layer.training) for layer in module.modules()]
    try:
        module.eval()
        for layer, _ in modes:
            if getattr(layer, KEPT, False):
                layer.train()
        with torch.no_grad():
            yield
    finally:
        for layer, training in modes:
            layer.training = training


@contextmanager
def kept_in_training(layers: Iterable[nn.Module]) -> Iterator[None]:
    """`evaluation_mode` inside leaves these layers, such as dropout, in training mode."""
    layers = list(layers)
    try:
        for layer in layers:
            setattr(layer, KEPT, True)
        yield
    finally:
        for layer in layers:
            delattr(layer, KEPT)


def pad_to_multiples(image: Tensor, multiples: list[int]) -> Tensor:
    """`image` (B, C, *spatial) with its border repeated at the end of each axis, up to multiples of one number an axis.

    Raises:
        ValueError: the image has another number of axes than the network.
    """
    if image.ndim != 2 + len(multiples):
        raise ValueError(
            f"an image of {image.ndim} axes for a network of {len(multiples)} spatial ones: pass (B, C, H, W) for "
            "spatial_dims=2 and (B, C, H, W, D) for 3."
        )
    padding: list[int] = []
    for axis in range(len(multiples) - 1, -1, -1):  # the last axis first
        side, multiple = image.shape[2 + axis], multiples[axis]
        padding += [0, (multiple - side % multiple) % multiple]
    return F.pad(image, padding, mode="replicate")


def crop_like(maps: Tensor, image: Tensor) -> Tensor:
    """`maps` (B, N, ...) cut at the end of each axis to the size of `image` (B, C, *spatial)."""
    if image.ndim == 4:
        return maps[..., : image.shape[2], : image.shape[3]]
    return maps[..., : image.shape[2], : image.shape[3], : image.shape[4]]


def normal_noise(
    shape: Sequence[int], *, device: torch.device | str, generator: torch.Generator | None = None
) -> Tensor:
    """Standard normal float32 numbers on `device`, drawn where `generator` lives: a CPU generator serves any device."""
    source = device if generator is None else generator.device
    return torch.randn(tuple(shape), device=source, generator=generator).to(device)


def noise_by_case(
    cases: int, shape: Sequence[int], *, device: torch.device | str, generator: torch.Generator | None = None
) -> Tensor:
    """`normal_noise` (cases, *shape), drawn for one case after the other, so that batches of any size get the same."""
    return torch.stack([normal_noise(shape, device=device, generator=generator) for _ in range(cases)])


@contextmanager
def seeded_globals(generator: torch.Generator | None, device: torch.device) -> Iterator[None]:
    """Seed the global generators of CPU and `device` from `generator` inside, and restore them afterwards."""
    if generator is None:
        yield
        return
    seed = int(torch.randint(2**62, (1,), device=generator.device, generator=generator))
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed the other devices for good
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield

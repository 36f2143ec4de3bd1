"""Checks of arguments that would otherwise give a wrong number without an error.

What only a value shows (labels above 1, grey values up to 255) is an error on the CPU. On other devices an exception
would wait for the device: there the functions return which cases are bad, and metrics give these the score NaN.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
from torch import Tensor

__all__ = [
    "FARTHEST",
    "check_choice",
    "check_masks",
    "check_not_negative",
    "check_same_shape",
    "check_spatial",
    "checked_range",
    "has_labels",
    "not_probabilities",
]

FARTHEST = 0.5  # how far outside [0, 1] a target may reach: resampling overshoots; [-1, 1] and grey values are beyond
ROUNDING = 1e-3  # how far outside [0, 1] resized probabilities may reach
MOST_CHANNELS = 16  # a last axis of so many at most, far shorter than the two before it, is no axis of an image
MOST_STRUCTURES = 16  # a third axis of so many at most, and half of the two after it, may be one of structures


def check_same_shape(**tensors: Tensor) -> None:
    """Raise a ValueError unless the tensors, which the error names by their keywords, have one shape."""
    if len({tensor.shape for tensor in tensors.values()}) > 1:
        *first, last = (f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items())
        raise ValueError(f"{', '.join(first)} and {last} differ in shape.")


def check_not_negative(name: str, value: float) -> float:
    """`value` as a float; a ValueError unless it is finite and at least 0."""
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{name}={value} must be finite and at least 0.")
    return float(value)


def check_choice(name: str, value: str, choices: Collection[str]) -> str:
    """`value`; a ValueError unless it is one of `choices`."""
    if value not in choices:
        raise ValueError(f"{name}={value!r} must be one of {', '.join(choices)}.")
    return value


def check_spatial(name: str, tensor: Tensor) -> None:
    """Raise a ValueError unless `tensor` is (B, C, H, W) or (B, C, H, W, D) with the channels in second place."""
    shape = tuple(tensor.shape)
    if tensor.ndim not in (4, 5):
        raise ValueError(
            f"{name} {shape} must be (B, C, H, W) or (B, C, H, W, D): batch and channels before the pixels"
            + ("; several structures are scored by per_structure." if tensor.ndim == 6 else ".")
        )
    smallest = min(shape[1:3])
    if tensor.ndim == 4 and (
        shape[3] == 1 < smallest or (shape[3] <= MOST_CHANNELS and 4 * shape[3] <= smallest >= 16)
    ):
        raise ValueError(f"{name} {shape} has its channel last: pass (B, C, H, W), for example {name}.movedim(-1, 1).")


def check_masks(name: str, masks: Tensor, *, like: Tensor | None = None) -> Tensor:
    """`masks`; a ValueError unless they are bool or integers (B, N, H, W[, D]) with the batch and pixels of `like`.

    Five axes of which the third is short are refused as well: they may be K structures of an image, which would be
    counted as one.
    """
    check_spatial(name, masks)
    shape = tuple(masks.shape)
    if masks.ndim == 5 and 1 < shape[2] <= MOST_STRUCTURES and 2 * shape[2] <= min(shape[3:]):
        raise ValueError(
            f"{name} {shape} may be a volume or {shape[2]} structures of an image: score structures by "
            f"per_structure(..., structures={shape[2]}) or by the metric's structures={shape[2]}, and move the short "
            "axis of a volume last, (B, N, H, W, D)."
        )
    if masks.shape[1] == 0:
        raise ValueError(f"{name} {tuple(masks.shape)} must be (B, N, H, W) with N >= 1 masks for each image.")
    if masks.is_floating_point():
        raise ValueError(f"{name} are {masks.dtype}: binarise them first (bool or integers), for example {name} > 0.5.")
    if like is not None and (masks.shape[0] != like.shape[0] or masks.shape[2:] != like.shape[2:]):
        raise ValueError(f"{name} {tuple(masks.shape)} and masks {tuple(like.shape)} differ in batch or in pixels.")
    return masks


def has_labels(name: str, masks: Tensor, *, present: Tensor | None = None) -> Tensor:
    """Which of the masks (B, N, ...) hold several labels or grey values instead of one foreground value: (B, N), bool.

    Foreground may be 1, 255 or any other one value; floating values within [0, 1] are no labels. On the CPU such a mask
    is an error.

    >>> has_labels("masks", torch.tensor([[[[0, 255]]]]))
    tensor([[False]])

    Args:
        present: (B, N), bool; masks outside of it may hold anything.

    Raises:
        ValueError: there is such a mask, and it is on the CPU.
    """
    if masks.dtype == torch.bool or masks.numel() == 0:
        return masks.new_zeros(masks.shape[:2], dtype=torch.bool)
    rows = masks.flatten(2)
    top = rows.amax(-1)
    on_host = masks.device.type == "cpu"
    if on_host and top.max() <= 1 and rows.min() >= 0:  # the usual case, in two passes
        return torch.zeros_like(top, dtype=torch.bool)
    several = ((rows != 0) & (rows != top[..., None])).any(-1) & ((top > 1) | (rows.amin(-1) < 0))
    if present is not None:
        several &= present
    if on_host and several.any():
        raise ValueError(
            f"{name} hold several values besides 0, up to {top[several].max().item():g}: score each label by itself, "
            f"for example {name} == 1, and divide grey values that stand for probabilities by 255."
        )
    return several


def not_probabilities(name: str, values: Tensor, *, threshold: float) -> Tensor:
    """Which of the maps (B, N, ...) reach outside [0, 1], though the threshold is of probabilities: (B, N), bool.

    Thresholds outside (0, 1) are of logits, and fit all values. On the CPU such a map is an error.

    Raises:
        ValueError: there is such a map, and it is on the CPU.
    """
    if not 0 < threshold < 1 or not values.is_floating_point() or values.numel() == 0:
        return values.new_zeros(values.shape[:2], dtype=torch.bool)
    low, high = values.flatten(2).aminmax(dim=-1)
    beyond = (low < -ROUNDING) | (high > 1 + ROUNDING)
    if values.device.type == "cpu" and beyond.any():
        raise ValueError(
            f"{name} reaches from {low.min().item():g} to {high.max().item():g}, and the threshold {threshold:g} is "
            "for probabilities: apply the sigmoid first, or set the threshold 0 for logits."
        )
    return beyond


def checked_range(name: str, images: Tensor) -> Tensor:
    """Which of the images (B, ...) reach far outside [0, 1]: (B,), bool. On the CPU such an image is an error.

    Raises:
        ValueError: integers, or there is such an image, and it is on the CPU.
    """
    way_out = "scores are for images in [0, 1]: divide by the range of the values, 255 for images of 8 bits."
    if not images.is_floating_point():
        raise ValueError(f"{name} is {images.dtype}, {way_out}")
    low, high = images.flatten(1).aminmax(dim=1)
    beyond = (low < -FARTHEST) | (high > 1 + FARTHEST)
    if images.device.type == "cpu" and beyond.any():
        raise ValueError(f"{name} reaches from {low.min().item():g} to {high.max().item():g}, {way_out}")
    return beyond

"""The axis of structures: K of them in each image, such as the tasks of QUBIQ or the regions of class labels.

Sets of masks of several structures are (B, N, K, *spatial), N raters, heads or samples, and a map of one set is
(B, K, *spatial). Structures are independent binary masks, which may overlap or lie in each other. A volume
(B, N, H, W, D) has as many axes as K structures of an image, so that K is always given and never guessed.

Presence is (B, N), or (B, N, K) where a rater may have marked some structures of a case and not others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

__all__ = ["joint_structures", "per_structure", "presence_of_structures", "structures_as_cases"]

Scores = TypeVar("Scores", Tensor, dict[str, Tensor])


def structures_as_cases(name: str, masks: Tensor, structures: int) -> Tensor:
    """(B, N, K, *spatial) -> (B * K, N, *spatial): each structure of a case as a case of its own.

    Raises:
        ValueError: the third axis is not that of so many structures.
    """
    if masks.ndim not in (5, 6) or masks.shape[2] != structures:
        raise ValueError(
            f"{name} {tuple(masks.shape)} must be (B, N, K, H, W) or (B, N, K, H, W, D) with K = {structures} "
            "structures in third place."
        )
    return masks.transpose(1, 2).flatten(0, 1)


def presence_of_structures(presence: Tensor | None, masks: Tensor) -> Tensor:
    """Who marked which structure: bool (B, N, K) on the device of `masks` (B, N, K, *spatial).

    Raises:
        ValueError: `presence` is neither (B, N) nor (B, N, K).
    """
    shape = masks.shape[:3]
    if presence is None:
        return masks.new_ones(shape, dtype=torch.bool)
    if presence.shape not in (shape[:2], shape):
        raise ValueError(
            f"presence {tuple(presence.shape)} must be (B, N) = {tuple(shape[:2])} or (B, N, K) = {tuple(shape)}, as "
            "of the masks."
        )
    known = presence.to(masks.device) != 0
    return known[..., None].expand(shape) if known.ndim == 2 else known


def per_structure(
    function: Callable[..., Scores], *sets: Tensor, structures: int, presence: Tensor | None = None, **options: Any
) -> Scores:
    """Scores of each structure by itself: those of `function`, (B, ...), become (B, K, ...).

    >>> from monai_ext.metrics import rater_agreement
    >>> disc = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])            # of two raters
    >>> cup = torch.tensor([[0, 1, 1, 0], [0, 1, 0, 0]])             # inside
    >>> masks = torch.stack([disc, cup], dim=1)[None, :, :, None]    # (1, 2, 2, 1, 4)
    >>> per_structure(rater_agreement, masks, structures=2)          # 6/7 and 2/3
    tensor([[0.8571, 0.6667]], dtype=torch.float64)

    Args:
        function: of masks, or of a prediction and masks, with `presence` where that is given; its scores are a tensor
            or tensors by name with the cases first, as those of `monai_ext.metrics`.
        sets: what `function` takes, each (B, N, K, *spatial), a map also (B, K, *spatial); the masks are last.
        structures: number K.
        presence: (B, N) or (B, N, K) of the last set.
        options: passed on.

    Raises:
        ValueError: a set has no axis of so many structures, or presence does not fit.
    """
    masks = sets[-1]
    cases = structures_as_cases("masks", masks, structures)
    known = (
        {} if presence is None else {"presence": presence_of_structures(presence, masks).transpose(1, 2).flatten(0, 1)}
    )
    folded = [_folded(tensor, masks, structures) for tensor in sets[:-1]]
    scores = function(*folded, cases, **known, **options)
    if isinstance(scores, Mapping):
        return {name: values.unflatten(0, (len(masks), structures)) for name, values in scores.items()}
    return scores.unflatten(0, (len(masks), structures))


def _folded(prediction: Tensor, masks: Tensor, structures: int) -> Tensor:
    if prediction.ndim == masks.ndim:
        return structures_as_cases("prediction", prediction, structures)
    if prediction.ndim != masks.ndim - 1 or prediction.shape[1] != structures:
        raise ValueError(
            f"prediction {tuple(prediction.shape)} does not fit masks {tuple(masks.shape)} of {structures} structures: "
            "give (B, K, *spatial), or (B, N, K, *spatial) for N samples or heads."
        )
    return prediction.flatten(0, 1)


def joint_structures(
    function: Callable[..., Scores], *sets: Tensor, structures: int, presence: Tensor | None = None, **options: Any
) -> Scores:
    """Scores of whole samples, each of which is all its K masks at once: (B, ...), as of one structure.

    A mask is taken as a set of pairs (structure, pixel), so that the IoU of two samples is sum_k |A_k and B_k| /
    sum_k |A_k or B_k|, and large structures count for more than small ones. Unlike the mean over `per_structure` it
    depends on which structures occur together: samples that join the disc of one rater to the cup of another are at a
    distance from the raters. With one structure both are the same. Only raters present in all structures take part.

    Arguments as for `per_structure`.
    """
    masks = sets[-1]
    flat = []
    for name, tensor in zip([*["prediction"] * (len(sets) - 1), "masks"], sets, strict=True):
        structures_as_cases(name, tensor, structures)  # checks it
        flat.append(tensor.flatten(2)[:, :, None])  # (B, N, 1, K * pixels)
    known = {} if presence is None else {"presence": presence_of_structures(presence, masks).all(2)}
    return function(*flat, **known, **options)

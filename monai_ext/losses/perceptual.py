"""Images compared by the features of a frozen network: SRGAN's content loss, a distance of unit-length features, and a
proper score of sets of images by these.

`features` is any callable from images (B, C, H, W) to a list of maps (B, F, h, w): `VGG19Features`,
`MobileNetV2Features` of this package's networks, or another. Gradients reach the prediction only. Features of a
target can be kept: `loss.between(loss.features(prediction), kept_features)`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from monai_ext.formulas.checks import check_choice, check_same_shape
from monai_ext.formulas.energy import error_and_spread

__all__ = ["ContentLoss", "PerceptualDistance", "PerceptualEnergy", "content_distance", "unit_feature_distance"]

Features = Callable[[Tensor], Sequence[Tensor]]
TINY = 1e-10  # under square roots, where their slopes would be infinite


def content_distance(first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
    """Mean squared difference of the maps (Ledig et al. 2017, eq. 5), summed over the layers: (B,), float32.

    >>> content_distance([torch.zeros(1, 2, 1, 1)], [torch.tensor([[[[1.0]], [[3.0]]]])])  # (1 + 9) / 2
    tensor([5.])

    Args:
        first, second: lists of maps (B, F, h, w), layer by layer.

    Raises:
        ValueError: different numbers of layers, none, or maps of different shapes.
    """
    _check_layers(first, second)
    layers = [(a.float() - b.float()).square().flatten(1).mean(1) for a, b in zip(first, second, strict=True)]
    return torch.stack(layers).sum(0)


def unit_feature_distance(first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
    """Squared distance of feature vectors scaled to length one, mean over places, then over layers: (B,), float32.

    From 0 for equal directions over 2 for orthogonal ones to 4 for opposite ones. This is LPIPS's form (Zhang et al.
    2018, eq. 1) with all weights equal: without its learned weights and network it is not LPIPS.

    >>> unit_feature_distance([torch.tensor([[[[2.0]], [[0.0]]]])], [torch.tensor([[[[0.0]], [[5.0]]]])])
    tensor([2.])

    Args:
        first, second: lists of maps (B, F, h, w), layer by layer.

    Raises:
        ValueError: different numbers of layers, none, or maps of different shapes.
    """
    _check_layers(first, second)
    layers = []
    for a, b in zip(first, second, strict=True):
        difference = _unit_length(a.float()) - _unit_length(b.float())
        layers.append(difference.square().sum(1).flatten(1).mean(1))
    return torch.stack(layers).mean(0)


def _unit_length(maps: Tensor) -> Tensor:
    return maps * (maps.square().sum(1, keepdim=True) + TINY).rsqrt()


def _check_layers(first: Sequence[Tensor], second: Sequence[Tensor]) -> None:
    shapes = [[tuple(maps.shape) for maps in maps_of_layers] for maps_of_layers in (first, second)]
    if shapes[0] != shapes[1] or not shapes[0]:
        raise ValueError(f"features {shapes[0]} and {shapes[1]} must be the same layers of images of the same size.")


class _FeatureLoss(nn.Module):
    """Both images through `features`, then `between`; see `ContentLoss`."""

    def __init__(self, features: Features, *, reduction: str = "mean"):
        super().__init__()
        self.features = features
        self.reduction = check_choice("reduction", reduction, ("mean", "none"))

    def between(self, first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
        """The loss from features that are at hand."""
        distance = self.distance(first, second)  # (B,)
        return distance if self.reduction == "none" else distance.mean()

    def distance(self, first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
        raise NotImplementedError

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        check_same_shape(prediction=prediction, target=target)
        with torch.no_grad():
            wanted = self.features(target)
        return self.between(self.features(prediction), wanted)


class ContentLoss(_FeatureLoss):
    """SRGAN's content loss: `content_distance` of the features times `rescale` (Ledig et al. 2017, sec. 2.2.1, 3.2).

    Called as loss(prediction, target) with images (B, C, H, W) as `features` takes them. The paper's generator loss is
    this plus 1e-3 times the adversarial term.

    Args:
        features: the network, `VGG19Features` with "relu5_4" in the paper.
        rescale: factor of the distance. The default is the paper's: VGG features are divided by 12.75 "to obtain losses
            of a scale that is comparable to the MSE".
        reduction: "mean" over the batch, or "none" for (B,).

    Raises:
        ValueError: another reduction; images of different shapes.
    """

    def __init__(self, features: Features, *, rescale: float = 1 / 12.75**2, reduction: str = "mean"):
        super().__init__(features, reduction=reduction)
        self.rescale = rescale

    def distance(self, first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
        return self.rescale * content_distance(first, second)


class PerceptualDistance(_FeatureLoss):
    """`unit_feature_distance` of images (B, C, H, W) as `features` takes them: a loss, and with "none" a score.

    Args:
        features: the network; `MobileNetV2Features` for the distance that this project reports.
        reduction: "mean" over the batch, or "none" for (B,).

    Raises:
        ValueError: another reduction; images of different shapes.
    """

    def distance(self, first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
        return unit_feature_distance(first, second)


class PerceptualEnergy(nn.Module):
    """Energy score of samples by their features: E d(sample, target) - E d(sample, sample') / 2, over pairs of samples.

    d is the distance of feature vectors scaled to length one, not squared, mean over places, then over layers. Place by
    place the score is smallest, in the mean over targets, for samples whose features are distributed as those of the
    targets (Gneiting and Raftery 2007, eq. 22): blurred samples, whose features are those of no target, score worse,
    and so do samples that are all alike. `PerceptualDistance` to the target is smallest for one compromise instead.

    Called as loss(samples, target) with (B, n, C, H, W), n >= 2, and (B, C, H, W), as `features` takes them.

    Args:
        features: the network; its gradients reach the samples only.
        shift: all images of a call lose up to this many pixels less one at the top and at the left, drawn by PyTorch's
            global generator on the CPU. Strided features depend on some pixels more than on others, always the same
            ones: without shifts a network learns lattices that they do not detect. 0 for none.

    Raises:
        ValueError: a negative shift, fewer than two samples, or images of different shapes.
    """

    def __init__(self, features: Features, *, shift: int = 8):
        super().__init__()
        if shift < 0:
            raise ValueError(f"shift={shift} must be at least 0.")
        self.features, self.shift = features, shift

    def forward(self, samples: Tensor, target: Tensor) -> Tensor:
        if samples.ndim != 5 or samples.shape[1] < 2 or samples[:, 0].shape != target.shape:
            raise ValueError(
                f"samples {tuple(samples.shape)} must be (B, n, C, H, W) with n >= 2, of a target (B, C, H, W), here "
                f"{tuple(target.shape)}."
            )
        count = samples.shape[1]
        if self.shift:
            top, left = torch.randint(min(self.shift, *target.shape[2:]), (2,)).tolist()
            samples, target = samples[..., top:, left:], target[..., top:, left:]
        with torch.no_grad():
            wanted = [_unit_length(maps.float()) for maps in self.features(target)]
        shown = [_unit_length(maps.float()) for maps in self.features(samples.transpose(0, 1).flatten(0, 1))]
        layers = []
        for maps, goal in zip(shown, wanted, strict=True):
            samples_of_layer = maps.unflatten(0, (count, -1)).unbind(0)  # n of (B, F, h, w)
            error, spread = error_and_spread(samples_of_layer, goal, _mean_distance)
            layers.append(error - spread / 2)
        return torch.stack(layers).mean()


def _mean_distance(first: Tensor, second: Tensor) -> Tensor:
    """Mean over batch and places of the distance of the feature vectors of (B, F, h, w)."""
    return ((first - second).square().sum(1) + TINY).sqrt().mean()

"""Features of frozen ImageNet networks, for perceptual losses and scores.

Images are in [0, 1] and normalised inside. Gradients pass to the image, none to the weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from monai_ext.networks.backbones.mobilenet_v2 import MobileNetV2Encoder
from monai_ext.networks.backbones.weights import IMAGENET_MEAN, IMAGENET_STD, IMAGENET_URL, read_weights

__all__ = ["MobileNetV2Features", "VGG19Features"]

VGG19_URL = "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"
# Simonyan & Zisserman 2015, configuration E: maps and number of convolutions of each stage; a max-pool ends it.
VGG19_STAGES = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))


class _FrozenFeatures(nn.Module):
    """Normalisation of the image, and modules whose outputs at `taps` are the features. Always in evaluation mode."""

    mean: Tensor
    std: Tensor

    def __init__(self, layers: Iterable[nn.Module], taps: Sequence[int], *, bands: Sequence[int], smallest: int = 1):
        super().__init__()
        if len(bands) != 3:
            raise ValueError(f"bands={tuple(bands)} must name three channels: those shown as red, green and blue.")
        self.features = nn.Sequential(*layers)
        self.taps, self.bands, self.smallest = tuple(taps), tuple(bands), smallest
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).reshape(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).reshape(3, 1, 1), persistent=False)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> _FrozenFeatures:
        """Stays in evaluation mode: features must not depend on the batch."""
        return super().train(False)

    def forward(self, image: Tensor) -> list[Tensor]:
        if min(image.shape[-2:]) < self.smallest:
            raise ValueError(
                f"image of {image.shape[-2]} x {image.shape[-1]} pixels is too small for these layers: they need "
                f"{self.smallest} x {self.smallest}."
            )
        x = (self._as_rgb(image) - self.mean) / self.std
        features = []
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in self.taps:
                features.append(x)
        return features

    def _as_rgb(self, image: Tensor) -> Tensor:
        channels = image.shape[1] if image.ndim == 4 else 0
        if channels == 1:
            return image.expand(-1, 3, -1, -1)
        if channels <= max(self.bands):
            raise ValueError(
                f"image {tuple(image.shape)} must be (B, C, H, W) with C = 1 or C > {max(self.bands)}, since "
                f"bands={self.bands} are taken for red, green and blue."
            )
        if self.bands == (0, 1, 2):
            return image[:, :3]
        return image[:, list(self.bands)]


class MobileNetV2Features(_FrozenFeatures):
    """Image (B, C, H, W) -> outputs of the inverted-residual blocks 1, 3, 6 and 13, at 1/2, 1/4, 1/8 and 1/16.

    Args:
        weights: file of torchvision's MobileNetV2 state dict, or "imagenet" to fetch it; None leaves random weights,
            to be loaded later (or for a demonstration without any).
        bands: the channels taken for red, green and blue. An image of one channel is grey.

    Raises:
        FileNotFoundError: no such file; names the address to fetch it from.
        ValueError: not such a state dict, `bands` not three; in use, an image without these bands.
    """

    def __init__(self, weights: str | Path | None = None, *, bands: Sequence[int] = (0, 1, 2)):
        encoder = MobileNetV2Encoder()
        if weights is not None:
            if str(weights) != "imagenet":
                _check_file(weights, "MobileNetV2", IMAGENET_URL)
            encoder.load_weights(weights)
        taps = encoder.feature_blocks[:4]
        super().__init__(list(encoder.features)[: taps[-1] + 1], taps, bands=bands)


class VGG19Features(_FrozenFeatures):
    """Image (B, C, H, W), H and W >= 16 -> the outputs of chosen layers of VGG19, with torchvision's numbering.

    Layers after the last one chosen are not built. Layer "relu5_4" is phi_5,4 of Ledig et al. 2017 (after the
    activation, before the fifth pooling); "conv5_4" is the same before the activation, which ESRGAN prefers
    (Wang et al. 2018).

    Args:
        weights: file of torchvision's VGG19 state dict (548 MB, from the address that the error message names; half
            precision is widened); None leaves random weights.
        layers: some of conv1_1, relu1_1, conv1_2 ... relu5_4; the features come in the network's order.
        bands: the channels taken for red, green and blue. An image of one channel is grey.

    Raises:
        FileNotFoundError: no such file; names the address to fetch it from.
        ValueError: not such a state dict, an unknown layer, `bands` not three; in use, an image without these bands.
    """

    def __init__(
        self,
        weights: str | Path | None = None,
        *,
        layers: Sequence[str] = ("relu5_4",),
        bands: Sequence[int] = (0, 1, 2),
    ):
        names = _vgg19_layers()
        unknown = [name for name in layers if name not in names or name.startswith("pool")]
        if unknown or not layers:
            raise ValueError(f"layers={tuple(layers)} must be some of conv1_1, relu1_1, conv1_2 ... relu5_4.")
        taps = sorted(names.index(name) for name in layers)
        used = names[: taps[-1] + 1]
        network = nn.Sequential(*(_vgg19_layer(name) for name in used))
        if weights is not None:
            _check_file(weights, "VGG19", VGG19_URL)
            _load_vgg19(network, weights)
        super().__init__(network, taps, bands=bands, smallest=2 ** sum(name.startswith("pool") for name in used))


def _vgg19_layers() -> list[str]:
    """conv1_1, relu1_1, conv1_2, relu1_2, pool1, conv2_1 ...; a name's place is its number in torchvision."""
    names: list[str] = []
    for stage, (_, count) in enumerate(VGG19_STAGES, start=1):
        names += [f"{kind}{stage}_{i}" for i in range(1, count + 1) for kind in ("conv", "relu")]
        names.append(f"pool{stage}")
    return names


def _vgg19_layer(name: str) -> nn.Module:
    if name.startswith("pool"):
        return nn.MaxPool2d(2)
    if name.startswith("relu"):
        return nn.ReLU()  # not in place: the convolution's output may be a feature itself
    stage, number = int(name[4]), int(name[6])
    maps = VGG19_STAGES[stage - 1][0]
    before = maps if number > 1 else (VGG19_STAGES[stage - 2][0] if stage > 1 else 3)
    return nn.Conv2d(before, maps, 3, padding=1)


def _load_vgg19(network: nn.Sequential, weights: str | Path) -> None:
    given = read_weights(weights)
    own = {f"features.{name}": value for name, value in network.state_dict().items()}
    wrong = [name for name, value in own.items() if name not in given or given[name].shape != value.shape]
    if wrong:
        raise ValueError(
            f"weights {str(weights)!r} have no fitting {wrong[0]!r}: expected the state dict of torchvision's VGG19, "
            f"{VGG19_URL}."
        )
    network.load_state_dict({name.removeprefix("features."): given[name] for name in own})


def _check_file(weights: str | Path, network: str, url: str) -> None:
    if not Path(weights).is_file():
        raise FileNotFoundError(
            f"weights={str(weights)!r} is no file: fetch the {network} weights from {url} and give the file's path."
        )

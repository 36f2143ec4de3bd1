"""State dicts with torchvision's names and random values."""

from __future__ import annotations

import torch

from monai_ext.networks import MobileNetV2Encoder


def torchvision_state_dict(in_channels: int = 3, classes: int = 10) -> dict[str, torch.Tensor]:
    """A state dict with the names and shapes of torchvision's `mobilenet_v2`, random values."""
    own = MobileNetV2Encoder(in_channels).state_dict()
    state = {k: torch.rand_like(v) + 0.1 if v.is_floating_point() else v + 7 for k, v in own.items()}
    state |= {"features.18.0.weight": torch.rand(1280, 320, 1, 1), "classifier.1.weight": torch.rand(classes, 1280)}
    return state


def saved(state: dict, tmp_path) -> str:
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    return str(path)

from __future__ import annotations

import pytest
import torch

from monai_ext.networks import MobileNetV2UNet
from monai_ext.networks.backbones.weights import read_weights


def test_a_damaged_weight_file_is_refused(tmp_path):
    (tmp_path / "weights.pth").write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match="is damaged and cannot be read"):
        MobileNetV2UNet(encoder_weights=tmp_path / "weights.pth")


def test_a_missing_weight_file_names_the_file_to_fetch():
    with pytest.raises(FileNotFoundError, match="nowhere.pth.*mobilenet_v2-b0353104.pth"):
        MobileNetV2UNet(encoder_weights="nowhere.pth")


def test_imagenet_without_network_names_the_file_to_fetch(monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    with pytest.raises(FileNotFoundError, match="mobilenet_v2-b0353104.pth.*encoder_weights"):
        read_weights("imagenet")


def test_a_damaged_download_is_told_from_a_missing_network(monkeypatch, tmp_path):
    def other_bytes(*args, **kwargs):
        raise RuntimeError('invalid hash value (expected "b0353104", got "00")')

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", other_bytes)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(ValueError, match="downloaded from https://.* is not that file .invalid hash value"):
        read_weights("imagenet")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "mobilenet_v2-b0353104.pth").write_bytes(b"cut off")
    with pytest.raises(ValueError, match="b0353104.pth', in torch hub's cache, is damaged: remove it"):
        read_weights("imagenet")

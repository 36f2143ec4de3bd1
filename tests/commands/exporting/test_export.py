"""Networks written in other formats against PyTorch, at sizes and batches that the export has not seen."""

from __future__ import annotations

import math

import pytest
from torch import nn

from monai_ext.__main__ import main
from monai_ext.commands.exporting import export
from monai_ext.commands.exporting.export import largest_difference, saved_network
from monai_ext.networks import ConsistencyProjection
from monai_ext.networks.sampling import pad_to_multiples
from monai_ext.transforms import Degradation


class Images(nn.Module):
    """A convolution of padded images, cropped back."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 2, 3, padding=1)

    def forward(self, image):
        return self.layer(pad_to_multiples(image, [8, 8]))[..., : image.shape[2], : image.shape[3]]


class Volumes(nn.Module):
    """Two convolutions of volumes around a pooling of odd sizes."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv3d(1, 4, 3, padding=1), nn.Conv3d(4, 2, 3, padding=1)

    def forward(self, image):
        pooled = nn.functional.max_pool3d(self.first(image).relu(), 2, ceil_mode=True)
        return self.last(nn.functional.interpolate(pooled, size=image.shape[2:], mode="trilinear"))


@pytest.mark.parametrize("ending", [".onnx", ".pt2", ".ts"])
@pytest.mark.parametrize("network", [Images(), Volumes()], ids=["images", "volumes"])
def test_every_format_gives_equal_numbers_at_other_sizes(network, ending, tmp_path):
    if ending == ".onnx":
        pytest.importorskip("onnx")
        pytest.importorskip("onnxruntime")
    network.eval()
    difference, span = largest_difference(network, saved_network(network, tmp_path / f"network{ending}"))
    assert difference < 1e-5 and span > 0.1


def test_weights_in_half_precision_halve_the_file_and_move_the_output_a_little(tmp_path):
    pytest.importorskip("onnxruntime")
    whole, half = tmp_path / "whole.onnx", tmp_path / "half.onnx"
    network = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1)).eval()
    saved_network(network, whole)
    difference, span = largest_difference(network, saved_network(network, half, half=True))
    assert half.stat().st_size < 0.6 * whole.stat().st_size
    assert 0 < difference < 2e-3 * span


def test_the_projection_is_exported_by_its_matrices(tmp_path):
    class Projected(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2))
            self.projection = ConsistencyProjection(Degradation(2))

        def forward(self, image):
            return self.projection(self.network(image), image)

    network = Projected().eval()
    difference, _ = largest_difference(network, saved_network(network, tmp_path / "network.pt2"))
    assert difference < 1e-5


def test_a_network_that_draws_is_not_compared():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Dropout()).train()
    assert largest_difference(network, network) is None


def test_outputs_that_are_not_finite_are_no_agreement(monkeypatch, tmp_path, capsys):
    network = nn.Conv2d(1, 2, 3).eval()
    found = largest_difference(network, lambda image: network(image) * float("nan"))
    assert found is not None and math.isnan(found[0])
    monkeypatch.setattr(export, "load_bundle_network", lambda *_: (network, ""))
    monkeypatch.setattr(
        export, "saved_network", lambda _, path, **__: path.touch() or (lambda image: network(image) + 1)
    )
    assert main(["export", "lesion_unet", str(tmp_path / "a.ts")]) == 1
    assert "do not use" in capsys.readouterr().err
    nn.init.constant_(network.bias, float("nan"))
    with pytest.raises(ValueError, match="gives NaN or infinity"):
        largest_difference(network, network)


def test_endings_and_options_that_do_not_fit_are_wrong_use(capsys):
    for words, message in (
        (["export", "lesion_unet", "lesion.xml"], "no known ending: choose .onnx"),
        (["export", "lesion_unet", "lesion.ts", "--half"], "--half is for .onnx"),
    ):
        with pytest.raises(SystemExit) as end:
            main(words)
        assert end.value.code == 2 and message in capsys.readouterr().err

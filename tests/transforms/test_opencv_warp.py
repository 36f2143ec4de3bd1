"""Pictures of 8 bits warped by OpenCV: within one level of the warp in floating point."""

from __future__ import annotations

import pytest
import torch
from random_images import blobs, generator, photographs

from monai_ext.transforms import BatchAugment, RandomAffine, RandomColour, RandomElastic, RandomFlip, opencv_warp

needs_opencv = pytest.mark.skipif(
    opencv_warp.opencv() is None, reason='needs OpenCV: pip install "opencv-python-headless>=4.11"'
)
SIZES = [{}, {"spatial_size": (15, 20)}, {"spatial_size": (40, 50)}, {"inner_size": (12, 15)}]
MOVES = [RandomFlip(), RandomAffine(rotate=180, scale=((0.8, 1.25), (0.9, 1.4)), shear=10, translate=0.1)]


def both(batch: dict, parts: list = MOVES, **settings) -> list[dict]:
    """The batch augmented in floating point and by OpenCV, with the same parameters."""
    ways = [BatchAugment(parts, opencv=way, **settings) for way in (False, True)]
    parameters = ways[0].draw(len(batch["image"]), generator())
    return [way.apply(batch, parameters) for way in ways]


@needs_opencv
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    "settings", [{}, {"spatial_size": (15, 20)}, {"spatial_size": (40, 50)}, {"inner_size": (12, 15)}]
)
@pytest.mark.parametrize("padding_mode", ["reflection", "border", "zeros"])
def test_the_warp_is_the_same_within_one_level(channels: int, settings: dict, padding_mode: str) -> None:
    batch = {
        "image": photographs(4, (20, 31), channels=channels),
        "label": blobs(4, (20, 31)).expand(-1, channels, -1, -1),
    }
    exact, fast = both(batch, padding_mode=padding_mode, **settings)
    assert fast["image"].shape == exact["image"].shape and fast["image"].is_contiguous()
    difference = (255 * (exact["image"] - fast["image"])).abs()
    if padding_mode == "zeros":  # OpenCV mixes the border with 0 over less than a pixel
        assert (difference > 1.01).float().mean() < 0.02
    else:
        assert difference.max() <= 1.01
    assert (exact["label"] != fast["label"]).float().mean() < 0.005  # ties of the nearest pixel


@needs_opencv
def test_colours_follow_in_floating_point() -> None:
    batch = {"image": photographs(3, (24, 24))}
    exact, fast = both(batch, [*MOVES, RandomColour(0.2, 0.2, 0.3, 0.03)], mean=0.5, std=0.25)
    assert (exact["image"] - fast["image"]).abs().max() < 4 * 2 / 255
    assert fast["image"].unique().numel() > 1000


@needs_opencv
def test_only_pictures_of_8_bits_with_a_range_of_levels_are_rounded() -> None:
    few = {"image": blobs(3, (16, 16)).to(torch.uint8)}
    for batch, settings in (
        (few, {"intensity_range": (0, 1)}),
        ({"image": photographs(3, (16, 16)).float() / 255}, {}),
        ({"image": photographs(3, (16, 16)), "label": torch.rand(3, 1, 16, 16)}, {"label_key": "label"}),
    ):
        exact, fast = both(batch, **settings)
        key = "label" if "label" in batch else "image"
        assert torch.equal(exact[key], fast[key]), settings
    elastic = both({"image": photographs(2, (16, 16))}, [RandomElastic(0.05)])
    assert torch.equal(elastic[0]["image"], elastic[1]["image"])


def test_without_opencv_the_way_to_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opencv_warp, "opencv", lambda: None)
    with pytest.raises(ValueError, match=r'opencv=True needs OpenCV: pip install "opencv-python-headless>=4.11"'):
        BatchAugment(MOVES, opencv=True)
    assert not BatchAugment(MOVES).opencv

"""Many images at a time."""

from __future__ import annotations

import pytest
from upscaling_toys import Blurring, noise, save_picture, upscaler

from monai_ext.upscaling import Choices, parallel, upscale_files


def test_a_run_that_is_interrupted_stops_the_images_at_hand(tmp_path, monkeypatch):
    pairs = []
    for number in range(3):
        source = save_picture(tmp_path / f"{number}.png", noise(1, 100, 12))
        pairs.append((source, tmp_path / "out" / source.name))

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(parallel, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        upscale_files(pairs, upscalers=[upscaler(Blurring())], choices=Choices())
    assert not list((tmp_path / "out").glob("*.png"))  # not even the one that was submitted

"""Scenes for the page of samples and uncertainty, and its parts read back."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
from PIL import Image

from monai_ext.commands.upscaling.viewer_page import ViewerScene
from monai_ext.upscaling.layers import DEVIATIONS


class Tags(HTMLParser):
    """Names of all elements of a page, and what their attributes say."""

    def __init__(self, page: str):
        super().__init__()
        self.names: list[str] = []
        self.values: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.values += [value or "" for _, value in attrs]


def data_of(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])


def decoded(source: str) -> np.ndarray:
    """(C, H, W) of 0 ... 255, as a canvas reads it."""
    head, body = source.split(",", 1)
    assert head == "data:image/png;base64"
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(body))))
    return pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)


def scene(bands: int = 3, **changes: object) -> ViewerScene:
    generator = np.random.default_rng(0)
    names = ("mean", "sample 1", "lower", "upper")
    layers = {name: generator.random((bands, 8, 6)) for name in names}
    layers |= {name: generator.random((bands, 8, 6)) * 0.07 for name in DEVIATIONS}
    usual = {"low_res": generator.random((bands, 4, 3)), "layers": layers, "deviations": DEVIATIONS}
    return ViewerScene(**(usual | {"bands": [f"b{i}" for i in range(bands)]} | changes))

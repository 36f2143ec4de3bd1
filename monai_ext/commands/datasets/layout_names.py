"""Names of layouts and parts of data sets, as they are typed."""

from __future__ import annotations

from typing import Literal

__all__ = ["Kind", "LayoutName", "PartName"]

LayoutName = Literal[
    "auto", "rater_folders", "rater_suffixes", "parts", "ph2", "ham10000", "npz", "coco", "labelme", "monai_label"
]
PartName = Literal["training", "validation", "test"]
Kind = Literal["lesion", "raters"]  # one mask for each picture, or those of several raters

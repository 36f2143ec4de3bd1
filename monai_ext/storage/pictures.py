"""Pictures written by Pillow, so that a full disk is noticed."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

__all__ = ["save_picture"]


def save_picture(picture: Image.Image, path: Path, **options: Any) -> None:
    """Write a picture in the format of the suffix of `path`, encoded in memory first.

    Pillow's writers of JPEG and TIFF hand a file to the system at once, and what a full disk takes of a JPEG counts as
    all of it.
    """
    content = BytesIO()
    picture.save(content, Image.registered_extensions()[path.suffix.lower()], **options)
    path.write_bytes(content.getbuffer())

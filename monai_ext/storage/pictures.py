"""Pictures and figures as files, so that a full disk is noticed."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from monai_ext.storage.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["save_figure", "save_picture"]

DPI = 110


def save_picture(picture: Image.Image, path: Path, **options: Any) -> None:
    """Write a picture in the format of the suffix of `path`, encoded in memory first.

    Pillow's writers of JPEG and TIFF hand a file to the system at once, and what a full disk takes of a JPEG counts as
    all of it.
    """
    content = BytesIO()
    picture.save(content, Image.registered_extensions()[path.suffix.lower()], **options)
    path.write_bytes(content.getbuffer())


def save_figure(figure: Figure, path: Path, *, dpi: int | None = None) -> Path:
    """Write `figure` as PNG (or PDF, by the suffix) on white, whole or not at all; equal figures are equal files."""
    options: dict[str, Any] = {"metadata": {"CreationDate": None}} if path.suffix == ".pdf" else {}
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=dpi or DPI, facecolor="white", **options)
    return path

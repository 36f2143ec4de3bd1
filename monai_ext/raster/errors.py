"""The error of files that cannot be read, or could be read in more than one way."""

from __future__ import annotations

__all__ = ["ImageFileError"]


class ImageFileError(ValueError):
    """An image file that is missing, damaged, or has no single meaning; the message names the file."""

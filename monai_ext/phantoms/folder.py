"""Settings stored beside phantoms, so that no later call adds phantoms of another kind to their folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai_ext.storage.files import write_text
from monai_ext.storage.records import json_text

__all__ = ["SETTINGS_FILE", "claim_folder"]

SETTINGS_FILE = "phantoms.json"
LONGEST_SHOWN = 300  # characters of the settings in a message


def claim_folder(folder: str | os.PathLike, settings: Mapping[str, Any], *, count: int) -> Path:
    """`folder`, whose `phantoms.json` holds exactly these settings from now on.

    Args:
        settings: plain values that the pictures depend on.
        count: of the pictures to write.

    Raises:
        ValueError: the folder holds phantoms of other settings, or `count` is below 1.
        WriteError: the folder cannot be written to.
    """
    if count < 1:
        raise ValueError(f"count is {count}: at least one phantom must be written.")
    path, text = Path(folder) / SETTINGS_FILE, json_text(dict(settings))
    if not path.exists():
        write_text(path, text + "\n")
    elif (there := path.read_bytes().decode(errors="backslashreplace").strip()) != text:
        there = " ".join(there.split())[:LONGEST_SHOWN]
        raise ValueError(f"{folder} holds phantoms of {there}, not of {text}: choose another folder.")
    return Path(folder)

"""Bundles that come with the package: in the wheel `monai_ext/bundles`, in a checkout `bundles` beside the package."""

from __future__ import annotations

import difflib
from pathlib import Path

import monai_ext
from monai_ext.storage.folders import folders_in

__all__ = ["bundle_folder", "find_bundle", "shipped_bundles"]

FOLDER = "bundles"


def shipped_bundles() -> dict[str, Path]:
    """Name -> folder."""
    package = Path(monai_ext.__file__).resolve().parent
    checkout = package.parent / FOLDER
    place = checkout if (checkout / "frame.py").is_file() else package / FOLDER
    return {folder.name: folder for folder in folders_in(place) if _is_bundle(folder)} if place.is_dir() else {}


def bundle_folder(bundle: str | Path) -> Path:
    """The folder that a bundle's name means: that folder, else `bundles/NAME` here, else the one that is shipped.

    `bundles/NAME` means the shipped bundle as well, where there is no such folder. What names no bundle is returned as
    it is.
    """
    bundle = Path(bundle)
    named = bundle.parent in (Path(), Path(FOLDER))
    here = [bundle, Path(FOLDER, bundle.name)] if named else [bundle]
    found = next((folder for folder in here if _is_bundle(folder)), None)
    return found or (shipped_bundles().get(bundle.name) if named else None) or bundle


def find_bundle(bundle: str | Path) -> Path:
    """`bundle_folder`, which must be a bundle's.

    Raises:
        FileNotFoundError: it is none; has the nearest name.
    """
    folder = bundle_folder(bundle)
    if not _is_bundle(folder):
        known = sorted(shipped_bundles())
        near = difflib.get_close_matches(Path(bundle).name, known, n=1)
        way_out = f"did you mean {near[0]}?" if near else f"give its folder, or one of {', '.join(known)}."
        raise FileNotFoundError(f"no bundle '{bundle}' (a folder with configs/train.json or inference.json): {way_out}")
    return folder


def _is_bundle(folder: Path) -> bool:
    return any((folder / "configs" / name).is_file() for name in ("train.json", "inference.json"))

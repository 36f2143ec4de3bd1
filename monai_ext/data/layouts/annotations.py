"""Outlines in JSON files: COCO and LabelMe, with the rater's name where there is one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from skimage.draw import ellipse

from monai_ext.data.isic import DatasetLayoutError
from monai_ext.data.layouts.folders import ONE_RATER, stem_of
from monai_ext.data.layouts.found import FoundCase, MaskKey, Outlines
from monai_ext.runtime.errors import one_line, some_of
from monai_ext.storage.folders import files_in, folders_in

__all__ = ["coco", "label_me"]

WHO = ("annotator", "rater", "reader", "created_by", "author", "user")  # keys of a rater's name


def coco(root: Path) -> list[FoundCase] | None:
    """COCO: a JSON file with images, annotations and categories; polygons, or runs as counts, in `segmentation`.

    A rater's name is the annotation's, or that of its attributes: the keys of `WHO`; where several files describe the
    same pictures, each file is a rater.
    """
    files = [root] if root.is_file() else _json_files(root)
    described = [(path, content) for path in files if _is_coco(content := _content(path))]
    if not described:
        return None
    pictures = _below(root.parent if root.is_file() else root)
    by_file = _share_names([{_name_of(entry, path) for entry in content["images"]} for path, content in described])
    used = {
        categories.get(each.get("category_id"))
        for _, content in described for categories in [_categories(content)] for each in content["annotations"]
    }  # fmt: skip
    found: dict[str, dict[MaskKey, Outlines]] = defaultdict(dict)
    images: dict[str, Path] = {}
    for path, content in described:
        categories = _categories(content)
        entries = {entry["id"]: entry for entry in content["images"]}
        for entry in entries.values():
            _add_picture(images, _name_of(entry, path), _picture(pictures, str(entry["file_name"]), path))
        for each in content["annotations"]:
            entry = entries.get(each["image_id"])
            if entry is None:
                raise DatasetLayoutError(f"{path} annotates image {each['image_id']}, which it does not list.")
            who = _rater_of(each) or (path.stem if by_file else ONE_RATER)
            key = MaskKey(who, categories.get(each.get("category_id"), "") if len(used) > 1 else "")
            outlines = found[_name_of(entry, path)].setdefault(key, Outlines())
            _add(outlines, each.get("segmentation"), path)
    return [FoundCase(name, images[name], found[name]) for name in sorted(images)]


def label_me(root: Path) -> list[FoundCase] | None:
    """LabelMe: a JSON file beside each picture, with `shapes`; each shape's label is a structure.

    A rater's name is the shape's or the file's, as in `coco`; otherwise, where several folders describe the same
    pictures, that of the folder.
    """
    files = {path: content for path in _json_files(root) if _is_label_me(content := _content(path))}
    if not files:
        return None
    pictures = _below(root)
    shown = {path: _picture(pictures, _picture_name(content), path) for path, content in files.items()}
    folders: dict[Path, set[str]] = defaultdict(set)
    for path, picture in shown.items():
        folders[path.parent].add(stem_of(picture))
    by_folder = _share_names(folders.values())
    labels = {str(shape["label"]) for content in files.values() for shape in content["shapes"]}
    found: dict[str, dict[MaskKey, Outlines]] = defaultdict(dict)
    images: dict[str, Path] = {}
    for path, content in sorted(files.items()):
        name = stem_of(shown[path])
        _add_picture(images, name, shown[path])
        for shape in content["shapes"]:
            who = _rater_of(shape) or _rater_of(content) or (path.parent.name if by_folder else ONE_RATER)
            key = MaskKey(who, str(shape["label"]) if len(labels) > 1 else "")
            outlines = found[name].setdefault(key, Outlines())
            _add_shape(outlines, shape, (int(content["imageHeight"]), int(content["imageWidth"])), path)
    return [FoundCase(name, images[name], found[name]) for name in sorted(images)]


def _json_files(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    inner = folders_in(root)
    return [
        path for folder in (root, *inner, *(each for outer in inner for each in folders_in(outer)))
        for path in files_in(folder) if path.suffix.lower() == ".json"
    ]  # fmt: skip


def _content(path: Path) -> Any:
    try:
        return msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError, RecursionError) as error:
        raise DatasetLayoutError(f"cannot read {path} as JSON: {one_line(error)}.") from error


def _is_coco(content: Any) -> bool:
    return isinstance(content, Mapping) and all(isinstance(content.get(key), list) for key in ("images", "annotations"))


def _categories(content: Mapping) -> dict[Any, str]:
    """Name of each category by its id."""
    return {each["id"]: str(each.get("name", each["id"])) for each in content.get("categories", [])}


def _is_label_me(content: Any) -> bool:
    return isinstance(content, Mapping) and isinstance(content.get("shapes"), list) and "imagePath" in content


def _below(folder: Path) -> dict[str, list[Path]]:
    """File name -> pictures of that name, up to two folders deep."""
    found: dict[str, list[Path]] = defaultdict(list)
    inner = folders_in(folder)
    for place in (folder, *inner, *(each for outer in inner for each in folders_in(outer))):
        for path in files_in(place):
            found[path.name].append(path)
    return found


def _picture(pictures: Mapping[str, Sequence[Path]], name: str, source: Path) -> Path:
    places = pictures.get(Path(name).name, [])
    fitting = [path for path in places if path.as_posix().endswith(name)] or places
    if len(fitting) != 1:
        problem = "is not there" if not fitting else f"is there {len(fitting)} times"
        raise DatasetLayoutError(f"the picture {name} of {source} {problem}.")
    return fitting[0]


def _add_picture(images: dict[str, Path], name: str, picture: Path) -> None:
    if (other := images.setdefault(name, picture)) != picture:
        raise DatasetLayoutError(f"two pictures have the name {name}: {other} and {picture}; rename one of them.")


def _share_names(groups: Iterable[set[str]]) -> bool:
    """Whether a name is in two of the groups."""
    groups = list(groups)
    return sum(map(len, groups)) > len(set().union(*groups))


def _picture_name(content: Mapping) -> str:
    return Path(str(content["imagePath"]).replace("\\", "/")).name


def _name_of(entry: Mapping, path: Path) -> str:
    if "file_name" not in entry:
        raise DatasetLayoutError(f"{path} has an image without file_name.")
    return stem_of(Path(str(entry["file_name"])))


def _rater_of(entry: Mapping) -> str | None:
    further = entry.get("attributes")
    for place in (entry, further if isinstance(further, Mapping) else {}):
        for key in WHO:
            if place.get(key) not in (None, ""):
                return str(place[key])
    return None


def _add(outlines: Outlines, segmentation: Any, path: Path) -> None:
    """A COCO segmentation: polygons as [x1, y1, x2, ...], or {"size": [H, W], "counts": [...]}."""
    if isinstance(segmentation, Mapping):
        counts = segmentation.get("counts")
        if not isinstance(counts, list):
            raise DatasetLayoutError(
                f"{path} has compressed runs: write them as lists of counts (pycocotools: mask.decode), or as polygons."
            )
        height, width = segmentation["size"]
        values = np.repeat(np.arange(len(counts)) % 2, counts)
        if len(values) != height * width:
            raise DatasetLayoutError(f"{path} has runs of {len(values)} pixels for {height} x {width}.")
        outlines.masks.append(values.reshape(width, height).T.astype(np.uint8))
    elif isinstance(segmentation, list) and segmentation:
        outlines.polygons += [_corners(flat, path) for flat in segmentation]
    else:
        raise DatasetLayoutError(f"{path} has an annotation without segmentation: boxes alone are no masks.")


def _corners(flat: Iterable[float], path: Path) -> NDArray[np.float64]:
    corners = np.array(list(flat), dtype=float)
    if corners.size < 6 or corners.size % 2 or not np.isfinite(corners).all():
        raise DatasetLayoutError(f"{path} has a polygon of {corners.size} numbers: x and y of three corners or more.")
    return corners.reshape(-1, 2)


def _add_shape(outlines: Outlines, shape: Mapping, size: tuple[int, int], path: Path) -> None:
    kind, points = shape.get("shape_type", "polygon"), np.array(shape["points"], dtype=float).reshape(-1, 2)
    if kind == "polygon":
        outlines.polygons.append(_corners(points.ravel(), path))
    elif kind == "rectangle" and len(points) == 2:
        (left, top), (right, bottom) = points
        outlines.polygons.append(np.array([(left, top), (right, top), (right, bottom), (left, bottom)]))
    elif kind == "circle" and len(points) == 2:
        radius = float(np.hypot(*(points[1] - points[0])))
        mask = np.zeros(size, dtype=np.uint8)
        mask[ellipse(points[0, 1] - 0.5, points[0, 0] - 0.5, radius, radius, shape=size)] = 1
        outlines.masks.append(mask)
    else:
        listed = some_of(["polygon", "rectangle", "circle"])
        raise DatasetLayoutError(f"{path} has a shape of the kind {kind!r}: areas are {listed}.")

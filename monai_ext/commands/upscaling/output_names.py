"""Which images are upscaled, and to which files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from monai_ext.raster.opening import GDAL_SUFFIXES, PILLOW_SUFFIXES, output_suffix
from monai_ext.raster.remote import Address, Source, source_of
from monai_ext.storage.folders import files_below

__all__ = ["Resolved", "check_layer_folders", "image_files", "plan_outputs"]

LONGEST_SUFFIX = 4  # letters of what looks like a kind of file


def plan_outputs(inputs: Sequence[str | Path], output: str | Path) -> list[tuple[Source, Path]]:
    """(image, where to write it upscaled) for files, folders and addresses; names and subfolders are kept.

    `output` is the name of the one output if there is one input file and `output` names a known kind of file, else a
    folder.

    Raises:
        FileNotFoundError: an input does not exist, or the folders hold no images.
        ValueError: two images would be written to one file, or an image over itself or another input; `output` is a
            kind of file that is not known, or one file for several images.
    """
    paths, output = [source_of(each) for each in inputs], Path(output)
    for path in paths:
        if isinstance(path, Path) and not path.exists():
            raise FileNotFoundError(f"input {path} does not exist.")
    known = (*GDAL_SUFFIXES, *PILLOW_SUFFIXES)
    single = len(paths) == 1 and (isinstance(paths[0], Address) or paths[0].is_file())
    pairs: list[tuple[Source, Path]]
    if single and output.suffix.lower() in known and not output.is_dir():
        pairs = [(paths[0], output)]
    else:
        _check_folder(output, known, single=single)
        pairs = []
        for path in paths:
            if isinstance(path, Address):
                pairs.append((path, output / path.name))
                continue
            images = _images(path, known) if path.is_dir() else [(path, Path(path.name))]
            pairs += [(image, output / name.with_suffix(output_suffix(image))) for image, name in images]
    if not pairs:
        raise FileNotFoundError(f"no images in {', '.join(map(str, paths))}: looked for {', '.join(known)}.")
    resolved = Resolved()
    sources = {resolved(source) for source in image_files(pairs)}
    taken: dict[Path, Source] = {}
    for source, target in pairs:
        place = resolved(target)
        if place in sources:
            raise ValueError(f"output {target} is one of the inputs: choose another name or folder.")
        other = taken.setdefault(place, source)
        if other is not source:
            raise ValueError(f"{other} and {source} would both be written to {target}: upscale them one by one.")
    return pairs


def _check_folder(output: Path, known: Sequence[str], *, single: bool) -> None:
    """Refuse an `output` that is no folder, or looks like the name of a file."""
    if output.is_file():
        raise ValueError(f"output {output} is a file, and the images go to a folder: name another one.")
    if not single and output.suffix.lower() in known and not output.exists():
        raise ValueError(
            f"output {output} is the name of a file, and the images go to a folder: name one, or make it first if this "
            "is its name."
        )
    suffix = output.suffix[1:]
    if single and suffix.isalpha() and len(suffix) <= LONGEST_SUFFIX and not output.exists():
        raise ValueError(
            f"output {output} is of an unknown kind: choose one of {', '.join(known)}, or make the folder first if it "
            "is one."
        )


def image_files(pairs: Iterable[tuple[Source, Path]]) -> list[Path]:
    """The images that are files."""
    return [source for source, _ in pairs if isinstance(source, Path)]


class Resolved:
    """`Path.resolve`, which reads each folder of a path from disk, once for all files of a folder."""

    def __init__(self) -> None:
        self.folders: dict[Path, Path] = {}

    def __call__(self, path: Path) -> Path:
        if path.is_symlink():
            return path.resolve()
        if path.parent not in self.folders:
            self.folders[path.parent] = path.parent.resolve()
        return self.folders[path.parent] / path.name


def _images(folder: Path, known: Iterable[str]) -> list[tuple[Path, Path]]:
    images = sorted((path for path in files_below(folder) if path.suffix.lower() in known), key=lambda path: path.parts)
    return [(path, path.relative_to(folder)) for path in images]


def check_layer_folders(pairs: Sequence[tuple[Source, Path]]) -> None:
    """Layers of pictures go to folders: "a.png" and "a.jpg" to the same one, and no input may lie there."""
    taken: dict[Path, Source] = {}
    resolved = Resolved()
    inputs = {resolved(source).parent: source for source in image_files(pairs)}
    for source, target in pairs:
        if target.suffix.lower() in (".tif", ".tiff"):
            continue
        folder = target.with_suffix("")
        place = folder.resolve()
        if place in inputs:
            raise ValueError(
                f"the layers of {source} go to the folder {folder}, where the input {inputs[place]} lies and might be "
                "overwritten: choose another name or folder."
            )
        other = taken.setdefault(place, source)
        if other is not source:
            raise ValueError(
                f"layers of {other} and {source} would both be written to {folder}: upscale them one by one."
            )

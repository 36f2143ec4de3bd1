"""One line in the log for the files and folders of a data set that a reader passes over."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from monai_ext.runtime.errors import some_of

__all__ = ["in_one_line", "log_passed_over"]

# Of pictures, volumes and archives that hold some: whoever put them there may expect them to be read.
LIKE_DATA = frozenset(
    ".avif .bmp .cr2 .dcm .dicom .dng .gif .gz .h5 .hdr .heic .heif .hdf5 .img .jp2 .jpeg .jpg .jxl .mat .mha .mhd "
    ".nef .nii .npy .npz .nrrd .part .pdf .png .psd .raw .rar .svg .svs .tar .tgz .tif .tiff .vrt .webp .zip".split()
)
OF_THE_SYSTEM = frozenset({"thumbs.db", "desktop.ini"})
NAMED_AT_MOST = 3

_logger = logging.getLogger(__name__)
_logged: set[str] = set()  # a training lists its folder for each of its parts


def log_passed_over(
    folder: str | os.PathLike,
    files: Iterable[str | Path],
    folders: Iterable[str | Path] = (),
    *,
    expected: Iterable[str | Path] = (),
) -> None:
    """Log what a reader of `folder` passes over, once: a warning if it may hold data, for information otherwise.

    Args:
        files: names or paths.
        folders: that are not looked into.
        expected: files that belong to such a data set and are no reason for a warning.
    """
    doubtful = [path for path in map(Path, files) if path.name.lower() not in OF_THE_SYSTEM]
    beside, usual = [Path(each) for each in folders], [Path(each) for each in expected]
    line = in_one_line(folder, [*doubtful, *usual], beside)
    if (doubtful or usual or beside) and line not in _logged:
        _logged.add(line)
        like_data = bool(beside) or any(path.suffix.lower() in LIKE_DATA for path in doubtful)
        _logger.log(logging.WARNING if like_data else logging.INFO, "%s", line)


def in_one_line(folder: str | os.PathLike, files: Iterable[Path], folders: Iterable[Path] = ()) -> str:
    """What is passed over, counted by suffix and named in part.

    >>> in_one_line("cells", [Path("a.heic"), Path("b.heic"), Path("notes")], [Path("old")])
    'passed over in cells: 2 files in .heic (a.heic, b.heic), 1 file without suffix (notes), 1 folder (old)'
    """
    kinds: dict[str, list[str]] = defaultdict(list)
    for file in files:
        kinds["".join(file.suffixes[-2:]) if file.suffix.lower() == ".gz" else file.suffix].append(file.name)
    parts = []
    for kind, names in sorted(kinds.items(), key=lambda entry: (-len(entry[1]), entry[0])):
        counted = f"{len(names)} file{'s' if len(names) > 1 else ''} {f'in {kind}' if kind else 'without suffix'}"
        parts.append(f"{counted} ({some_of(sorted(names), most=NAMED_AT_MOST)})")
    if names := sorted(each.name for each in folders):
        parts.append(f"{len(names)} folder{'s' if len(names) > 1 else ''} ({some_of(names, most=NAMED_AT_MOST)})")
    return f"passed over in {folder}: {', '.join(parts)}"

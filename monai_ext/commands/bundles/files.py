"""The files of an untrusted bundle, in a folder or a zip: listed and read within limits, not unpacked."""

from __future__ import annotations

import os
import stat
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

__all__ = ["WEIGHTS", "BundleFile", "BundleFiles", "is_zip", "leaves_the_bundle", "open_bundle"]

WEIGHTS = frozenset({".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".bin", ".ts"})  # suffixes; many of them are zips

MOST_FILES = 20_000
LARGEST_UNPACKED = 20 << 30  # bytes of a zip's content
LARGEST_RATIO = 1_000  # of unpacked to packed bytes, beyond 100 MiB


@dataclass(frozen=True)
class BundleFile:
    """A regular file: its path in the bundle, its size in bytes, and how to open it for reading."""

    name: str
    size: int
    opened: Callable[[], IO[bytes]]

    def read(self, limit: int) -> bytes:
        """The content.

        Raises:
            ValueError: there are more than `limit` bytes, whatever the listed size is.
            OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError: it cannot be read.
        """
        with self.opened() as file:
            content = file.read(limit + 1)
        if len(content) > limit:
            raise ValueError(f"it is larger than {limit:,} bytes.")
        return content


@dataclass
class BundleFiles:
    """What lies in a bundle.

    Attributes:
        kind: "folder", "zip" or "file".
        files: regular files, by name; of a zip without the folder that holds all of them.
        problems: sentences on what is odd: links, names that leave the bundle, too much of something.
    """

    kind: str
    files: list[BundleFile] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@contextmanager
def open_bundle(path: str | Path) -> Iterator[BundleFiles]:
    """The files of a bundle's folder, of its zip, or one single file.

    Raises:
        FileNotFoundError: there is nothing.
        ValueError: it is neither folder nor file, or a damaged zip.
    """
    path = Path(path)
    if path.is_dir():
        yield _folder(path)
    elif not path.exists():
        raise FileNotFoundError(f"there is no '{path}': give a bundle's folder, its zip, or a config file.")
    elif not path.is_file():
        raise ValueError(f"'{path}' is neither a folder nor a file.")
    elif path.suffix.lower() not in WEIGHTS | {".npz"} and is_zip(path):
        try:
            archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise ValueError(f"'{path}' is a damaged zip: {error}.") from error
        with archive:
            yield _zip(archive)
    else:
        yield BundleFiles("file", [BundleFile(path.name, path.stat().st_size, lambda: path.open("rb"))])


def is_zip(file: str | Path | IO[bytes]) -> bool:
    """Whether a file is a zip or means to be one, as one of several disks does, which Python refuses."""
    try:
        return zipfile.is_zipfile(file)
    except zipfile.BadZipFile:
        return True


def _folder(root: Path) -> BundleFiles:
    found = BundleFiles("folder")

    def unreadable(error: OSError) -> None:
        found.problems.append(f"{error.filename} cannot be read: {error.strerror}")

    for folder, folders, names in os.walk(root, onerror=unreadable):
        folders[:] = sorted(name for name in folders if name != ".git")
        for name in sorted([*names, *(name for name in folders if os.path.islink(os.path.join(folder, name)))]):
            path = Path(folder, name)
            _add_from_folder(found, path, path.relative_to(root).as_posix())
            if len(found.files) >= MOST_FILES:
                found.problems.append(f"more than {MOST_FILES:,} files: the rest is not looked at")
                return found
    return found


def _add_from_folder(found: BundleFiles, path: Path, name: str) -> None:
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        found.problems.append(f"{name} is a link to {os.readlink(path)}, which is not followed")
    elif stat.S_ISREG(status.st_mode):
        found.files.append(BundleFile(name, status.st_size, lambda: path.open("rb")))
    else:
        found.problems.append(f"{name} is no regular file")


def _zip(archive: zipfile.ZipFile) -> BundleFiles:
    found, seen = BundleFiles("zip"), set()
    members = [info for info in archive.infolist() if not info.filename.endswith("/")]
    unpacked, packed = (sum(getattr(info, side) for info in members) for side in ("file_size", "compress_size"))
    if unpacked > LARGEST_UNPACKED or (unpacked > 100 << 20 and unpacked > LARGEST_RATIO * max(packed, 1)):
        found.problems.append(f"{packed:,} bytes unpack to {unpacked:,}: a decompression bomb?")
    if len(members) > MOST_FILES:
        found.problems.append(f"more than {MOST_FILES:,} files: the rest is not looked at")
    tops = {info.filename.partition("/")[0] for info in members[:MOST_FILES] if "/" in info.filename}
    top = f"{tops.pop()}/" if len(tops) == 1 and all("/" in info.filename for info in members[:MOST_FILES]) else ""
    for info in members[:MOST_FILES]:
        name = info.filename.removeprefix(top)
        if leaves := leaves_the_bundle(info.filename):
            found.problems.append(f"{info.filename} {leaves}")
        if (place := _place(info.filename)) in seen:
            found.problems.append(
                f"{info.filename} is there more than once: which one is unpacked depends on the system"
            )
        seen.add(place)
        if info.flag_bits & 1:
            found.problems.append(f"{info.filename} is encrypted")
        elif stat.S_ISLNK(info.external_attr >> 16):
            found.problems.append(f"{info.filename} is a link, which is not followed")
        elif stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
            found.problems.append(f"{info.filename} is no regular file")
        else:
            found.files.append(BundleFile(name, info.file_size, partial(archive.open, info)))
    return found


def _place(name: str) -> str:
    """Where a name of a zip is unpacked to, on systems that take big and small letters for the same too."""
    parts = [part.rstrip(" .") for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    return unicodedata.normalize("NFC", "/".join(parts)).casefold()


def leaves_the_bundle(name: str) -> str:
    """How a name in a bundle leads elsewhere, in words; "" where it does not."""
    if ".." in PurePosixPath(name.replace("\\", "/")).parts:
        return "leads out of the bundle"
    if name.startswith(("/", "\\")) or name[1:2] == ":":
        return "is an absolute path"
    return ""

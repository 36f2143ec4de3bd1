"""`bundles list` and `bundles get`: bundles from the package, a folder of zips, or an address; sums are checked."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urlsplit

from tqdm import tqdm

from monai_ext.commands.bundles.files import BundleFile, BundleFiles, open_bundle
from monai_ext.commands.bundles.shipped import shipped_bundles
from monai_ext.commands.command_line import Computed, Positional
from monai_ext.runtime.errors import one_line, some_of
from monai_ext.runtime.plain_text import printable, without_secrets
from monai_ext.runtime.run_log import shows_progress, tell
from monai_ext.storage.files import inside, make_folder, scratch_path, writing
from monai_ext.storage.fingerprint import file_sha256
from monai_ext.storage.locks import FolderLock
from monai_ext.storage.records import read_record

__all__ = ["BundleSourceError", "GetOptions", "ListOptions", "get", "get_bundle", "show"]

SUMS = "SHA256SUMS"
SUM_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *]([\w.-]+)\.zip")
NAME = re.compile(r"\w[\w.-]*")
LARGEST_ZIP = 4 << 30  # bytes
LARGEST_SUMS = 1 << 20
TIMEOUT_S = (10, 60)  # to connect, and between two parts of an answer
BLOCK = 1 << 20
METADATA = "configs/metadata.json"
# Of a folder that is being filled; a later call empties it.
UNFINISHED = ".{name}.part"


@dataclass(frozen=True)
class ListOptions:
    """List the bundles that come with the package, or those of a folder of zips or an address."""

    source: Computed[str | None] = None
    """a folder of zips with SHA256SUMS, as `pack` makes it, or its address (the package)"""


@dataclass(frozen=True)
class GetOptions:
    """Put a bundle into a folder, whole or not at all: from the package, a folder of zips, or an address.

    Of zips the SHA-256 must be that of SHA256SUMS beside them. A bundle that is there already is left as it is.
    """

    name: Positional[str]
    """a name of `bundles list`"""
    source: Computed[str | None] = None
    """a folder of zips with SHA256SUMS, as `pack` makes it, or its address (the package)"""
    output_dir: Path = Path("bundles")
    """folder to put it into, under its name"""


class BundleSourceError(ValueError):
    """A source lacks a bundle, or what it has is not what its sums promise."""


def get_bundle(name: str, output_dir: str | Path = "bundles", *, source: str | Path | None = None) -> tuple[Path, bool]:
    """Put the bundle `name` into `output_dir`/`name`.

    Args:
        source: a folder of zips with SHA256SUMS, or its http(s) address; None: the bundles of the package.

    Returns:
        The bundle's folder, and whether it is new; False where the same files were there already.

    Raises:
        BundleSourceError: the source has no such bundle, its zip is not that of SHA256SUMS, or holds what is no bundle.
        ValueError: another bundle is there under this name.
        OSError: the source cannot be reached or read, or nothing can be written.
    """
    if not NAME.fullmatch(name):
        raise BundleSourceError(f"{name!r} is no name of a bundle: `bundles list` shows them.")
    target = Path(output_dir) / name
    make_folder(target.parent)
    with _opened(name, source, target.parent) as bundle:
        if bundle.problems:
            raise BundleSourceError(f"{name} from {_shown(source)}: {printable(bundle.problems[0])}; nothing is kept.")
        if METADATA not in {file.name for file in bundle.files}:
            raise BundleSourceError(f"{name} from {_shown(source)} has no {METADATA}: it is no bundle.")
        if target.exists():
            if differing := [file.name for file in bundle.files if not _is_same(file, target)]:
                raise ValueError(
                    f"'{target}' is there already, with other content ({some_of(differing, most=2)}): choose another "
                    "--output_dir, or remove it."
                )
            return target, False
        _fill(target, bundle.files)
    return target, True


@contextmanager
def _opened(name: str, source: str | Path | None, folder: Path) -> Iterator[BundleFiles]:
    """The files of a bundle, those of a zip after its sum was checked."""
    if source is None:
        shipped = shipped_bundles()
        if name not in shipped:
            raise BundleSourceError(f"no bundle {name} in the package: choose one of {', '.join(sorted(shipped))}.")
        with open_bundle(shipped[name]) as bundle:
            yield BundleFiles("folder", [file for file in bundle.files if _belongs(file.name)])
        return
    sums = _sums(source)
    if name not in sums:
        raise BundleSourceError(f"no bundle {name} in {_shown(source)}: it has {', '.join(sorted(sums)) or 'none'}.")
    with ExitStack() as stack:
        if _is_address(source):
            path = stack.enter_context(scratch_path(folder / f"{name}.zip"))
            found = _download(_below(source, f"{name}.zip"), path)
        else:
            path = Path(source) / f"{name}.zip"
            if not path.is_file():
                raise FileNotFoundError(f"there is no '{path}', though {SUMS} names it: get it from the source again.")
            found = file_sha256(path)
        if found != sums[name]:
            raise BundleSourceError(
                f"{name}.zip from {_shown(source)} has the SHA-256 {found}, but {SUMS} has {sums[name]}: nothing is "
                "kept; get it from the source again."
            )
        yield stack.enter_context(open_bundle(path))


def _belongs(name: str) -> bool:
    """Whether a file of a bundle's folder is its own, and no run or cache."""
    first, *rest = name.split("/")
    return first in ("LICENSE", "configs", "docs", "models") and not any(part.startswith((".", "__")) for part in rest)


def _fill(target: Path, files: list[BundleFile]) -> None:
    """Write files into a folder beside `target`, which gets that name when it is complete."""
    unfinished = target.with_name(UNFINISHED.format(name=target.name))
    lock = FolderLock(unfinished)
    lock.acquire()
    try:
        with writing(target):
            for each in unfinished.iterdir():
                if each != lock.path:
                    shutil.rmtree(each) if each.is_dir() else each.unlink()
            content = unfinished / target.name
            for file in files:
                place = inside(content, file.name)
                make_folder(place.parent)
                with file.opened() as incoming, place.open("wb") as outgoing:
                    _copy(incoming, outgoing, file)
            content.rename(target)
    finally:
        lock.release()
        shutil.rmtree(unfinished, ignore_errors=True)


def _copy(incoming: IO[bytes], outgoing: IO[bytes], file: BundleFile) -> None:
    left = file.size
    while block := incoming.read(BLOCK):
        left -= len(block)
        if left < 0:
            raise BundleSourceError(f"{printable(file.name)} is larger than its zip says: nothing is kept.")
        outgoing.write(block)


def _is_same(file: BundleFile, target: Path) -> bool:
    path = inside(target, file.name)
    if not path.is_file() or path.stat().st_size != file.size:
        return False
    with file.opened() as one, path.open("rb") as other:
        return all(block == other.read(BLOCK) for block in iter(lambda: one.read(BLOCK), b""))


def _sums(source: str | Path) -> dict[str, str]:
    """Name of a bundle -> SHA-256 of its zip."""
    if _is_address(source):
        with _answer(_below(source, SUMS)) as answer:
            text = next(answer.iter_content(LARGEST_SUMS), b"").decode(errors="replace")
    else:
        path = Path(source) / SUMS
        if not path.is_file():
            raise FileNotFoundError(f"no {SUMS} in '{source}': name a folder that `pack` has filled, or its address.")
        text = path.read_text(encoding="utf-8", errors="replace")
    found = (SUM_LINE.fullmatch(line.strip()) for line in text.splitlines())
    return {match[2]: match[1].lower() for match in found if match and not match[2].endswith("-huggingface")}


def _is_address(source: str | Path) -> bool:
    return isinstance(source, str) and urlsplit(source).scheme in ("http", "https")


def _below(source: str | Path, name: str) -> str:
    """The address of a file in a folder at an address, whose query stays."""
    parts = urlsplit(str(source))
    return parts._replace(path=f"{parts.path.rstrip('/')}/{quote(name)}").geturl()


def _shown(source: str | Path | None) -> str:
    return "the package" if source is None else without_secrets(f"'{source}'")


@contextmanager
def _answer(address: str) -> Iterator[Any]:
    """The answer to a request, its body unread."""
    import requests  # here, since most sources are folders

    from monai_ext.runtime.redirects import Session

    try:
        with Session() as session, session.get(address, stream=True, timeout=TIMEOUT_S) as answer:
            answer.raise_for_status()
            yield answer
    except requests.RequestException as error:
        raise OSError(f"{without_secrets(address)} cannot be had: {without_secrets(one_line(error))}.") from None


def _download(address: str, path: Path) -> str:
    """Write what lies at an address to `path`; its SHA-256."""
    digest, received = hashlib.sha256(), 0
    with _answer(address) as answer, path.open("wb") as file:
        length = answer.headers.get("Content-Length", "")
        total = int(length) if length.isdecimal() else None
        bar = tqdm(desc="download", total=total, unit="B", unit_scale=True, disable=not shows_progress())
        with bar:
            for block in answer.iter_content(BLOCK):
                received += len(block)
                if received > LARGEST_ZIP:
                    raise BundleSourceError(f"{without_secrets(address)} is larger than {LARGEST_ZIP:,} bytes.")
                digest.update(block)
                file.write(block)
                bar.update(len(block))
    return digest.hexdigest()


def show(options: ListOptions) -> int:
    """`python -m monai_ext bundles list`."""
    if options.source is not None:
        for name, digest in sorted(_sums(options.source).items()):
            print(f"{name:<24}SHA-256 {digest}")
        return 0
    for name, folder in sorted(shipped_bundles().items()):
        content = read_record(folder / METADATA, dict[str, Any], way_out="install the package again")
        print(f"{name:<24}{content.get('version', '')}  {_size(folder):>4.1f} MB  {content.get('task', '')}")
    return 0


def _size(folder: Path) -> float:
    with open_bundle(folder) as bundle:
        return sum(file.size for file in bundle.files if _belongs(file.name)) / 1e6


def get(options: GetOptions) -> int:
    """`python -m monai_ext bundles get`."""
    folder, is_new = get_bundle(options.name, options.output_dir, source=options.source)
    tell(f"{folder}" if is_new else f"{folder} is there already, with the same files")
    if is_new and options.source is not None:
        tell(f"its configs are code: python -m monai_ext inspect {folder} --strict lists what they would execute")
    return 0

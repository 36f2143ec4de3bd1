"""Which names a file of weights would import when it is unpickled, read from its opcodes; nothing is unpickled."""

from __future__ import annotations

import io
import pickletools
import re
import zipfile
import zlib
from typing import IO, Any

__all__ = ["UNREADABLE", "foreign_names", "is_torchscript", "looks_pickled"]

# What comes out of files and zips that cannot be read, `foreign_names` included.
UNREADABLE = (ValueError, OSError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error)

ZIP = b"PK\x03\x04"
LARGEST = 64 << 20  # bytes of pickled structure, tensors apart
HARMLESS = re.compile(
    r"""collections\ OrderedDict | _codecs\ encode | torch\ (Size|device|dtype|\w+Storage|u?int\d+|b?float\d+\w*|bool)
    | torch\._utils\ _rebuild_(tensor|tensor_v2|parameter) | torch\.storage\ (Untyped|Typed)Storage
    | numpy(\._?core)?(\.multiarray)?\ (scalar|_reconstruct|dtype|ndarray) | numpy\.dtypes\ \w+""",
    re.VERBOSE,
)
STRINGS = {
    "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING",
}  # fmt: skip
PUTS = {"PUT", "BINPUT", "LONG_BINPUT"}
GETS = {"GET", "BINGET", "LONG_BINGET"}


def foreign_names(file: IO[bytes]) -> list[str]:
    """Names beyond tensors and plain values, sorted; empty for weights that `weights_only=True` reads.

    Args:
        file: seekable; what `torch.save` writes (a zip with `data.pkl`), TorchScript, or a bare pickle.

    Raises:
        ValueError: it is none of these, or too large to be looked at.
    """
    found: set[str] = set()
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            pickles = [info for info in archive.infolist() if _is_pickle(info)]
            if not pickles:
                raise ValueError("it is a zip without data.pkl")
            for info in pickles:
                with archive.open(info) as member:
                    found |= _names(member.read(LARGEST + 1))
    file.seek(0)
    if file.read(4) != ZIP:  # torch.load goes by the first bytes: a zip may lie behind a pickle
        file.seek(0)
        found |= _names(file.read(LARGEST + 1))
    return sorted(name.replace(" ", ".") for name in found if not HARMLESS.fullmatch(name))


def is_torchscript(file: IO[bytes]) -> bool:
    """Whether a file is an archive that torch.jit.load reads: a program with its weights."""
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        return any(name.lower().endswith("/constants.pkl") for name in archive.namelist())


def looks_pickled(file: IO[bytes]) -> bool:
    """Whether a file begins as weights do, whatever its name is: a zip with pickles, or a pickle of protocol 2 to 5."""
    start = file.read(4)
    if start == ZIP and zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            return any(map(_is_pickle, archive.infolist()))
    return start[:1] == b"\x80" and start[1:2] in (b"\2", b"\3", b"\4", b"\5")


def _is_pickle(info: zipfile.ZipInfo) -> bool:
    return info.filename.lower().endswith(".pkl")  # torch finds DATA.PKL as well


def _names(content: bytes) -> set[str]:
    if len(content) > LARGEST:
        raise ValueError(f"its structure is larger than {LARGEST >> 20} MiB")
    stream, found = io.BytesIO(content), set()
    try:
        for _ in range(5):  # the older format of torch.save is five pickles, then the bytes of the tensors
            found |= _names_of_one(stream)
            if stream.tell() == len(content):
                break
    except (ValueError, IndexError, KeyError, AttributeError, UnicodeDecodeError, OverflowError) as error:
        before = f", but begins with one that imports {', '.join(sorted(found))}" if found else ""
        raise ValueError(f"it is no pickle ({error}){before}") from error
    return found


def _names_of_one(stream: io.BytesIO) -> set[str]:
    found: set[str] = set()
    memo: dict[int, str | None] = {}
    recent: list[str | None] = []  # texts pushed one after the other, nothing between them
    argument: Any
    for opcode, argument, _ in pickletools.genops(stream):
        name = opcode.name
        if name in STRINGS:
            recent.append(argument)
        elif name in GETS:
            recent.append(memo.get(int(argument)))
        elif name == "MEMOIZE":
            memo[len(memo)] = recent[-1] if recent else None
        elif name in PUTS:
            memo[int(argument)] = recent[-1] if recent else None
        else:
            if name in ("GLOBAL", "INST"):
                found.add(argument)
            elif name == "STACK_GLOBAL":
                pair = [text for text in recent[-2:] if text is not None]
                found.add(" ".join(pair) if len(pair) == 2 else "an unknown name")
            elif name in ("EXT1", "EXT2", "EXT4"):
                found.add("a registered extension")
            recent = []
    return found

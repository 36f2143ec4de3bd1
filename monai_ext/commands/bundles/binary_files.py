"""Files of a bundle that are no text: programs and pickles whatever their names are, arrays. Nothing is unpickled."""

from __future__ import annotations

import io
import pickletools
import zipfile
from typing import IO, Any

from monai_ext.commands.bundles.files import is_zip

__all__ = ["ARRAYS", "array_problem", "disguise_of", "is_torchscript"]

ARRAYS = frozenset({".npy", ".npz"})
LOOKED_AT = 1 << 20  # bytes in which a pickle that runs something would begin to
HEADS = {
    b"\x7fELF": "program", b"MZ": "program", b"#!": "program", b"\xca\xfe\xba\xbe": "program",
    b"\xcf\xfa\xed\xfe": "program", b"\xce\xfa\xed\xfe": "program", b"\xfe\xed\xfa\xce": "program",
    b"\xfe\xed\xfa\xcf": "program", b"7z\xbc\xaf": "is an archive that is not looked into",
    b"Rar!": "is an archive that is not looked into",
}  # fmt: skip
NAMES = {"GLOBAL", "STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4"}
CALLS = {"REDUCE", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "BUILD"}
ARRAY = b"\x93NUMPY"


def disguise_of(file: IO[bytes]) -> str:
    """What a file is that passes for text, a picture or a table.

    Returns:
        "" for nothing, "weights", "program", or a sentence on what it holds.
    """
    start = file.read(LOOKED_AT)
    for head, kind in HEADS.items():
        if start.startswith(head):
            return kind
    if start.startswith(ARRAY):
        file.seek(0)
        return array_problem(file)
    if is_zip(file):
        file.seek(0)
        return "weights" if _has_pickles(file) else "holds a zip, which is not looked into"
    return "weights" if runs_as_pickle(start) else ""


def runs_as_pickle(content: bytes) -> bool:
    """Whether unpickling `content` would call something, in whatever protocol, before it ends or fails."""
    stack: list[Any] = []
    named = False
    try:
        for opcode, _, _ in pickletools.genops(io.BytesIO(content)):
            takes = list(opcode.stack_before)
            if pickletools.markobject in takes or (opcode.name == "POP" and stack[-1] is pickletools.markobject):
                mark = max(index for index, item in enumerate(stack) if item is pickletools.markobject)
                stack[mark:] = []
                takes = takes[: takes.index(pickletools.markobject)] if pickletools.markobject in takes else []
            if len(takes) > len(stack):
                return False  # as in a text whose letters happen to be opcodes
            stack[len(stack) - len(takes) :] = opcode.stack_after
            named = named or opcode.name in NAMES
            if named and opcode.name in CALLS:
                return True
    except Exception:  # of many kinds: it is no pickle from here on
        return False
    return False


def is_torchscript(file: IO[bytes]) -> bool:
    """Whether a file is an archive that torch.jit.load reads: a program with its weights."""
    if not is_zip(file):
        return False
    with zipfile.ZipFile(file) as archive:
        names = [name.lower() for name in archive.namelist()]
    return any(name.endswith("/constants.pkl") or "/code/" in name for name in names)


def array_problem(file: IO[bytes]) -> str:
    """What is wrong with a .npy or .npz file; "" where it holds numbers alone. Headers are read, nothing else."""
    if file.read(4) != b"PK\3\4":
        file.seek(0)
        return _header_problem(file)
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            with archive.open(info) as member:
                if problem := _header_problem(member):
                    return f"{info.filename} in it {problem}"
    return ""


def _header_problem(file: IO[bytes]) -> str:
    import numpy as np

    try:
        major, _ = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
        _, _, dtype = read(file)
    except (ValueError, SyntaxError, TypeError, EOFError, KeyError) as error:
        return f"is no array ({error}): a pickle under this name would run when it is read"
    return "holds pickled objects, which run when they are read" if dtype.hasobject else ""


def _has_pickles(file: IO[bytes]) -> bool:
    with zipfile.ZipFile(file) as archive:
        return any(name.lower().endswith(".pkl") for name in archive.namelist())

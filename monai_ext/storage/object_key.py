"""Settings of any object as a text that is the same in every process, to key files made with them."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import types
from collections.abc import Mapping

import numpy as np
import torch

DEEPEST = 12


def describe(value: object, *, depth: int = 0) -> str:
    """`value` with everything that it holds, as a text.

    An object may define a method `cache_key() -> str`; otherwise class and attributes count, and a
    function's name, code, defaults and closure. Random states and loggers are left out.

    Raises:
        ValueError: there is no such text, because `value` holds something known by its address only.
    """
    if depth > DEEPEST:
        raise ValueError(_unknown(value))
    inner = functools.partial(describe, depth=depth + 1)
    if value is None or value is Ellipsis or isinstance(value, (bool, int, float, complex, str, bytes, slice, range)):
        return repr(value)
    if hasattr(value, "cache_key") and not isinstance(value, type):
        return f"{_name(type(value))}:{value.cache_key()}"
    if isinstance(value, os.PathLike):
        return repr(os.fspath(value))
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(inner, value))}]"
    if isinstance(value, (set, frozenset)):
        return f"{{{','.join(sorted(map(inner, value)))}}}"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{inner(k)}:{inner(v)}' for k, v in sorted(value.items(), key=lambda kv: str(kv[0])))}}}"
    if isinstance(value, (np.random.RandomState, np.random.Generator, torch.Generator, logging.Logger)):
        return _name(type(value))
    if isinstance(value, (np.ndarray, np.generic, torch.Tensor)):
        array = np.ascontiguousarray(value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value)
        return f"{array.dtype}{array.shape}{hashlib.sha256(array.tobytes()).hexdigest()}"
    if isinstance(value, (torch.dtype, torch.device, np.dtype)):
        return str(value)
    if isinstance(value, type):
        return _name(value)
    if isinstance(value, functools.partial):
        return f"partial({inner(value.func)},{inner(value.args)},{inner(value.keywords)})"
    if isinstance(value, types.FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        return f"{_name(value)}({_code(value.__code__)},{inner(value.__defaults__)},{inner(cells)})"
    if isinstance(value, types.MethodType):
        return f"{inner(value.__self__)}.{value.__name__}"
    if isinstance(value, types.BuiltinFunctionType):
        return _name(value)
    if hasattr(value, "__dict__"):
        return f"{_name(type(value))}({inner(vars(value))})"
    if " at 0x" in (text := repr(value)):
        raise ValueError(_unknown(value))
    return text


def _code(code: types.CodeType) -> str:
    constants = [_code(c) if isinstance(c, types.CodeType) else describe(c) for c in code.co_consts]
    return hashlib.sha256(repr((code.co_code, code.co_names, constants)).encode()).hexdigest()


def _name(value: object) -> str:
    return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '')}"


def _unknown(value: object) -> str:
    return (
        f"the settings in {type(value).__name__} are unknown, so its results cannot be kept in a file: "
        "give the transform a method cache_key() that returns them as text, or leave cache_dir unset."
    )

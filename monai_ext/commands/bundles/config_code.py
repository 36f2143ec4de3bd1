"""What MONAI would execute of a bundle's config: imports, `$` expressions, `_target_`s and macros, found by reading.

Nothing is imported or evaluated. Every text is normalised as MONAI does it before it is parsed by `ast`, and whatever
is not in the lists of `allowed_names` is marked. That narrows what a config can do; it cannot prove it harmless.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from monai_ext.commands.bundles.allowed_names import BUILTINS, LOADERS, MODULES, is_allowed_name, is_allowed_target
from monai_ext.commands.bundles.expressions import (
    IMPORTED_BY_NAME,
    MUST_BE,
    NEVER,
    REFERENCES,
    expression_warnings,
    full_name,
    suspicious_text,
)

__all__ = ["Code", "LIMIT", "code_of", "imported_names"]

LIMIT = 100_000  # values of one config that are looked at
LONGEST = 10_000  # characters of an expression that are parsed
GLOBALS = {"monai": "monai", "torch": "torch", "np": "numpy", "numpy": "numpy"}  # what MONAI gives to expressions
RELATIVE = re.compile(r"[@%]::+")  # as monai.bundle.ConfigParser.relative_id_prefix
REFERENCE = re.compile(r"@(?:\w*)(?:::\w*)*")  # as monai.bundle.ReferenceResolver.id_matcher
OTHER_FILE = re.compile(r".*\.(json|ya?ml)(?=(?:::.*)|$)", re.IGNORECASE)
ODD_KEY = re.compile(r"""['"()\[\]{}$@%\\\n\r=;,]""")
COMPILED = frozenset({"mode", "fullgraph", "dynamic"})  # arguments of torch.compile; others choose a compiler's command
FILE_NAMES = frozenset({"filename", "mapping_file_path"})  # of targets that write text files
DATA_FILE = re.compile(r".*\.(csv|json|log|txt)")


@dataclass(frozen=True)
class Code:
    """One thing that MONAI executes, or a value that it would make something executable of.

    Attributes:
        where: id in the config, such as `train#handlers#3`.
        kind: "import", "expression", "target", "macro" (content of another place or file, taken as config), or "value".
        text: as written, without the mark in front.
        warning: what to look at, in words; empty where everything is in the lists of `allowed_names`.
        arguments: of a target, as written; components among them as a reference to their own entry.
    """

    where: str
    kind: str
    text: str
    warning: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Value:
    """A text, number or truth value in a config; `parent` is the mapping that it stands in."""

    id: str
    value: Any
    parent: Mapping[Any, Any] | None

    @property
    def key(self) -> str:
        """The last part of the id that is no index of a list."""
        return next((part for part in reversed(self.id.split("::")) if not part.isdigit()), "")

    @property
    def owner(self) -> str:
        return self.id.rpartition("::")[0]


def code_of(config: Mapping[str, Any], *, names: Mapping[str, str] | None = None) -> list[Code]:
    """Everything in a config that is executed, in the config's order.

    Args:
        names: what further configs of the same bundle import, from `imported_names`: they can be run together.

    Raises:
        ValueError: there are more values than `LIMIT`.
    """
    values = list(_values(config))
    imports = [value.id for value in values if _import_of(value.value) is not None]
    texts = {value.id: value.value for value in values if isinstance(value.value, str)}
    reader = _Reader(
        names=GLOBALS | dict(names or {}) | imported_names(config),
        imports=imports,
        targets={value.owner: value.value for value in values if value.key == "_target_"},
        texts=texts,
        has_relative=any(RELATIVE.search(text.replace("#", "::")) for text in texts.values()),
    )
    return [code for value in values for code in (reader.code(value), reader.doubt(value)) if code is not None]


def imported_names(config: Mapping[str, Any]) -> dict[str, str]:
    """Names that the imports of a config make, and what they stand for."""
    names: dict[str, str] = {}
    for value in _values(config):
        if (statement := _import_of(value.value)) is not None:
            names |= _bound(statement)
    return names


def _values(config: Mapping[str, Any]) -> Iterator[_Value]:
    """Every text and number in a config with its id, in order; no recursion: nesting is the config's choice."""
    waiting: list[tuple[str, Any, Any]] = [("", config, None)]
    for _ in range(LIMIT):
        if not waiting:
            return
        where, value, parent = waiting.pop()
        if isinstance(value, Mapping):
            parts = [(_key(key, top=not where), part) for key, part in value.items()]
        elif isinstance(value, (list, tuple, set, frozenset)):
            parts = [(str(index), part) for index, part in enumerate(value)]
        else:
            yield _Value(where, value, parent)
            continue
        if len(waiting) + len(parts) > LIMIT:
            break
        holder = value if isinstance(value, Mapping) else parent
        waiting += [(f"{where}::{key}" if where else key, part, holder) for key, part in reversed(parts)]
    raise ValueError(f"it holds more than {LIMIT:,} values.")


def _key(key: Any, *, top: bool) -> str:
    """A key as MONAI reads it: `#` and `::` both separate, and `+` in front of one of a config merges."""
    text = str(key).replace("#", "::")
    return text.removeprefix("+") if top else text


@dataclass(frozen=True)
class _Reader:
    """Looks at values of one config.

    Attributes:
        names: what expressions call modules and their parts -> full name.
        imports: ids of import statements.
        targets: id of a component -> its `_target_`.
        texts: every text by its id.
        has_relative: whether there are references to a place relative to their own, which the names of keys become part
            of.
    """

    names: Mapping[str, str]
    imports: list[str]
    targets: Mapping[str, Any]
    texts: Mapping[str, str]
    has_relative: bool

    def code(self, value: _Value) -> Code | None:
        """What is executed of a value; None where it is data."""
        where, text = value.id.replace("::", "#"), value.value
        if value.key == "_target_" and value.id.endswith("_target_"):
            return Code(where, "target", str(text), self._target_warning(text), _arguments(value))
        if not isinstance(text, str):
            return None
        if text.startswith("$"):
            if (statement := _import_of(text)) is not None:
                return Code(where, "import", text[1:], _import_warning(statement))
            return Code(where, "expression", text[1:], self._expression_warning(value.id, text))
        if text.startswith("%"):
            return Code(where, "macro", text[1:], self._macro_warning(value.id, text))
        return None

    def doubt(self, value: _Value) -> Code | None:
        """A value that is data, but from which MONAI would make something else."""
        warning = self._argument_warning(value) or self._key_warning(value)
        if not warning and isinstance(value.value, str) and not value.value.startswith("$"):
            if value.value.startswith("@"):
                warning = self._reference_warning(_resolved(value.id, value.value) or "")
            elif value.key not in ("_target_", "_desc_"):
                warning = suspicious_text(value.value)
        return Code(value.id.replace("::", "#"), "value", str(value.value), warning) if warning else None

    def _target_warning(self, target: Any) -> str:
        if not isinstance(target, str) or not re.fullmatch(r"[A-Za-z_][\w.]*", target, re.ASCII):
            return f"calls {target}, which is no plain name" if isinstance(target, str) else "calls what is no name"
        return "" if is_allowed_target(target) else f"calls {target}"

    def _argument_warning(self, value: _Value) -> str:
        name, content, above = value.key, value.value, value.id.split("::")[:-1]
        if "_target_" in above:
            return "calls what another component makes"
        if "compile_kwargs" in above:
            return "" if name in COMPILED and not str(content).startswith(("$", "@", "%")) else f"compiles with {name}"
        if name in NEVER and content is not None and self._is_argument(value):
            return f"sets {name}"
        if name in MUST_BE and content is not MUST_BE[name]:
            return f"sets {name} to {content}"
        if name == "_mode_":
            if content not in ("default", "callable"):
                return f"sets _mode_ to {content}"
            if content == "callable" and _last(self.targets.get(value.owner)) in LOADERS:
                return f"hands on {self.targets[value.owner]}, which imports what a text names"
        if name in IMPORTED_BY_NAME and isinstance(content, str) and not self._names_a_part(name, value):
            return f"gives {name} {content}, which is imported by its name"
        if name in FILE_NAMES and _last(self.targets.get(value.owner)) in LOADERS:
            if not isinstance(content, str) or not DATA_FILE.fullmatch(content) or content.startswith(("$", "@", "%")):
                return f"writes a text file of the name {content}"
        return ""

    def _is_argument(self, value: _Value) -> bool:
        """Whether a value belongs to a component; `file` and `store` are also ids that people choose."""
        return value.key not in ("file", "store") or value.owner in self.targets

    def _names_a_part(self, argument: str, value: _Value) -> bool:
        text = value.value
        if text.startswith("@"):
            return (_resolved(value.id, text) or "@")[1:] in self.targets
        if re.fullmatch(r"\$[\w.]+", text):
            return is_allowed_name(full_name(text[1:].split("."), self.names))
        return IMPORTED_BY_NAME[argument].fullmatch(text) is not None

    def _key_warning(self, value: _Value) -> str:
        if not self.has_relative:
            return ""
        key = value.id.rpartition("::")[2]
        return f"has the odd key {key!r}, which relative references put into expressions" if ODD_KEY.search(key) else ""

    def _macro_warning(self, where: str, text: str) -> str:
        text = _resolved(where, text) or text
        if OTHER_FILE.search(text[1:].replace("#", "::")):
            return "takes config from another file"
        if warning := self._reference_warning("@" + text[1:]):
            return warning
        copied = text[1:].replace("#", "::")
        inside = (part for id, part in self.texts.items() if id == copied or id.startswith(f"{copied}::"))
        if any(part.startswith("$") and RELATIVE.search(part.replace("#", "::")) for part in inside):
            return "copies expressions with relative references, which mean something else in another place"
        return ""

    def _reference_warning(self, text: str) -> str:
        """Of references to import statements: their values are whole modules."""
        for found in REFERENCE.findall(text.replace("#", "::")):
            referred = found[1:]
            if any(id == referred or id.startswith(f"{referred}::") or not referred for id in self.imports):
                return f"hands on the whole module of {found}"
        return ""

    def _expression_warning(self, where: str, text: str) -> str:
        if len(text) > LONGEST:
            return f"has {len(text):,} characters, too long to be looked at"
        normalised = _resolved(where, text)
        if normalised is None:
            return "cannot be parsed (a relative reference leads out of the config)"
        found = [self._reference_warning(normalised)]
        for reference in sorted(REFERENCE.findall(normalised), key=len, reverse=True):
            normalised = normalised.replace(reference, f"{REFERENCES}['{reference[1:]}']")
        try:
            tree = ast.parse(normalised[1:].lstrip(" \t"), mode="eval")
            found += expression_warnings(tree, self.names)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            return f"cannot be parsed ({type(error).__name__})"
        return "; ".join(dict.fromkeys(warning for warning in found if warning))


def _resolved(where: str, text: str) -> str | None:
    """`text` as MONAI's parser leaves it: `#` becomes `::`, relative ids become whole; None where they lead outside."""
    text = text.replace("#", "::")
    parts = where.split("::")
    for prefix in sorted(set(RELATIVE.findall(text)), reverse=True):
        length = prefix[1:].count("::")
        if length > len(parts):
            return None
        above = "" if length == len(parts) else "::".join(parts[:-length]) + "::"
        text = text.replace(prefix, prefix[0] + above)
    return text


def _import_of(text: Any) -> ast.Import | ast.ImportFrom | None:
    if not isinstance(text, str) or not text.startswith("$") or "import" not in text or len(text) > LONGEST:
        return None
    try:
        body = ast.parse(text[1:].replace("#", "::")).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return body[0] if body and isinstance(body[0], (ast.Import, ast.ImportFrom)) else None


def _bound(statement: ast.Import | ast.ImportFrom) -> dict[str, str]:
    name = statement.names[0]  # MONAI takes the first
    full = f"{statement.module}.{name.name}" if isinstance(statement, ast.ImportFrom) else name.name
    return {name.asname or name.name: full}


def _import_warning(statement: ast.Import | ast.ImportFrom) -> str:
    ((name, full),) = _bound(statement).items()
    dotted_module = isinstance(statement, ast.Import) and full.partition(".")[0] in MODULES
    if not full.isascii() or not (full in MODULES or is_allowed_name(full) or dotted_module):
        return f"imports {full}"
    usual = GLOBALS.get(name, name)
    if (name in BUILTINS or name in MODULES or name in GLOBALS) and full != usual:
        return f"gives the name {name} to {full}"
    return ""


def _last(name: Any) -> str:
    return name.rpartition(".")[2] if isinstance(name, str) else ""


def _arguments(value: _Value) -> dict[str, Any]:
    """Arguments of a target as they are written; of a component among them, where it is listed."""
    if value.parent is None or not value.id.endswith("::_target_"):
        return {}
    owner = value.owner.replace("::", "#")
    return {str(key): _written(part, f"{owner}#{key}") for key, part in value.parent.items() if key != "_target_"}


def _written(part: Any, where: str) -> Any:
    if isinstance(part, Mapping):
        return f"@{where}" if "_target_" in part else {str(k): _written(v, f"{where}#{k}") for k, v in part.items()}
    if isinstance(part, (list, tuple)):
        return [_written(each, f"{where}#{index}") for index, each in enumerate(part)]
    return part

"""What MONAI would execute of a bundle's config: imports, `$` expressions, `_target_`s and macros, found by reading.

Nothing is imported or evaluated. Expressions are parsed by `ast`, and names followed through the config's own imports.
The warnings help to read a config; a config without any is not thereby harmless.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any

__all__ = ["Code", "LIMIT", "code_of"]

LIMIT = 100_000  # values of one config that are looked at
LONGEST = 10_000  # characters of an expression that are parsed
PACKAGES = {"monai", "monai_ext", "torch", "ignite", "numpy"}
GLOBALS = {"monai": "monai", "torch": "torch", "np": "numpy", "numpy": "numpy"}  # what MONAI gives to expressions
REFERENCE = re.compile(r"@(?:#|::)*\w+(?:(?:#|::)\w+)*")
HARMLESS_MODULES = frozenset(
    "collections copy datetime functools glob itertools json logging math operator os os.path pathlib random re "
    "statistics string time typing".split()
)
HARMLESS_OS = re.compile(r"os\.(path|environ|sep|cpu_count|listdir|getcwd|makedirs)(\.\w+)*")
DANGEROUS = re.compile(
    r"""(builtins\.)?(eval|exec|compile|__import__|open|breakpoint|getattr|setattr|delattr|globals|locals|vars)
    |(.*\.)?(sys|subprocess|shutil|socket|ctypes|importlib|builtins|runpy|code|pty|pickle|marshal|shelve|urllib|http
      |ftplib|smtplib|requests|huggingface_hub|webbrowser|tempfile|pip)(\..*)?
    |.*\._?os\.(?!path\.|environ\b).*
    |.*\.(__\w+__|system|popen|(posix_)?spawn\w*|exec\w*|fork|kill|run_cmd
      |unlink|rmtree|rmdir|remove|rename|chmod|open|touch|write|writelines|write_text|write_bytes|tofile|truncate
      |symlink_to|hardlink_to|load_library|load_url|load_state_dict_from_url|download\w*|extractall
      |optional_import|load_submodules|instantiate|locate|pydoc|runstring|rundocs)
    |(operator\.)?(attrgetter|methodcaller)
    |logging\.(\w*FileHandler|basicConfig|config\..*|handlers\..*)
    |torch\.(load|save|serialization\..*|hub\..*|utils\.(cpp_extension|collect_env|model_zoo).*|package\..*
      |multiprocessing\..*|jit\.(load|save)|distributed\.(run|launch|launcher|elastic)\b.*|testing\._internal.*)
    |(numpy|np)\.(load|loadtxt|genfromtxt|save\w*|fromfile|memmap|ctypeslib.*|lib\..*|distutils.*|f2py.*|testing\..*)
    |monai\.bundle\..*|monai\.apps\..*download.*
    |pathlib\.Path\.\w+""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Code:
    """One thing that MONAI executes.

    Attributes:
        where: id in the config, such as `train#handlers#3`.
        kind: "import", "expression", "target", or "macro" (content of another place or file, taken as config).
        text: as written, without the mark in front.
        warning: what to look at, in words; empty where all names are of MONAI, PyTorch, Ignite, NumPy or monai_ext,
            and none of them is known to reach files, processes or the network.
    """

    where: str
    kind: str
    text: str
    warning: str = ""


def code_of(config: Mapping[str, Any]) -> list[Code]:
    """Everything in a config that is executed, in the config's order.

    Raises:
        ValueError: there are more values than `LIMIT`.
    """
    strings = list(_strings(config))
    aliases, modules = dict(GLOBALS), set(GLOBALS)
    for _, text in strings:
        if (statement := _import_of(text)) is not None:
            aliases |= _bound(statement)
            if isinstance(statement, ast.Import):
                modules |= _bound(statement).keys()
    return [code for where, text in strings if (code := _code(where, text, aliases, modules)) is not None]


def _strings(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Every text in a config with its id, in order; without recursion, since nesting is the config's choice."""
    waiting: list[tuple[str, Any]] = [("", config)]
    for _ in range(LIMIT):
        if not waiting:
            return
        where, value = waiting.pop()
        if isinstance(value, Mapping):
            parts = [(str(key), part) for key, part in value.items()]
        elif isinstance(value, (list, tuple)):
            parts = [(str(index), part) for index, part in enumerate(value)]
        else:
            if isinstance(value, str):
                yield where, value
            continue
        if len(waiting) + len(parts) > LIMIT:
            break
        parts = [(key.replace("::", "#"), part) for key, part in parts]  # both separate the parts of a name
        waiting += [(f"{where}#{key}" if where else key, part) for key, part in reversed(parts)]
    raise ValueError(f"it holds more than {LIMIT:,} values.")


def _code(where: str, text: str, aliases: Mapping[str, str], modules: Set[str]) -> Code | None:
    if text.startswith("$"):
        statement = _import_of(text)
        if statement is not None:
            return Code(where, "import", text[1:], _import_warning(statement))
        return Code(where, "expression", text[1:], _expression_warning(text[1:], aliases, modules))
    if where.rpartition("#")[2] == "_target_":
        return Code(where, "target", text, _name_warning(text, whole=True))
    if text.startswith("%"):
        outside = not text[1:].startswith(("#", "::")) and re.search(r"\.(json|ya?ml)\b", text, re.IGNORECASE)
        return Code(where, "macro", text[1:], "takes config from another file" if outside else "")
    return None


def _import_of(text: str) -> ast.Import | ast.ImportFrom | None:
    if not text.startswith("$") or "import" not in text or len(text) > LONGEST:
        return None
    try:
        body = ast.parse(text[1:]).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return body[0] if body and isinstance(body[0], (ast.Import, ast.ImportFrom)) else None


def _bound(statement: ast.Import | ast.ImportFrom) -> dict[str, str]:
    name = statement.names[0]  # MONAI takes the first
    full = f"{statement.module}.{name.name}" if isinstance(statement, ast.ImportFrom) else name.name
    return {name.asname or name.name: full}


def _import_warning(statement: ast.Import | ast.ImportFrom) -> str:
    full = next(iter(_bound(statement).values()))
    module = (statement.module or "") if isinstance(statement, ast.ImportFrom) else full
    if module.partition(".")[0] in PACKAGES:
        return _name_warning(full)
    return "" if module in HARMLESS_MODULES and not _dangerous(full) else f"imports {full}"


def _expression_warning(text: str, aliases: Mapping[str, str], modules: Set[str]) -> str:
    if len(text) > LONGEST:
        return f"has {len(text):,} characters, too long to be looked at"
    try:
        tree = ast.parse(REFERENCE.sub("_reference", text).strip(), mode="eval")
        names = {_dotted(node, aliases) for node in ast.walk(tree) if isinstance(node, (ast.Name, ast.Attribute))}
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return f"cannot be parsed ({type(error).__name__})"
    found = sorted(name for name in names if name and (_dangerous(name) or "__" in name))
    if found:
        return f"reaches {', '.join(found)}"
    if handed := sorted(_bare_names(tree) & modules):
        return f"hands on the whole module {', '.join(handed)}"  # under another name it would not be followed
    return (
        "" if text.isascii() or not any(not name.isascii() for name in names) else "names with other than ASCII letters"
    )


def _bare_names(tree: ast.AST) -> set[str]:
    """Names that stand by themselves, not before a dot."""
    before_dots = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and id(node) not in before_dots}


def _dotted(node: ast.AST, aliases: Mapping[str, str]) -> str:
    """`torch.nn.Module` of an attribute chain; a chain that starts at a value begins with `?`."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    root = aliases.get(node.id, node.id) if isinstance(node, ast.Name) else "?"
    return ".".join([root, *reversed(parts)])


def _name_warning(name: str, *, whole: bool = False) -> str:
    if not name.isascii() or not re.fullmatch(r"[\w.]+", name):
        return "a name with unusual characters"
    if _dangerous(name) or "__" in name:
        return f"reaches {name}"
    if whole and "." not in name and name[:1].islower():
        return f"calls the function {name}, whichever of MONAI's has that name"
    if whole and "." in name and name.partition(".")[0] not in PACKAGES:
        return f"calls {name}"
    return ""


def _dangerous(name: str) -> bool:
    if name.startswith("os.") and HARMLESS_OS.fullmatch(name) is None:
        return True
    return DANGEROUS.fullmatch(name) is not None

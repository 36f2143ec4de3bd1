"""What a `$` expression uses beyond the lists of `allowed_names`, found in its syntax tree; nothing is evaluated."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping

from monai_ext.commands.bundles.allowed_names import (
    ATTRIBUTES,
    BUILTINS,
    CALLED_ONLY,
    COUNTED,
    MODULES,
    is_allowed_name,
    is_allowed_target,
)

__all__ = [
    "IMPORTED_BY_NAME", "MUST_BE", "NEVER", "REFERENCES", "expression_warnings", "full_name", "suspicious_text",
]  # fmt: skip

REFERENCES = "__local_refs"  # what MONAI calls the referred values in an expression
NODES = (
    ast.Expression, ast.Constant, ast.Name, ast.Attribute, ast.Call, ast.keyword, ast.Subscript, ast.Slice, ast.Starred,
    ast.List, ast.Tuple, ast.Dict, ast.Set, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.operator,
    ast.unaryop, ast.boolop, ast.cmpop, ast.expr_context, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp,
    ast.comprehension, ast.Lambda, ast.arguments, ast.arg, ast.JoinedStr, ast.FormattedValue,
)  # fmt: skip
SWITCHES = frozenset({"benchmark", "deterministic", "enabled", "allow_tf32"})  # of torch.backends.cudnn
# Arguments by which MONAI, NumPy or PyTorch unpickle, write what is given, wait for a debugger or contact a server.
NEVER = frozenset({"_debug_", "pickle_module", "formatter", "init_method", "store", "file", "compile_kwargs"})
MUST_BE = {"allow_pickle": False, "weights_only": True}
IMPORTED_BY_NAME = {
    "reader": re.compile(r"(monai\.data\.)?(ITK|Nibabel|Nrrd|Numpy|PIL|Pydicom|WSI)Reader", re.IGNORECASE),
    "writer": re.compile(r"(monai\.data\.)?(ITK|Nibabel|PIL)Writer", re.IGNORECASE),
    "merger_cls": re.compile(r"(monai\.inferers\.(merger\.)?)?(Zarr)?AvgMerger"),
}
PROGRAM = re.compile(r"\.(py|pyc|pyw|so|pyd|dll|dylib|sh|bash|zsh|bat|cmd|ps1|exe|desktop|service)$", re.IGNORECASE)
HIDDEN = re.compile(
    r"(^|[/\\])\.[A-Za-z]\w*[/\\]|[/\\]\.[A-Za-z]|^\.(bash|z?profile|zsh|ssh|config|git|local|netrc|vimrc)"
)
# First parts of dotted texts that would be taken for a name to import.
IMPORTABLE = frozenset(
    """
    builtins os posix nt sys subprocess shutil socket ctypes importlib runpy pty pickle marshal shelve urllib http
    ftplib smtplib requests webbrowser tempfile pip code codeop platform multiprocessing concurrent asyncio threading
    signal timeit cProfile profile pdb bdb trace pydoc doctest unittest zipimport zipfile tarfile site imp gc inspect
    types operator functools monai monai_ext torch numpy ignite fire yaml jinja2 tqdm PIL
    """.split()
)


def expression_warnings(tree: ast.AST, names: Mapping[str, str]) -> Iterator[str]:
    """What to look at in a parsed expression, in words; an empty text where a part of it is allowed.

    Args:
        names: what the expression calls modules and their parts -> full name.
    """
    return _Expression(tree, names).warnings()


def suspicious_text(text: str) -> str:
    """Of a text that is data: whether it names a program or a hidden file, or part of Python that could be imported.

    >>> suspicious_text("~/.bashrc"), suspicious_text("models/model.pt"), suspicious_text("os.system")
    ('names the hidden file or folder ~/.bashrc', '', 'names os.system')
    """
    if PROGRAM.search(text):
        return f"names the program {text}"
    if HIDDEN.search(text) and not text.startswith(("http:", "https:")):
        return f"names the hidden file or folder {text}"
    if re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", text) and text.partition(".")[0] in IMPORTABLE:
        return "" if is_allowed_target(text) or is_allowed_name(text) else f"names {text}"
    return ""


def full_name(parts: list[str], names: Mapping[str, str]) -> str:
    """A dotted name whose first part is replaced by what it stands for.

    >>> full_name(["np", "mean"], {"np": "numpy"})
    'numpy.mean'
    """
    return ".".join([names.get(parts[0], parts[0]), *parts[1:]])


class _Expression:
    """A parsed expression, looked at node by node."""

    def __init__(self, tree: ast.AST, names: Mapping[str, str]):
        self.nodes, self.names = list(ast.walk(tree)), names
        self.bound = {node.arg for node in self.nodes if isinstance(node, ast.arg)} | {
            node.id for node in self.nodes if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)
        }
        self.inner = {id(node.value) for node in self.nodes if isinstance(node, ast.Attribute)}
        self.calls = {id(node.func): node for node in self.nodes if isinstance(node, ast.Call)}
        self.subscripts = {id(node.value): node for node in self.nodes if isinstance(node, ast.Subscript)}

    def warnings(self) -> Iterator[str]:
        for node in self.nodes:
            if not isinstance(node, NODES):
                yield f"uses {type(node).__name__}"
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield suspicious_text(node.value)
            elif isinstance(node, ast.Constant) and isinstance(node.value, bytes):
                yield "holds bytes"
            elif isinstance(node, ast.Call):
                yield from self._keywords(node)
            elif isinstance(node, (ast.Name, ast.Attribute)) and id(node) not in self.inner:
                yield self._chain(node)
        for name in sorted(self.bound & (BUILTINS | MODULES | self.names.keys())):
            yield f"gives the name {name} to something else"

    def _keywords(self, call: ast.Call) -> Iterator[str]:
        if isinstance(call.func, ast.Name) and call.func.id == "dict":
            return
        for keyword in call.keywords:
            value = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
            if keyword.arg is None:
                yield "calls with arguments (**) that are not to be seen"
            elif keyword.arg in NEVER or keyword.arg in IMPORTED_BY_NAME:
                yield f"sets {keyword.arg}"
            elif keyword.arg in MUST_BE and value is not MUST_BE[keyword.arg]:
                yield f"sets {keyword.arg} to {ast.unparse(keyword.value)}"

    def _chain(self, node: ast.Name | ast.Attribute) -> str:
        """Of a name with the attributes after it, or of attributes of a value."""
        parts: list[str] = []
        value: ast.expr = node
        while isinstance(value, ast.Attribute):
            parts.insert(0, value.attr)
            value = value.value
        if not isinstance(value, ast.Name):
            return self._attributes(node, "", parts)
        root = value.id
        if root == REFERENCES:
            base = self.subscripts.get(id(value))
            good = not parts and base is not None and isinstance(base.slice, ast.Constant)
            return "" if good else f"reaches {REFERENCES}"
        if root in self.bound:
            return self._attributes(node, root, parts)
        if root in BUILTINS and root not in CALLED_ONLY:
            return self._attributes(node, root, parts)
        full = full_name([root, *parts], self.names).split(".")
        if full == ["os", "environ"] and id(node) in self.subscripts:
            return ""
        for length in range(len(full), 0, -1):
            name = ".".join(full[:length])
            if is_allowed_name(name):
                if name in CALLED_ONLY:
                    return self._called_only(name, node) if length == len(full) else f"reaches {'.'.join(full)}"
                return self._attributes(node, name, full[length:])
        if full == ["torch", "backends", "cudnn"] and any(
            _is_switch(call) and call.args[0] is node for call in self.calls.values()
        ):
            return ""
        return f"{'hands on the whole module' if '.'.join(full) in MODULES else 'reaches'} {'.'.join(full)}"

    def _attributes(self, top: ast.AST, start: str, parts: list[str]) -> str:
        for part in parts:
            if part not in ATTRIBUTES and not re.fullmatch(r"[A-Z][A-Z0-9_]*", part):
                return f"reaches {'.'.join([start or '(a value)', *parts])}"
        if parts and parts[-1] in COUNTED:
            call, (least, most) = self.calls.get(id(top)), COUNTED[parts[-1]]
            plain = call is not None and not call.keywords and not any(isinstance(a, ast.Starred) for a in call.args)
            if not plain or call is None or not least <= len(call.args) <= most:
                return f"reaches {'.'.join([start or '(a value)', *parts])}"
        return ""

    def _called_only(self, name: str, node: ast.AST) -> str:
        call = self.calls.get(id(node))
        if call is None:
            return f"hands on {name}"
        if name == "setattr":
            return "" if _is_switch(call) else "reaches setattr"
        words = {keyword.arg for keyword in call.keywords}
        starred = any(isinstance(argument, ast.Starred) for argument in call.args)
        if starred or len(call.args) > 1 or not words <= CALLED_ONLY[name]:
            return f"calls {name} with arguments that are not allowed"
        return "" if name != "torch.load" or "weights_only" in words else "calls torch.load without weights_only=True"


def _is_switch(call: ast.Call) -> bool:
    """Whether a call is `setattr(torch.backends.cudnn, "benchmark", VALUE)`, which many bundles have."""
    if len(call.args) != 3 or call.keywords or not (isinstance(call.func, ast.Name) and call.func.id == "setattr"):
        return False
    module, name, value = call.args
    return (
        ast.unparse(module) == "torch.backends.cudnn"
        and isinstance(name, ast.Constant)
        and name.value in SWITCHES
        and isinstance(value, ast.Constant)
    )

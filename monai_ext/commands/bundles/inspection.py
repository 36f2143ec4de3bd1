"""`inspect`: what a bundle would execute, found without executing any of it."""

from __future__ import annotations

import ast
import configparser
import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from monai_ext.commands.bundles.config_code import Code, code_of
from monai_ext.commands.bundles.files import WEIGHTS, BundleFile, BundleFiles, leaves_the_bundle, open_bundle
from monai_ext.commands.bundles.pickled_names import UNREADABLE, foreign_names, is_torchscript, looks_pickled
from monai_ext.commands.command_line import Positional

__all__ = ["InspectOptions", "Inspection", "inspect_bundle", "inspection_text", "run"]

LARGEST_CONFIG = 10 << 20  # bytes
LARGEST_WEIGHTS = 4 << 30
CONFIGS = {".json", ".yml", ".yaml"}
LOGGING = {".conf", ".ini", ".cfg"}
PROGRAMS = {
    ".py", ".pyc", ".pyw", ".pyz", ".egg", ".whl", ".so", ".pyd", ".dll", ".dylib", ".pt2", ".sh", ".bat", ".cmd",
    ".ps1", ".exe", ".ipynb",
}  # fmt: skip
HARMLESS_CLASSES = re.compile(r"(logging\.)?(StreamHandler|NullHandler|Formatter)")
OF_TORCHSCRIPT = re.compile(r"__torch__\..*|torch\.jit\._pickle\.\w+")  # names that torch.jit.load looks up in the file
EVALUATED = ("class", "args", "kwargs", "defaults")  # in a logging config
FIRST = ("imports", "initialize", "run", "finalize")  # ids that MONAI executes by itself
SHOWN = 400  # characters of an expression


@dataclass(frozen=True)
class InspectOptions:
    """Show what a bundle would execute, without executing it: imports, expressions, `_target_`s, weights, code.

    A bundle's config is code: `monai.bundle` evaluates every `$` expression and calls every `_target_` in it. Lines
    marked with ! reach beyond MONAI, PyTorch, Ignite, NumPy and this package, or touch files, processes or the network.
    They are an aid to reading: a bundle without such lines is not thereby harmless.
    """

    bundle: Positional[Path]
    """a bundle's folder or zip, a config, a run.json, or a file of weights"""
    json: bool = False
    """for programs: everything found, as JSON"""
    strict: bool = False
    """exit status 1 if there is anything to look at"""


@dataclass
class Inspection:
    """What was found in a bundle.

    Attributes:
        configs: name of a config -> what it executes.
        weights: name of a file of weights -> names beyond tensors that it would import.
        programs: files that Python, TorchScript or a shell could run.
        downloads: addresses that large_files names.
        problems: sentences on what is broken, odd or too large.
        about: name and version from metadata.json.
    """

    kind: str
    files: int = 0
    size: int = 0
    about: str = ""
    configs: dict[str, list[Code]] = field(default_factory=dict)
    weights: dict[str, list[str]] = field(default_factory=dict)
    programs: list[str] = field(default_factory=list)
    downloads: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def warnings(self) -> list[str]:
        """Everything to look at before the bundle is trusted, one sentence each."""
        findings = [f"{name}: {problem}" if name else problem for name, problem in self._findings()]
        return [*findings, *self.problems]

    def _findings(self) -> Iterator[tuple[str, str]]:
        for name, codes in self.configs.items():
            yield from ((name, f"{code.where} {code.warning}") for code in codes if code.warning)
        for name, names in self.weights.items():
            if names:
                yield name, f"is more than tensors: unpickling it imports {', '.join(names)}"
        for name in self.programs:
            yield name, "is a program, which a config can import or load when the bundle runs"


def inspect_bundle(path: str | Path) -> Inspection:
    """Look into a bundle's folder, its zip, a config file, a run.json, or a file of weights.

    Raises:
        FileNotFoundError, ValueError: there is nothing to look into; see `open_bundle`.
    """
    with open_bundle(path) as bundle:
        found = Inspection(bundle.kind, len(bundle.files), sum(file.size for file in bundle.files))
        found.problems += bundle.problems
        for file in bundle.files:
            try:
                _look_into(file, bundle, found)
            except RecursionError:
                found.problems.append(f"{file.name}: is nested too deeply to be read")
            except UNREADABLE as error:
                found.problems.append(f"{file.name}: cannot be read: {error}")
        if not found.configs and not found.weights and not found.problems:
            found.problems.append("no config: nothing that monai.bundle could run")
    return found


def _look_into(file: BundleFile, bundle: BundleFiles, found: Inspection) -> None:
    path = PurePosixPath(file.name)
    suffix, folder = path.suffix.lower(), path.parent.name
    if suffix in WEIGHTS:
        _look_into_weights(file, found)
    elif suffix in PROGRAMS:
        found.programs.append(file.name)
    elif suffix in CONFIGS:
        is_config = "configs" in path.parts[:-1] or folder == "extra" or bundle.kind == "file"
        _look_into_config(file, found, is_config=is_config or path.name == "run.json")
    elif suffix in LOGGING:
        _look_into_logging(file, found)
    else:
        with file.opened() as stream:
            pickled = looks_pickled(stream)
        if pickled:
            _look_into_weights(file, found)


def _look_into_weights(file: BundleFile, found: Inspection) -> None:
    if file.size > LARGEST_WEIGHTS:
        raise ValueError(f"it is larger than {LARGEST_WEIGHTS:,} bytes")
    with file.opened() as stream:
        names, has_program = foreign_names(stream), is_torchscript(stream)
    if has_program:
        found.programs.append(file.name)
        names = [name for name in names if not OF_TORCHSCRIPT.fullmatch(name)]
    found.weights[file.name] = names


def _look_into_config(file: BundleFile, found: Inspection, *, is_config: bool) -> None:
    """Every JSON or YAML file: any can be run. Where none belongs, only one that would execute something is shown."""
    content = _parsed(file, found)
    if not isinstance(content, dict):
        if is_config:
            raise ValueError("its content is no mapping")
        return
    if PurePosixPath(file.name).name == "metadata.json":
        found.about = f"{content.get('name', '')} {content.get('version', '')}".strip()
    is_list = PurePosixPath(file.name).stem == "large_files"
    if is_list:
        _look_into_downloads(file, content, found)
    codes, origin = [], content.get("origin")
    if isinstance(origin, dict) and isinstance(origin.get("config"), dict):  # run.json
        codes = code_of(origin["config"])
        content = content | {"origin": {key: value for key, value in origin.items() if key != "config"}}
    codes += code_of(content)
    if codes or (is_config and not is_list):
        found.configs[file.name] = codes


def _look_into_downloads(file: BundleFile, content: Mapping[str, Any], found: Inspection) -> None:
    entries = content.get("large_files")
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        raise ValueError("it has no list large_files")
    for entry in entries:
        found.downloads.append(str(entry.get("url")))
        if not entry.get("hash_val"):
            found.problems.append(f"{file.name}: {entry.get('url')} has no hash_val: what comes would not be checked")
        if leaves := leaves_the_bundle(str(entry.get("path"))):
            found.problems.append(f"{file.name}: {entry.get('path')} {leaves}")


def _parsed(file: BundleFile, found: Inspection) -> Any:
    text = file.read(LARGEST_CONFIG).decode("utf-8")

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(content := dict(items)) < len(items):
            twice = (
                sorted({key for key, _ in items if [k for k, _ in items].count(key) > 1}) if len(items) < 1000 else []
            )
            found.problems.append(f"{file.name}: a key is there twice, the last one counts: {', '.join(twice)}")
        return content

    try:
        return json.loads(text, object_pairs_hook=pairs)
    except ValueError as error:
        if file.name.endswith(".json"):
            raise ValueError(f"it is no JSON ({error})") from error
    try:
        import yaml
    except ImportError:
        raise ValueError("it is YAML: install PyYAML to see what it would execute") from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"it is no YAML ({' '.join(str(error).split())})") from error


def _look_into_logging(file: BundleFile, found: Inspection) -> None:
    """Python evaluates some values of handlers and formatters in a logging config, with %(name)s filled in."""
    text = file.read(LARGEST_CONFIG).decode("utf-8")
    if "handler" not in text and "formatter" not in text:
        return
    parser = configparser.ConfigParser()
    try:
        parser.read_string(text)
        codes = [_logging_code(section, key, parser) for section in parser.sections() for key in EVALUATED]
    except configparser.Error as error:
        raise ValueError(f"it is no logging config ({' '.join(str(error).split())})") from error
    found.configs[file.name] = [code for code in codes if code is not None]


def _logging_code(section: str, key: str, parser: configparser.ConfigParser) -> Code | None:
    text = parser.get(section, key, fallback=None)
    if text is None:
        return None
    harmless = HARMLESS_CLASSES.fullmatch(text) if key == "class" else _is_plain(text)
    kind = "target" if key == "class" else "expression"
    return Code(f"{section}#{key}", kind, text, "" if harmless else f"evaluates {text}")


def _is_plain(text: str) -> bool:
    """Whether an expression is made of literals, sys.stdout and sys.stderr alone."""
    try:
        ast.literal_eval(text.replace("sys.stdout", "None").replace("sys.stderr", "None"))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return False
    return True


def printable(text: str, *, limit: int | None = None) -> str:
    """`text` on one line; what a terminal would obey, or hide, is spelled out.

    >>> printable("a\\x1b[2Jb")
    'a\\\\x1b[2Jb'
    """
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    if limit is not None and len(shown) > limit:
        return f"{shown[:limit]} ... ({len(shown) - limit:,} more characters)"
    return shown


def inspection_text(found: Inspection, name: str) -> str:
    """The inspection as lines to read; warnings come last."""
    about = f" ({printable(found.about, limit=SHOWN)})" if found.about else ""
    lines = [f"{printable(name)}{about}: {found.files:,} files, {found.size:,} bytes. Nothing of it was executed."]
    for config, codes in found.configs.items():
        lines += ["", printable(config), *_config_lines(codes)]
    if found.weights:
        lines += ["", "weights"]
        lines += [
            f"{'!' if names else ' '}   {printable(file)}: {_told(names)}" for file, names in found.weights.items()
        ]
    for title, entries in (("programs in the bundle", found.programs), ("downloads", found.downloads)):
        lines += ["", title, *(f"    {printable(entry, limit=SHOWN)}" for entry in entries)] if entries else []
    warnings = found.warnings()
    lines += ["", f"to look at ({len(warnings)})" if warnings else "nothing reaches beyond the known packages"]
    return "\n".join([*lines, *(f"!   {printable(sentence, limit=2 * SHOWN)}" for sentence in warnings)]) + "\n"


def _told(names: list[str]) -> str:
    return printable(", ".join(names), limit=SHOWN) if names else "tensors and plain values only"


def _config_lines(codes: list[Code]) -> Iterator[str]:
    if not codes:
        yield "    nothing to execute"
    when = {"imports": "when it is parsed", "initialize": "when it is loaded or run", "finalize": "after the run"}
    for first in FIRST:
        if chosen := [code for code in codes if code.where.partition("#")[0] == first]:
            yield f"  {first}, {when.get(first, 'when it is run')}"
            yield from map(_line, chosen)
    rest = [code for code in codes if code.where.partition("#")[0] not in FIRST]
    for kind, title in (
        ("import", "further imports"),
        ("target", "called where something refers to them"),
        ("expression", "evaluated where something refers to them"),
        ("macro", "taken as config from elsewhere"),
    ):
        if chosen := [code for code in rest if code.kind == kind]:
            yield f"  {title} ({len(chosen)})"
            yield from map(_line, chosen)


def _line(code: Code) -> str:
    return f"{'!' if code.warning else ' '}   {printable(code.where, limit=SHOWN)}: {printable(code.text, limit=SHOWN)}"


def run(options: InspectOptions) -> int:
    """`python -m monai_ext inspect`: exit status 1 with --strict where there is anything to look at."""
    found = inspect_bundle(options.bundle)
    if options.json:
        print(json.dumps({**asdict(found), "warnings": found.warnings()}, indent=1))
    else:
        sys.stdout.write(inspection_text(found, str(options.bundle)))
    return 1 if options.strict and found.warnings() else 0

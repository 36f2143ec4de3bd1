"""`inspect`: what a bundle would execute, found without executing any of it."""

from __future__ import annotations

import ast
import configparser
import json
import re
import sys
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from monai_ext.commands.bundles.binary_files import ARRAYS, array_problem, disguise_of, is_torchscript
from monai_ext.commands.bundles.config_code import Code, code_of, imported_names
from monai_ext.commands.bundles.files import WEIGHTS, BundleFile, BundleFiles, leaves_the_bundle, open_bundle
from monai_ext.commands.command_line import Positional
from monai_ext.runtime.plain_text import printable

__all__ = ["InspectOptions", "Inspection", "inspect_bundle", "inspection_text", "run"]

LARGEST_CONFIG = 10 << 20  # bytes
LARGEST_WEIGHTS = 4 << 30
CONFIGS = {".json", ".yml", ".yaml"}
LOGGING = {".conf", ".ini", ".cfg"}
PROGRAMS = {
    ".py", ".pyc", ".pyw", ".pyz", ".egg", ".whl", ".so", ".pyd", ".dll", ".dylib", ".pt2", ".sh", ".bash", ".zsh",
    ".bat", ".cmd", ".ps1", ".exe", ".ipynb", ".jar", ".js", ".desktop", ".plan", ".engine", ".trt", ".onnx",
}  # fmt: skip
# Kinds that nothing runs: text, pictures, tables.
DATA = {
    "", ".md", ".txt", ".rst", ".csv", ".tsv", ".log", ".pdf", ".html", ".htm", ".css", ".svg", ".png", ".jpg",
    ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".nii", ".gz", ".dcm", ".mha", ".nrrd", ".safetensors", ".toml",
    ".gitignore", ".gitattributes", ".geojson", ".xml",
}  # fmt: skip
HARMLESS_CLASSES = re.compile(r"(logging\.)?(StreamHandler|NullHandler|Formatter)")
DESCRIPTIONS = {"metadata.json": "", "run.json": "origin"}  # where texts name programs that nothing runs
EVALUATED = ("class", "args", "kwargs", "defaults")  # in a logging config
FIRST = ("imports", "initialize", "run", "finalize")  # ids that MONAI executes by itself
# What comes out of files and zips that cannot be read.
UNREADABLE = (ValueError, OSError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error)
LIMITS = (
    "inspect narrows what to look at; it cannot prove that a bundle is harmless: run bundles of people whom you trust, "
    "others in a container"
)


@dataclass(frozen=True)
class InspectOptions:
    """Show what a bundle would execute, without executing it: imports, expressions, `_target_`s, weights, code.

    A bundle's config is code: `monai.bundle` evaluates every `$` expression and calls every `_target_` in it. Lines
    marked with ! have a name that is not on the list of known parts of MONAI, PyTorch, Ignite, NumPy and this package,
    or a file that could hold a program. That narrows what to read: a bundle without such lines is not proved harmless.
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
        contents: name of a JSON or YAML file -> its content.
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
    contents: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)
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
        _look_into_configs(found)
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
    elif suffix in ARRAYS:
        with file.opened() as stream:
            if problem := array_problem(stream):
                found.problems.append(f"{file.name}: {problem}")
    else:
        _look_at_beginning(file, found)
        if suffix in CONFIGS:
            is_config = "configs" in path.parts[:-1] or folder == "extra" or bundle.kind == "file"
            _read_config(file, found, is_config=is_config or path.name == "run.json")
        elif suffix in LOGGING:
            _look_into_logging(file, found)
        elif suffix not in DATA and not path.name.startswith("events.out.tfevents."):
            found.problems.append(f"{file.name}: is a kind of file that is not looked into")


def _look_at_beginning(file: BundleFile, found: Inspection) -> None:
    """A program or a pickle under another name; weights without the name of weights."""
    with file.opened() as stream:
        disguise = disguise_of(stream)
    if disguise == "weights":
        _look_into_weights(file, found)
    elif disguise == "program":
        found.programs.append(file.name)
    elif disguise:
        found.problems.append(f"{file.name}: {disguise}")


def _look_into_weights(file: BundleFile, found: Inspection) -> None:
    from monai_ext.storage.tensor_files import unsafe_globals  # here, since it imports torch

    if file.size > LARGEST_WEIGHTS:
        raise ValueError(f"it is larger than {LARGEST_WEIGHTS:,} bytes")
    with file.opened() as stream:
        if is_torchscript(stream):
            found.programs.append(file.name)
            return
    with file.opened() as stream:
        found.weights[file.name] = unsafe_globals(stream)


def _read_config(file: BundleFile, found: Inspection, *, is_config: bool) -> None:
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
    origin = content.get("origin")
    if isinstance(origin, dict) and isinstance(origin.get("config"), dict):  # run.json
        found.contents[f"{file.name}, origin"] = origin["config"]
        content = content | {"origin": {key: value for key, value in origin.items() if key != "config"}}
    found.contents[file.name] = content
    if is_config and not is_list:
        found.configs[file.name] = []


def _look_into_configs(found: Inspection) -> None:
    """What the configs execute, each with the imports of all of them: they can be run together."""
    names: dict[str, str] = {}
    for file, content in list(found.contents.items()):
        try:
            imported = imported_names(content)
        except ValueError as error:
            found.problems.append(f"{file}: cannot be read: {error}")
            found.configs.pop(file, None)
            del found.contents[file]
            continue
        for name in sorted(imported.keys() & names.keys()):
            if imported[name] != names[name]:
                found.problems.append(f"{file}: {name} is {imported[name]}, but {names[name]} in another config")
        names |= imported
    for file, content in found.contents.items():
        codes = code_of(content, names=names)
        if (prose := DESCRIPTIONS.get(PurePosixPath(file).name)) is not None:
            codes = [code for code in codes if code.kind != "value" or not code.where.startswith(prose)]
        if codes or file in found.configs:
            found.configs[file] = codes


def _look_into_downloads(file: BundleFile, content: Mapping[str, Any], found: Inspection) -> None:
    entries = content.get("large_files")
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        raise ValueError("it has no list large_files")
    for entry in entries:
        found.downloads.append(str(entry.get("url")))
        if not entry.get("hash_val"):
            found.problems.append(f"{file.name}: {entry.get('url')} has no hash_val: what comes would not be checked")
        path = str(entry.get("path"))
        if leaves := leaves_the_bundle(path):
            found.problems.append(f"{file.name}: {path} {leaves}")
        elif PurePosixPath(path).suffix.lower() not in {".pt", ".pth"}:
            found.problems.append(f"{file.name}: would download {path}, which is not looked into before")


def _parsed(file: BundleFile, found: Inspection) -> Any:
    text = file.read(LARGEST_CONFIG).decode("utf-8")
    if not file.name.lower().endswith(".json"):
        return _parsed_yaml(text)

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
        raise ValueError(f"it is no JSON ({error})") from error


def _parsed_yaml(text: str) -> Any:
    try:
        import yaml
    except ImportError:
        raise ValueError("it is YAML: install PyYAML to see what it would execute") from None

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            if len(set(keys)) < len(keys):
                raise yaml.YAMLError("a key is there twice")
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(text, Loader)
    except (yaml.YAMLError, TypeError) as error:
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


def inspection_text(found: Inspection, name: str) -> str:
    """The inspection as lines to read, nothing left out; warnings come last."""
    about = f" ({printable(found.about)})" if found.about else ""
    lines = [f"{printable(name)}{about}: {found.files:,} files, {found.size:,} bytes. Nothing of it was executed."]
    for config, codes in found.configs.items():
        lines += ["", printable(config), *_config_lines(codes)]
    if found.weights:
        lines += ["", "weights"]
        lines += [
            f"{'!' if names else ' '}   {printable(file)}: {_told(names)}" for file, names in found.weights.items()
        ]
    for title, entries in (("programs in the bundle", found.programs), ("downloads", found.downloads)):
        lines += ["", title, *(f"    {printable(entry)}" for entry in entries)] if entries else []
    warnings = found.warnings()
    lines += ["", f"to look at ({len(warnings)})" if warnings else "all names are on the list of known ones"]
    lines += [f"!   {printable(sentence)}" for sentence in warnings]
    return "\n".join([*lines, LIMITS]) + "\n"


def _told(names: list[str]) -> str:
    return printable(", ".join(names)) if names else "tensors and plain values only"


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
        ("value", "values to look at"),
    ):
        if chosen := [code for code in rest if code.kind == kind]:
            yield f"  {title} ({len(chosen)})"
            yield from map(_line, chosen)


def _line(code: Code) -> str:
    words = ", ".join(
        f"{printable(key)}={printable(json.dumps(value, ensure_ascii=False, default=str))}"
        for key, value in code.arguments.items()
    )
    arguments = f"({words})" if words else ""
    return f"{'!' if code.warning else ' '}   {printable(code.where)}: {printable(code.text)}{arguments}"


def run(options: InspectOptions) -> int:
    """`python -m monai_ext inspect`: exit status 1 with --strict where there is anything to look at."""
    found = inspect_bundle(options.bundle)
    if options.json:
        content = {key: value for key, value in asdict(found).items() if key != "contents"}
        print(json.dumps({**content, "warnings": found.warnings(), "limits": LIMITS}, indent=1, default=str))
    else:
        sys.stdout.write(inspection_text(found, str(options.bundle)))
    return 1 if options.strict and found.warnings() else 0

"""Size and repetition of the code, as the tables of docs/structure.md: `python docs/measures.py`."""

from __future__ import annotations

import ast
import json
import re
import statistics
import sys
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "monai_ext"
VALUE = re.compile(r'"(?P<text>(?:[^"\\]|\\.)*)"(?P<key>\s*:)?|(?P<plain>-?\d[\d.e-]*|true|false|null)')


def rooms(root: Path = ROOT) -> dict[str, tuple[int, int, int]]:
    """Folder of the package -> number of modules in it, median and largest number of lines."""
    found = {}
    for folder in sorted({path.parent for path in (root / PACKAGE).rglob("*.py")}):
        sizes = [_lines(path) for path in folder.glob("*.py") if path.name != "__init__.py"]
        if sizes:
            name = folder.relative_to(root / PACKAGE).as_posix()
            found["(top)" if name == "." else name] = (len(sizes), int(statistics.median(sizes)), max(sizes))
    return found


def functions(root: Path = ROOT) -> list[int]:
    """Lines of every function and method of the package, sorted."""
    sizes = []
    for path in (root / PACKAGE).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                sizes.append((node.end_lineno or node.lineno) - node.lineno + 1)
    return sorted(sizes)


def kinds_of_lines(root: Path = ROOT) -> Counter[str]:
    """How many lines of the package are docstrings, imports, blank, comments, and statements."""
    found: Counter[str] = Counter()
    for path in (root / PACKAGE).rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        kinds = [_kind(line) for line in text.splitlines()]
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import | ast.ImportFrom):
                kind = "imports"
            elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                kind = "docstrings"
            else:
                continue
            last = node.end_lineno or node.lineno
            kinds[node.lineno - 1 : last] = [kind] * (last - node.lineno + 1)
        found.update(kinds)
    return found


def _kind(line: str) -> str:
    return "comments" if line.lstrip().startswith("#") else "statements" if line.strip() else "blank"


@dataclass(frozen=True)
class Recipe:
    """The size of one train.json, and what of it stands in another bundle's too, up to indentation.

    Attributes:
        count, longest: lines that have a letter or digit, and the characters of the longest.
        expressions: values that are `$` code.
        shared: share of the lines that another bundle has.
        shared_statements: the same without lines that only connect parts: keys and @references, with no class, number
            or choice.
        frame: share of the lines that a bundle for other data has, one whose images another component decodes.
    """

    bundle: str
    count: int
    longest: int
    expressions: int
    shared: float
    shared_statements: float
    frame: float


def recipes(root: Path = ROOT) -> list[Recipe]:
    """One for each bundle."""
    texts = {
        path.parents[1].name: path.read_text(encoding="utf-8")
        for path in sorted((root / "bundles").glob("*/configs/train.json"))
    }
    words = {
        name: [line.strip() for line in text.splitlines() if any(map(str.isalnum, line))]
        for name, text in texts.items()
    }
    decoders = {name: json.loads(text)["train"]["preprocessing"]["_target_"] for name, text in texts.items()}
    found = []
    for name, text in texts.items():
        elsewhere = {line for other, lines in words.items() if other != name for line in lines}
        far = {line for other, lines in words.items() if decoders[other] != decoders[name] for line in lines}
        statements = [line for line in words[name] if _states(line)]
        found.append(
            Recipe(
                bundle=name,
                count=len(text.splitlines()),
                longest=max(map(len, text.splitlines())),
                expressions=sum(value.startswith("$") for value in _strings(json.loads(text))),
                shared=_share(words[name], elsewhere),
                shared_statements=_share(statements, elsewhere),
                frame=_share(words[name], far),
            )
        )
    return found


def _share(lines: Sequence[str], elsewhere: Container[str]) -> float:
    return sum(line in elsewhere for line in lines) / len(lines)


def _states(line: str) -> bool:
    """Whether a line of JSON has a value that is not a reference.

    >>> _states('"network": "@network", "device": "@device",'), _states('"network": "@network", "fused": true')
    (False, True)
    """
    values = (value for value in VALUE.finditer(line) if not value["key"])
    return any(value["plain"] or not value["text"].startswith(("@", "%")) for value in values)


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _strings(part)
    elif isinstance(value, list):
        for part in value:
            yield from _strings(part)


def _lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def tables(root: Path = ROOT) -> str:
    """All measures as Markdown."""
    sizes, lengths = rooms(root), functions(root)
    every = [_lines(path) for path in (root / PACKAGE).rglob("*.py")]
    rows = ["| folder | modules | median lines | largest |", "|---|---|---|---|"]
    rows += [f"| {name} | {count} | {median} | {largest} |" for name, (count, median, largest) in sizes.items()]
    rows += ["", "| train.json of | lines | longest line | expressions | shared lines | shared statements | frame |"]
    rows += ["|---|---|---|---|---|---|---|"]
    rows += [
        f"| {each.bundle} | {each.count} | {each.longest} | {each.expressions} | {each.shared:.0%} "
        f"| {each.shared_statements:.0%} | {each.frame:.0%} |"
        for each in recipes(root)
    ]
    rows += ["", f"{len(every)} files, {sum(every):,} lines; median file {int(statistics.median(every))} lines."]
    rows += [", ".join(f"{count:,} {kind}" for kind, count in kinds_of_lines(root).most_common()) + "."]
    at = {part: lengths[int(part * (len(lengths) - 1))] for part in (0.5, 0.9)}
    rows += [f"{len(lengths):,} functions: median {at[0.5]} lines, 90th percentile {at[0.9]}, largest {lengths[-1]}."]
    return "\n".join(rows)


if __name__ == "__main__":
    sys.stdout.write(tables(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT) + "\n")

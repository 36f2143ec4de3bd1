"""Size and repetition of the code, as the tables of docs/structure.md: `python docs/measures.py`."""

from __future__ import annotations

import ast
import json
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "monai_ext"


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


def recipes(root: Path = ROOT) -> dict[str, tuple[int, int, int, float]]:
    """Bundle -> lines of train.json, longest line, `$` expressions, share of its lines that another bundle has too."""
    lines = {
        path.parents[1].name: [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        for path in sorted((root / "bundles").glob("*/configs/train.json"))
    }
    found = {}
    for name, mine in lines.items():
        others = {line for other, theirs in lines.items() if other != name for line in theirs}
        text = [line for line in mine if len(line) > 2]  # brackets repeat everywhere
        path = root / "bundles" / name / "configs" / "train.json"
        longest = max(map(len, path.read_text(encoding="utf-8").splitlines()))
        content = json.loads(path.read_text(encoding="utf-8"))
        expressions = sum(1 for value in _strings(content) if value.startswith("$") and not value.startswith("$from"))
        found[name] = (len(mine), longest, expressions, sum(line in others for line in text) / len(text))
    return found


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
    rows += ["", "| train.json of | lines | longest line | expressions | shared with another bundle |"]
    rows += ["|---|---|---|---|---|"]
    rows += [f"| {name} | {a} | {b} | {c} | {share:.0%} |" for name, (a, b, c, share) in recipes(root).items()]
    rows += ["", f"{len(every)} files, {sum(every):,} lines; median file {int(statistics.median(every))} lines."]
    at = {part: lengths[int(part * (len(lengths) - 1))] for part in (0.5, 0.9)}
    rows += [f"{len(lengths):,} functions: median {at[0.5]} lines, 90th percentile {at[0.9]}, largest {lengths[-1]}."]
    return "\n".join(rows)


if __name__ == "__main__":
    sys.stdout.write(tables(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT) + "\n")

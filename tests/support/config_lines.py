"""How much of a bundle's train.json is its own: lines, code, and lines that another bundle has as well.

`python tests/support/config_lines.py` prints the table.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

CONFIGS = sorted((Path(__file__).parents[2] / "bundles").glob("*/configs/train.json"))


@dataclass(frozen=True)
class ConfigLines:
    """Of one train.json.

    Attributes:
        count: lines.
        longest: characters of the longest line.
        expressions: values that are `$` code.
        shared: share of the lines with a letter or digit that stand, up to indentation, in another bundle's train.json.
    """

    bundle: str
    count: int
    longest: int
    expressions: int
    shared: float


def config_lines() -> list[ConfigLines]:
    """One for each bundle."""
    texts = {path.parents[1].name: path.read_text(encoding="utf-8") for path in CONFIGS}
    words = {
        name: [line.strip() for line in text.splitlines() if any(map(str.isalnum, line))]
        for name, text in texts.items()
    }
    found = []
    for name, text in texts.items():
        elsewhere = {line for other, lines in words.items() if other != name for line in lines}
        shared = sum(line in elsewhere for line in words[name]) / len(words[name])
        lines = text.splitlines()
        found.append(ConfigLines(name, len(lines), max(map(len, lines)), _expressions(json.loads(text)), shared))
    return found


def _expressions(value: object) -> int:
    if isinstance(value, (dict, list)):
        return sum(map(_expressions, value.values() if isinstance(value, dict) else value))
    return isinstance(value, str) and value.startswith("$")


if __name__ == "__main__":
    for each in config_lines():
        sys.stdout.write(f"{each}\n")

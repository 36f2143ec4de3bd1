"""A page as a list of blocks, written as Markdown or as one self-contained HTML file; every text is escaped."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

__all__ = ["Block", "Heading", "Picture", "Table", "Text", "html_page", "markdown_page"]

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 72rem; margin: 2rem auto;
       padding: 0 1rem; }
h1, h2 { line-height: 1.2; margin-top: 2.2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding-bottom: .4rem; }
th, td { padding: .25rem .8rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
th[scope=row], th:first-child { text-align: left; font-weight: 500; }
thead th { border-bottom: 2px solid #555; }
figure { margin: 1.5rem 0; }
figure img { max-width: 100%; height: auto; }
figcaption { color: #444; }
"""


@dataclass(frozen=True)
class Heading:
    """A heading; that of level 1 is the page's title."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Text:
    """A paragraph, or a list when there is more than one line."""

    lines: tuple[str, ...]

    def __init__(self, *lines: str) -> None:
        object.__setattr__(self, "lines", lines)


@dataclass(frozen=True)
class Table:
    """Rows of text under a header; the first column names the row."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Picture:
    """A PNG beside the page (Markdown) or inside it (HTML); the caption says what is to be seen."""

    path: Path
    caption: str


Block = Heading | Text | Table | Picture


def markdown_page(blocks: Sequence[Block]) -> str:
    """GitHub-flavoured Markdown; pictures are linked by their file name."""
    return "\n\n".join(_markdown(block) for block in blocks) + "\n"


def _plain(text: str) -> str:
    """Text that Markdown shows as it is: no tags, no table bars, no emphasis, one line."""
    escaped = escape(" ".join(text.split()), quote=False)
    escaped = re.sub(r"([\\`*\[\]|])", r"\\\1", escaped)
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", escaped)  # an underscore inside a word is none to Markdown


def _markdown(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {_plain(text)}"
        case Text(lines):
            return _plain(lines[0]) if len(lines) == 1 else "\n".join(f"* {_plain(line)}" for line in lines)
        case Picture(path, caption):
            return f"![{_plain(caption)}](<{path.name}>)\n\n{_plain(caption)}"
        case Table(caption, header, rows):
            lines = [header, [":--", *["--:"] * (len(header) - 1)], *rows]
            body = [" | ".join(cells if index == 1 else map(_plain, cells)) for index, cells in enumerate(lines)]
            return f"**{_plain(caption)}**\n\n" + "\n".join(f"| {line} |" for line in body)


def html_page(blocks: Sequence[Block], *, title: str) -> str:
    """One HTML file that needs no other: pictures as base64, no script, nothing fetched."""
    body = "\n".join(_html(block) for block in blocks)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _html(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"<h{level}>{escape(text)}</h{level}>"
        case Text(lines):
            if len(lines) == 1:
                return f"<p>{escape(lines[0])}</p>"
            return "<ul>\n" + "\n".join(f"<li>{escape(line)}</li>" for line in lines) + "\n</ul>"
        case Picture(path, caption):
            data, text = base64.b64encode(path.read_bytes()).decode(), escape(caption)
            image = f'<img src="data:image/png;base64,{data}" alt="{text}">'
            return f"<figure>\n{image}\n<figcaption>{text}</figcaption>\n</figure>"
        case Table(caption, header, rows):
            head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in header)
            cells = ("".join(f"<td>{escape(cell)}</td>" for cell in row[1:]) for row in rows)
            body = "\n".join(
                f'<tr><th scope="row">{escape(row[0])}</th>{line}</tr>' for row, line in zip(rows, cells, strict=True)
            )
            return (
                f'<div class="wide">\n<table>\n<caption>{escape(caption)}</caption>\n'
                f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>\n</div>"
            )

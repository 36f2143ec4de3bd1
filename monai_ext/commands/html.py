"""A page as a list of blocks, written as Markdown or as one self-contained HTML file; every text is escaped."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from monai_ext.commands.rendering import render
from monai_ext.commands.terms import terms_in

__all__ = ["Block", "Command", "Heading", "Link", "Picture", "Table", "Text", "html_page", "markdown_page"]


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
class Link:
    """A link to a file beside the page."""

    text: str
    file: str


@dataclass(frozen=True)
class Command:
    """A command line, in one line, and what it does."""

    caption: str
    line: str


@dataclass(frozen=True)
class Table:
    """Rows of text under a header; the first column names the row."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Picture:
    """A PNG beside the page (Markdown) or inside it (HTML); the caption describes it."""

    path: Path
    caption: str

    @property
    def data_url(self) -> str:
        """The picture as a data URL."""
        return f"data:image/png;base64,{base64.b64encode(self.path.read_bytes()).decode()}"


Block = Heading | Text | Link | Command | Table | Picture


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
        case Link(text, file):
            return f"[{_plain(text)}](<{file}>)"
        case Command(caption, line):
            return f"{_plain(caption)}:\n\n    {' '.join(line.split())}"
        case Picture(path, caption):
            return f"![{_plain(caption)}](<{path.name}>)\n\n{_plain(caption)}"
        case Table(caption, header, rows):
            marks = [":--", *["--:"] * (len(header) - 1)]
            body = [list(map(_plain, header)), marks, *(list(map(_plain, row)) for row in rows)]
            return f"**{_plain(caption)}**\n\n" + "\n".join(f"| {' | '.join(cells)} |" for cells in body)


def html_page(blocks: Sequence[Block], *, title: str) -> str:
    """One HTML file that needs no other: pictures as base64, no script, nothing fetched; its terms at its foot."""
    terms = terms_in(text for block in blocks for text in _texts(block))
    return render("page.html", title=title, blocks=[(type(block).__name__, block) for block in blocks], terms=terms)


def _texts(block: Block) -> list[str]:
    """What a block shows, but for the cells of tables beside the first of each row."""
    match block:
        case Heading(text) | Link(text, _):
            return [text]
        case Text(lines):
            return [*lines]
        case Picture(_, caption) | Command(caption, _):
            return [caption]
        case Table(caption, header, rows):
            return [caption, *header, *(row[0] for row in rows)]

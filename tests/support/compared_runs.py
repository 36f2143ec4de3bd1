"""Edits of a fabricated comparison, and what a page's tags are."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

from monai_ext.commands.comparison.summaries import PairSummary


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


class _Checker(HTMLParser):
    """Collects tags, checks that they are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict]] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def tags(page: str) -> list[tuple[str, dict]]:
    checker = _Checker()
    checker.feed(page)
    assert not checker.open
    return checker.found


def pair(**changes: object) -> PairSummary:
    values = {"metric": "dice", "first": "bce", "second": "dice", "difference": 0.02, "low": 0.01, "high": 0.03}
    values |= {"cases": 40, "n": 40, "p": 0.01, "p_holm": 0.02, "rank_biserial": 0.5, "folds_for_first": 2, "folds": 2}
    return PairSummary(**(values | changes))

"""Command lines as people type them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

__all__ = ["shell_line"]

INSIDE_DOUBLE_QUOTES = re.compile(r'["$`\\!]')  # what a shell reads as more than itself there


def shell_line(words: Sequence[str]) -> str:
    """The words as one line for a POSIX shell, as `shlex.join`, but lists of texts in double quotes.

    >>> print(shell_line(["run", "--config_file", "['a.json', 'b.json']", "it is"]))
    run --config_file "['a.json', 'b.json']" 'it is'
    """
    return " ".join(f'"{word}"' if "'" in word and not INSIDE_DOUBLE_QUOTES.search(word) else shlex.quote(word)
                    for word in words)  # fmt: skip

"""Scores as text for a terminal."""

from __future__ import annotations

import pytest

from monai_ext.commands.html import Heading, Picture, Table, Text
from monai_ext.commands.scoring.tables import text_page


def test_tables_for_the_terminal_are_aligned():
    blocks = [
        Heading("Two"),
        Text("one line", "another"),
        Table("Sizes", ("Name", "x"), [("long name", "1"), ("b", "10")]),
    ]
    expected = "Two\n---\n\none line\nanother\n\nSizes\n\nName        x\nlong name   1\nb          10\n"
    assert text_page(blocks) == expected
    with pytest.raises(ValueError, match="a Picture has no form as text"):
        text_page([Picture(None, "")])

"""Pages in Markdown and HTML."""

from __future__ import annotations

import re

from compared_runs import tags
from PIL import Image

from monai_ext.commands.html import Command, Heading, Link, Picture, Table, Text, html_page, markdown_page


def test_hostile_text_stays_text(tmp_path):
    picture = tmp_path / "a b.png"
    Image.new("L", (2, 2)).save(picture)
    evil = '<script>alert("1")</script> | *x* `y` [z](u)'
    blocks = [
        Heading(evil, 1),
        Text(evil),
        Text(evil, evil),
        Table(evil, (evil, "n"), [(evil, "1")]),
        Picture(picture, evil),
        Link(evil, "a <b>.html"),
        Command(evil, evil),
    ]
    page = html_page(blocks, title=evil)
    assert "script" not in {tag for tag, _ in tags(page)}
    assert page.count("&lt;script&gt;") == 13 and 'href="a%20%3Cb%3E.html"' in page
    markdown = markdown_page(blocks[:-1])
    assert "<script" not in markdown
    assert markdown_page(blocks[-1:]).endswith(f"\n\n    {evil}\n")  # code, which Markdown shows as it is
    row = next(line for line in markdown.splitlines() if line.startswith("|") and line.endswith("| 1 |"))
    assert len(re.findall(r"(?<!\\)\|", row)) == 3
    assert "](<a b.png>)" in markdown and r"\*x\* \`y\` \[z\]" in markdown


def test_a_table_in_markdown_by_hand():
    table = Table("T", ("Loss", "Dice"), [("dice_bce", "90.1 ± 0.2")])
    assert markdown_page([table]) == "**T**\n\n| Loss | Dice |\n| :-- | --: |\n| dice_bce | 90.1 ± 0.2 |\n"


def test_a_page_is_light_or_dark_without_a_script_and_wide_parts_scroll_in_a_box():
    page = html_page([Heading("H", 1), Table("T", ("Loss", "Dice"), [("bce", "90.1")])], title="T")
    found = tags(page)
    choices = {attributes.get("id") for tag, attributes in found if tag == "input"}
    assert choices == {None, "theme-light", "theme-dark"} and "script" not in {tag for tag, _ in found}
    for name in choices - {None}:
        assert f":root:has(#{name}:checked)" in page
    assert ("div", {"class": "wide", "tabindex": "0"}) in found and ".wide { overflow-x: auto" in page

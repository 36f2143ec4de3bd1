"""Terms that pages explain."""

from __future__ import annotations

import pytest

from monai_ext.commands.html import Heading, Table, Text, html_page
from monai_ext.commands.terms import ENERGY_DISTANCE, TERMS, terms_in


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("Energy distance² ↓", [ENERGY_DISTANCE]),
        ("the energy distances", [ENERGY_DISTANCE]),
        ("Surface Dice", ["Dice", "Surface Dice"]),
        ("LR-PSNR (dB)", ["LR-PSNR"]),
        ("of held-out scores, resamples, overhead", []),
        ("Expected calibration error (%)", ["ECE, expected calibration error"]),
    ],
)
def test_terms_are_found_as_words_in_any_case_and_number(text, terms):
    assert list(terms_in([text])) == terms


def test_a_page_explains_the_terms_that_it_shows_and_no_others():
    page = html_page(
        [Heading("Scores", 1), Text("Of phantoms."), Table("T", ("Method", "ECE"), [("a", "1")])], title="T"
    )
    assert "<dt>ECE, expected calibration error</dt>" in page and "<dt>phantom, phantoms</dt>" in page
    assert page.count("<dt>") == 2
    assert "<h2>Terms</h2>" not in html_page([Text("Nothing.")], title="T")


def test_a_term_stands_once_and_means_something():
    names = [name for term in TERMS for name in term.lower().split(", ")]
    assert len(set(names)) == len(names) and all(TERMS.values())

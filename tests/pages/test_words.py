"""The glossary: words and spellings that another one has replaced do not come back."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PROSE = ("README.md", "CONTRIBUTING.md", "docs/*.md", "bundles/*/docs/*.md")
CONFIGS = ("bundles/*/configs/*.json",)
CODE = ("monai_ext/**/*.py", "monai_ext/**/*.js", "monai_ext/**/*.html")
UPSCALING = ("monai_ext/commands/**/*.py", "monai_ext/upscaling/*.py", "monai_ext/handlers/**/*.py")
EVERYWHERE = (*PROSE, *CONFIGS, *CODE, "tests/**/*.py", "examples/*", "Makefile")
# What is not written, what is written instead, and where.
GLOSSARY = [
    (r"hypothes[ei]s", "sample", (*PROSE, *CONFIGS, *CODE)),
    (r"human_\w+|\bhuman row", "rater", (*CONFIGS, *CODE)),
    (r"\bhuman\b", "rater", (*PROSE, *CONFIGS, *CODE)),
    (r"(?<![(\"`|])\bannotators?\b|_annotator", "rater; once for the reader, in a page: rater (annotator)", EVERYWHERE),
    (r"(weight|latent|drawn)_draws|drawn_samples", "weight_samples, latent_samples", (*PROSE, *CONFIGS, *CODE)),
    (r"LeanTrainer|PoliteClient|KeyedScores|NoiseField|FewWords", "BatchTrainer, TileClient, ...", EVERYWHERE),
    (r"monai_ext[./]experiments", "commands", EVERYWHERE),
    (r"\b(enlarge[ds]?|enlarging|enlargement)\b", "upscale", (*CONFIGS, *UPSCALING)),
    (r"(fetch|rater|uncertainty)-(tiles|table|report|checks)|monai_ext many-hr", "underscores", EVERYWHERE),
    (r"(?<!make\", \")--(dry-run|user-agent|test-fraction|split-seed|no-report)\b", "underscores", EVERYWHERE),
    (r"\b(lest|an end to insisting|innermost one speaks|hears? a latent)\b", "plain English", CODE),
]


@pytest.mark.parametrize(("word", "instead", "places"), GLOSSARY, ids=[entry[0] for entry in GLOSSARY])
def test_a_word_that_was_replaced_stays_away(word, instead, places):
    found = []
    for path in sorted({path for pattern in places for path in REPOSITORY.glob(pattern)} - {Path(__file__)}):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if re.search(word, line, re.IGNORECASE if word.islower() else 0):
                found.append(f"{path.relative_to(REPOSITORY)}:{number}: {line.strip()[:80]}")
    assert not found, f"write {instead!r}"

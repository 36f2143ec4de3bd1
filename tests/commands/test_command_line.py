"""Command lines from dataclasses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from monai_ext.commands.command_line import Computed, Paths, Positional, option_pairs, parse_options


@dataclass(frozen=True)
class Options:
    """Do something."""

    inputs: Paths
    """files"""
    low: float = 0.0
    """lowest value"""
    names: Computed[tuple[str, ...]] = ()
    """names (all)"""

    def __post_init__(self) -> None:
        if self.low > 1:
            raise ValueError(f"low is {self.low}: at most 1.")


@dataclass(frozen=True)
class Words:
    """View something."""

    image: Positional[str]
    """a picture"""
    page: Positional[Path]
    """the page to write"""


def test_words_become_options_and_negative_numbers_are_no_options():
    parsed = parse_options(Options, ["a", "b", "--low", "-1e-05", "--names", "x", "y", "--quiet"])
    assert parsed.options == Options((Path("a"), Path("b")), -1e-05, ("x", "y")) and parsed.quiet
    assert parse_options(Options, ["a", "--far", "3"], passes_on=True).further == ("--far", "3")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["a", "--low", "x"], "--low"),
        (["a", "--low", "2"], "low is 2.0: at most 1."),
        (["a", "--far", "3"], "unknown arguments: --far 3"),
        ([], "inputs"),
    ],
)
def test_wrong_use_is_one_sentence_and_status_2(words, sentence, capsys):
    with pytest.raises(SystemExit) as end:
        parse_options(Options, words, prog="monai_ext try")
    printed = capsys.readouterr().err
    assert end.value.code == 2 and sentence in printed and printed.count("\n") == 1
    assert printed.startswith("monai_ext try: error: ") and "(monai_ext try --help shows the options)" in printed


def test_a_missing_word_is_named_as_in_the_help(capsys):
    with pytest.raises(SystemExit):
        parse_options(Words, ["a.png", "--far", "3"], prog="monai_ext view")
    assert capsys.readouterr().err.startswith("monai_ext view: error: PAGE is missing (monai_ext view --help")


def test_the_help_ends_in_the_examples(capsys):
    with pytest.raises(SystemExit) as end:
        parse_options(Options, ["--help"], examples="  try a\n")
    printed = capsys.readouterr().out
    assert end.value.code == 0 and "lowest value (default: 0.0)" in printed and printed.endswith("examples:\n  try a\n")


@pytest.mark.parametrize(("further", "message"), [(["10"], "'10' is no option"), (["--lr"], "--lr has no value")])
def test_further_arguments_that_are_no_pairs_are_refused(further, message):
    with pytest.raises(ValueError, match=message):
        option_pairs(further)

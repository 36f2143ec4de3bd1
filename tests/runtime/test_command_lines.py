from __future__ import annotations

import shlex

import pytest

from monai_ext.runtime.command_lines import shell_line


@pytest.mark.parametrize(
    "word", ["plain", "two words", "['a', 'b']", "it's", "$it's", "both ' and \"", "", "a\\'b", "`'`", "!'", "ü 'ö'"]
)
def test_a_shell_reads_the_words_back(word):
    line = shell_line(["run", word, "end"])
    assert shlex.split(line) == ["run", word, "end"]


def test_lists_of_texts_are_no_riddle():
    assert shell_line(["--config_file", "['a.json', 'b.json']"]) == "--config_file \"['a.json', 'b.json']\""
    assert shell_line(["$it's"]) == shlex.quote("$it's")

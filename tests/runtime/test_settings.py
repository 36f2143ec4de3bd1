"""Values that people type."""

from __future__ import annotations

import pytest

from monai_ext.runtime.settings import as_bool, chosen


def test_truth_values_come_as_words_too_and_nothing_else_is_one():
    assert [as_bool(value, "resume") for value in (True, "True", "true", "false", False)] == [True] * 3 + [False] * 2
    for value in ("yes", "", 1, None):
        with pytest.raises(ValueError, match=r"resume=.*: choose true or false"):
            as_bool(value, "resume")


def test_a_choice_that_is_none_is_named_with_those_that_are():
    assert chosen({"a": 1, "b": 2}, loss="b") == 2
    with pytest.raises(ValueError, match=r"loss='d': choose a, b or c\."):
        chosen(dict.fromkeys("abc"), loss="d")
    with pytest.raises(ValueError, match=r"loss=None: choose a\."):
        chosen({"a": 1}, loss=None)

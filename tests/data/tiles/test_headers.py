"""Headers as they are typed."""

from __future__ import annotations

import pytest

from monai_ext.data.tiles.headers import request_headers


def test_values_come_from_the_environment():
    texts = ("authorization:Bearer ${TOKEN}", "X-Price: $$5")
    assert request_headers(texts, {"TOKEN": "a:b\n"}) == {"authorization": "Bearer a:b", "X-Price": "$5"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("Bearer hidden", "--header number 1 has no name"),
        ("two words: hidden", "--header number 1 has no name"),
        ("Host: hidden", "--header Host: it is part of the protocol"),
        ("Key: hidden $OTHER", "--header Key: there is no environment variable OTHER; set it with: export OTHER="),
        ("Key: hidden $", r"--header Key: a \$ is followed by no name"),
        ("Key:", "--header Key: its value is empty"),
        ("Key: $LINES", "--header Key: its value is empty, or not one line"),
    ],
)
def test_other_texts_are_refused_without_their_value(text, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        request_headers([text], {"LINES": "hidden\r\nX: hidden"})
    assert "hidden" not in str(caught.value)

"""The file of published figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from monai_ext.commands.comparison.results import ResultsError
from monai_ext.commands.scoring.published import read_published


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("method,source,dice\na,b,0.5\n", "protocol"),
        ("method,source,protocol,dice\na,b, ,0.5\n", "line 2 of .* has no protocol"),
        ("method,source,protocol,dice\na,b,c,about 0.5\n", "dice is 'about 0.5', which is no finite number"),
        ("method,source,protocol,dice\na,b,c,inf\n", "dice is 'inf'"),
    ],
)
def test_what_does_not_name_its_protocol_or_is_no_number_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "published.csv"
    path.write_text(text)
    with pytest.raises(ResultsError, match=message):
        read_published(path)


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="nothing.csv is no file of published figures"):
        read_published(tmp_path / "nothing.csv")

"""Pages from templates: text is escaped, data keep their order, scripts come as they stand."""

from __future__ import annotations

import json
import re

import pytest
from jinja2 import UndefinedError

from monai_ext.commands.rendering import render, source


def test_text_is_escaped_and_data_cannot_end_their_script():
    page = render("viewer.html", title="<b>&", terms={}, data={"b": "</script>", "a": 1})
    assert "<h1>&lt;b&gt;&amp;</h1>" in page and page.count("</script>") == 2
    data = json.loads(re.search(r'id="data">(.*?)</script>', page)[1])
    assert list(data.items()) == [("b", "</script>"), ("a", 1)]


def test_scripts_and_styles_come_as_they_stand():
    page = render("viewer.html", title="t", data={}, terms={})
    assert source("viewer.js") in page and source("viewer.css") in page


def test_a_value_that_is_missing_is_an_error():
    with pytest.raises(UndefinedError, match="'title' is undefined"):
        render("viewer.html", data={})

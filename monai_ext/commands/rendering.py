"""HTML pages from the jinja2 templates of `monai_ext/commands/templates`, each one self-contained file."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

__all__ = ["render", "source"]


def render(template: str, **values: object) -> str:
    """The page of a template; text is escaped, a missing value is an error.

    In a template, `{{ source("viewer.css") }}` is the text of another file as it stands, and `{{ data | tojson }}` is
    data for a script element: nothing in it can end the element.
    """
    return _environment().get_template(template).render(values)


def source(name: str) -> Markup:
    """The text of a file among the templates, neither parsed nor escaped: scripts and styles."""
    return Markup((files("monai_ext.commands") / "templates" / name).read_text(encoding="utf-8"))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("monai_ext.commands"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.policies["json.dumps_kwargs"] = {}  # its default sorts keys: "sample 10" before "sample 2"
    environment.globals["source"] = source
    return environment

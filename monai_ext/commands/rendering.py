"""HTML pages from the jinja2 templates of `monai_ext/commands/templates`, each one self-contained file."""

from __future__ import annotations

import base64
import io
from functools import cache
from importlib.resources import files

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

__all__ = ["png_url", "render", "source"]


def render(template: str, **values: object) -> str:
    """The page of a template; text is escaped, a missing value is an error.

    In a template, `{{ source("viewer.css") }}` is the text of another file as it stands, and `{{ data | tojson }}` is
    data for a script element: nothing in it can end the element.
    """
    return _environment().get_template(template).render(values)


def source(name: str) -> Markup:
    """The text of a file among the templates, neither parsed nor escaped: scripts and styles."""
    return Markup((files("monai_ext.commands") / "templates" / name).read_text(encoding="utf-8"))


def png_url(levels: np.ndarray) -> str:
    """uint8 (1 or 3, H, W) as the data URL of a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(levels[0] if len(levels) == 1 else np.moveaxis(levels, 0, -1)).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


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

"""Headers of requests, such as a token, with parts from environment variables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from string import Template

__all__ = ["request_headers"]

NAME = re.compile(r"[A-Za-z0-9!#%&'*+.^_`|~-]+")
OURS = frozenset({"accept-encoding", "connection", "content-length", "host", "range", "te", "transfer-encoding"})


def request_headers(texts: Iterable[str], environment: Mapping[str, str]) -> dict[str, str]:
    """Headers by name from texts "Name: value"; `$VARIABLE` in a value is that of the environment, `$$` a dollar.

    No message has a value, so that none shows a token.

    Raises:
        ValueError: a text is no header, its value is empty or not ASCII, or the environment lacks a variable.

    >>> request_headers(["Authorization: Bearer $TILE_TOKEN"], {"TILE_TOKEN": "abc"})
    {'Authorization': 'Bearer abc'}
    """
    headers = {}
    for number, text in enumerate(texts, 1):
        name, colon, value = (part.strip() for part in text.partition(":"))
        if not colon or not NAME.fullmatch(name):
            raise ValueError(f'--header number {number} has no name: write "Name: value".')
        if name.lower() in OURS:
            raise ValueError(f"--header {name}: it is part of the protocol and cannot be set.")
        try:
            value = Template(value).substitute(environment).strip()
        except KeyError as error:
            raise ValueError(
                f"--header {name}: there is no environment variable {error.args[0]}; set it with: export "
                f"{error.args[0]}=..."
            ) from None
        except ValueError:
            raise ValueError(
                f"--header {name}: a $ is followed by no name of an environment variable; $$ stands for a dollar."
            ) from None
        if not value or not value.isascii() or not value.isprintable():
            raise ValueError(f"--header {name}: its value is empty, or not one line of ASCII characters.")
        headers[name] = value
    return headers

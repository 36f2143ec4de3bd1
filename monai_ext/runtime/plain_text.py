"""Text that may be shown and kept: without keys and passwords, and without what a terminal would obey."""

from __future__ import annotations

import logging
import re

__all__ = ["hide_secrets", "printable", "without_secrets"]

PARAMETER = re.compile(
    r"""([?&;\#](?:
        [^=&;\s]*(?:key|token|secret|sign|passw|auth|appid|credential|session|jwt|hmac|policy|ticket|licen[cs]e)[^=&;\s]*
        |api|sig|tk|pk|sk|pwd|pass|code|sid|user|login|client_?id|app_?id
    )=)[^&;\s"'<>]+""",
    re.IGNORECASE | re.VERBOSE,
)
HEADER = re.compile(
    r"((?<![\w-])(?:(?:proxy-)?authorization|cookie|\w[\w-]*-(?:key|token))\s*:\s*)(?!\s|\*\*\*)[^\"'\r\n]+",
    re.IGNORECASE,
)
LOGIN = re.compile(r"(?<=://)[^/\s?#]*@")
ADDRESS = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s\"'<>]+", re.IGNORECASE)
# As keys in the path of an address look: letters and digits mixed, or a UUID.
KEY_LIKE = re.compile(
    r"(?<![A-Za-z0-9])(?:(?=[a-z]*\d)(?=\d*[a-z])[a-z0-9]{20,}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"
    r"(?![A-Za-z0-9])",
    re.IGNORECASE,
)


def without_secrets(text: str) -> str:
    """A text whose addresses have no user, no password, and no parameters or parts that look like keys or tokens.

    Nor has it the value of a header that carries one, such as "Authorization: Bearer abc".

    >>> without_secrets("https://tiles.org/1/0/0.png?v=2&access_token=abc")
    'https://tiles.org/1/0/0.png?v=2&access_token=***'
    """
    text = LOGIN.sub("***@", PARAMETER.sub(r"\1***", HEADER.sub(r"\1***", text)))
    return ADDRESS.sub(lambda address: KEY_LIKE.sub("***", address[0]), text)


def hide_secrets(*loggers: str) -> None:
    """Strike out keys in addresses from what these loggers of libraries emit."""
    for name in loggers:
        logging.getLogger(name).addFilter(_without_secrets)  # once, however often it is called


def _without_secrets(record: logging.LogRecord) -> bool:
    record.msg, record.args = without_secrets(record.getMessage()), ()
    return True


def printable(text: str) -> str:
    """`text` on one line and whole; what a terminal would obey, or hide, is spelled out.

    >>> printable("a\\x1b[2Jb")
    'a\\\\x1b[2Jb'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)

"""Redirects of servers: followed to http and https, but not from a public address into a private network."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urljoin, urlsplit

import requests

from monai_ext.runtime.plain_text import printable, without_secrets

__all__ = ["MOST_REDIRECTS", "RedirectError", "Session", "redirected"]

MOST_REDIRECTS = 5


class RedirectError(requests.RequestException):
    """A redirect that is not followed; the message has its address, without keys."""


class Session(requests.Session):
    """A session that follows what `redirected` allows."""

    def __init__(self) -> None:
        super().__init__()
        self.max_redirects = MOST_REDIRECTS

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Where a response leads, if it is a redirect."""
        target = super().get_redirect_target(resp)
        return None if target is None else redirected(resp.url, target)


def redirected(url: str, location: str) -> str:
    """The address that `url` is redirected to.

    Raises:
        RedirectError: it is neither http nor https, or a private one while `url` is public.
    """
    try:
        address = urljoin(url, location)
        parts = urlsplit(address)
        allowed = parts.scheme in ("http", "https") and parts.hostname is not None and parts.port != 0
    except ValueError:
        allowed = False
    if not allowed:
        raise RedirectError("it is redirected to what is no http or https address")
    if _is_private(parts.hostname) and not _is_private(urlsplit(url).hostname):
        raise RedirectError(
            "it is redirected into a private network, which is not followed; if that is meant, name this address "
            f"instead: {printable(without_secrets(address))}"
        )
    return address


def _is_private(host: str | None) -> bool:
    """Whether a name stands for this machine or another that is not in the internet."""
    try:
        found = socket.getaddrinfo(host, None)
    except (OSError, UnicodeError):
        return False  # the request fails by itself, or is a proxy's
    return any(not ipaddress.ip_address(str(entry[4][0]).partition("%")[0]).is_global for entry in found)

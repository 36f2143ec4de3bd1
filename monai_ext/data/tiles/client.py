"""Requests to a tile server: one rate for all threads, back-off, a retry limit, and a deadline for each response."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http import HTTPStatus
from itertools import count
from types import MappingProxyType
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, InvalidHeader
from urllib3.util import Retry

from monai_ext import __version__
from monai_ext.runtime.errors import network_reason
from monai_ext.runtime.plain_text import hide_secrets, without_secrets
from monai_ext.runtime.redirects import MOST_REDIRECTS, RedirectError, redirected

__all__ = ["TileClient", "TileFetchError", "TileMissingError", "TileRefusedError"]

T = TypeVar("T")
USER_AGENT = f"monai_ext/{__version__} (fetches map tiles for research)"
ABSENT = frozenset({204, 404, 410})
BUSY = frozenset({429, 503})  # the whole server, so every thread waits
TRY_AGAIN = frozenset({408, 425}) | BUSY
LONGEST_WAIT_S = 300.0  # that a server may demand; beyond it the run ends
LARGEST_BODY = 2**26  # bytes
BLOCK = 2**16
SHORTEST_SECRET = 4  # characters; what is shorter may be a part of any word


class TileFetchError(OSError):
    """A tile could not be fetched; the message has its address, without keys."""


class TileMissingError(TileFetchError):
    """The server has no such tile."""


class TileRefusedError(TileFetchError):
    """The server refuses requests like this one: asking for other tiles is of no use either."""


class _PassingError(Exception):
    """A failure that may be over at the next attempt."""

    def __init__(self, reason: str, *, wait_s: float = 0.0, everywhere: bool = False):
        super().__init__(reason)
        self.wait_s, self.everywhere = wait_s, everywhere


class TileClient:
    """Fetches addresses from several threads, together at most `rate` a second.

    Statuses 408, 425, 429 and 5xx, broken connections and cut-off bodies are tried again after `back_off` seconds,
    then twice that, and so on (each shortened by up to half, by chance). A Retry-After header is waited for, by all
    threads. Any other 4xx is final. Redirects are followed to http and https alone, and to this machine or a private
    network only from there; to another scheme, host or port without `headers`.

    Args:
        rate: requests a second, retries included, evenly spaced.
        user_agent: how to introduce oneself; many servers require a contact in it.
        attempts: at most for one address.
        back_off: seconds before the second attempt.
        timeout: seconds for the whole of a response.
        headers: of each request, such as a token; no message and no log has their values.

    Raises:
        ValueError: one of them is out of range.
    """

    def __init__(
        self,
        *,
        rate: float = 4.0,
        user_agent: str = USER_AGENT,
        attempts: int = 5,
        back_off: float = 1.0,
        timeout: float = 30.0,
        headers: Mapping[str, str] = MappingProxyType({}),
    ):
        if not rate > 0 or attempts < 1 or back_off < 0 or not timeout > 0:
            raise ValueError(
                f"rate={rate}, attempts={attempts}, back_off={back_off}, timeout={timeout}: "
                "choose a positive rate and timeout, at least one attempt, and no negative back_off."
            )
        if not (user_agent.strip() and user_agent.isprintable() and user_agent.isascii()):
            raise ValueError(f"user_agent is {user_agent!r}: name yourself in one line of ASCII characters.")
        self.rate, self.attempts, self.back_off, self.timeout = rate, attempts, back_off, timeout
        self._headers = {"User-Agent": user_agent, "Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "identity"}
        self._own_headers = dict(headers)
        self._secrets = [secret for value in headers.values() for secret in (value, *value.split()[-1:])]
        self._threads = threading.local()  # a session is for one thread
        self._lock = threading.Lock()
        self._free_at = 0.0  # on the monotonic clock, of the next request
        self._stopped = threading.Event()
        self._connections: set[HTTPConnection] = set()
        hide_secrets("urllib3.connectionpool")

    def get(self, url: str, parse: Callable[[bytes], T]) -> T:
        """The result of `parse` for the body of the response; a `ValueError` of `parse` counts as a failed attempt.

        Raises:
            TileMissingError: status 204, 404 or 410.
            TileRefusedError: another 4xx, a Retry-After beyond 5 minutes, a body beyond 64 MiB, a redirect that is not
                followed, or the client was stopped.
            TileFetchError: all attempts failed, or as `parse` raises it.
        """
        try:
            return self._tried(url, parse)
        except TileFetchError as error:
            if (shown := self._struck_out(str(error))) == str(error):
                raise
            raise type(error)(shown) from None

    def _tried(self, url: str, parse: Callable[[bytes], T]) -> T:
        for attempt in count(1):
            self._take_turn()
            try:
                return self._checked(parse, self._request(url))
            except _PassingError as failure:
                if attempt == self.attempts:
                    times = f"{attempt} attempts in a row" if attempt > 1 else "one attempt"
                    # The sentence is whole: in a chain of causes, one without the address would be reported instead.
                    raise TileFetchError(f"{without_secrets(url)} failed in {times}: {failure}.") from None
                wait = max(failure.wait_s, self.back_off * 2 ** (attempt - 1) * random.uniform(0.5, 1))
                self._wait(wait, everywhere=failure.everywhere)
        raise AssertionError  # count() does not end

    def _struck_out(self, text: str) -> str:
        """A text without the values of headers, which a server may repeat."""
        for secret in self._secrets:
            text = text.replace(secret, "***") if len(secret) >= SHORTEST_SECRET else text
        return text

    def stop(self) -> None:
        """End all waiting and all running requests, at once and for good, by a `TileRefusedError`."""
        self._stopped.set()
        for connection in list(self._connections):
            _break_off(connection)

    def _take_turn(self) -> None:
        while True:
            with self._lock:
                now = time.monotonic()
                wait = self._free_at - now
                if wait <= 0 and not self._stopped.is_set():
                    self._free_at = now + 1 / self.rate
                    return
            self._sleep(wait)

    def _wait(self, seconds: float, *, everywhere: bool) -> None:
        if not everywhere:
            self._sleep(seconds)
            return
        with self._lock:
            self._free_at = max(self._free_at, time.monotonic() + seconds)

    def _sleep(self, seconds: float) -> None:
        if self._stopped.wait(max(seconds, 0)):
            raise TileRefusedError("fetching was stopped.")

    def _request(self, url: str) -> bytes:
        """The body of the response, redirects followed."""
        address = url
        for _ in range(MOST_REDIRECTS + 1):
            status, headers, body = self._response(address, with_own=_origin(address) == _origin(url))
            if status in ABSENT:
                raise TileMissingError(f"the server has no {without_secrets(url)} (status {status}).")
            if status >= 400:
                self._judge(url, status, headers.get("Retry-After"))
            if not 300 <= status < 400 or "Location" not in headers:
                return body
            try:
                address = redirected(address, headers["Location"])
            except RedirectError as error:
                raise TileRefusedError(f"{without_secrets(url)}: {error}.") from None
        raise TileRefusedError(f"{without_secrets(url)} is redirected more than {MOST_REDIRECTS} times.")

    def _response(self, url: str, *, with_own: bool) -> tuple[int, Any, bytes]:
        """Status, headers and body of one response, within `timeout` seconds.

        Args:
            with_own: send the headers that were given.
        """
        timely = True

        def expire() -> None:
            nonlocal timely
            timely = False
            for connection in opened:
                _break_off(connection)

        opened: set[HTTPConnection] = set()
        with self._noted(opened):
            deadline = threading.Timer(self.timeout, expire)
            deadline.daemon = True
            deadline.start()
            try:
                with self._send(url, self._own_headers if with_own else {}) as response:
                    body = self._body(response, url)
                if timely and not self._stopped.is_set():  # otherwise it ended because the connection was closed
                    return response.status_code, response.headers, body
                reason = ""
            except (requests.RequestException, HTTPError, OSError, ValueError) as error:
                if isinstance(error, TileFetchError):
                    raise
                reason = network_reason(error)
            finally:
                deadline.cancel()
        if self._stopped.is_set():
            raise TileRefusedError("fetching was stopped.")
        raise _PassingError(reason if timely else f"no whole response within {self.timeout:g} s")

    def _send(self, url: str, own: Mapping[str, str]) -> requests.Response:
        """The response with its body still to be read; past `Session.send`, which looks into redirects as well."""
        session = self._session()
        request = session.prepare_request(requests.Request("GET", url, headers=self._headers))
        request.headers.update(own)  # after requests, which puts a password of ~/.netrc above a token
        settings: Any = session.merge_environment_settings(url, {}, True, None, None)
        return session.get_adapter(url).send(request, timeout=self.timeout, **settings)

    def _body(self, response: requests.Response, url: str) -> bytes:
        body = bytearray()
        while block := response.raw.read1(BLOCK, decode_content=True):
            body += block
            if len(body) > LARGEST_BODY:
                raise TileRefusedError(f"{without_secrets(url)} is no tile: its body exceeds 64 MiB.")
        if (missing := response.raw.length_remaining) and response.status_code == 200:
            raise requests.ConnectionError(f"{missing} bytes of the body are missing")
        return bytes(body)

    def _session(self) -> requests.Session:
        """This thread's session. A connection serves one request, so that a deadline ends that request alone."""
        if not hasattr(self._threads, "session"):
            session = requests.Session()
            for scheme in ("http://", "https://"):
                session.mount(scheme, _Adapter(lambda connection: self._threads.note(connection)))
            session.headers["Connection"] = "close"
            self._threads.session = session
        return self._threads.session

    @contextmanager
    def _noted(self, opened: set[HTTPConnection]) -> Iterator[None]:
        """Collect the connections of this thread in `opened`, and among those that `stop` ends."""

        def note(connection: HTTPConnection) -> None:
            opened.add(connection)
            self._connections.add(connection)

        self._threads.note = note
        try:
            yield
        finally:
            self._connections -= opened

    def _judge(self, url: str, status: int, delay: str | None) -> None:
        reason = f"status {status}"
        with suppress(ValueError):  # the server's own words could hold anything
            reason += f" {HTTPStatus(status).phrase}"
        if status not in TRY_AGAIN and status < 500:
            raise TileRefusedError(
                f"the server refuses {without_secrets(url)} ({reason}): check address, key and terms of use."
            )
        wait = _seconds(delay)
        if wait > LONGEST_WAIT_S:
            raise TileRefusedError(
                f"the server demands a wait of {wait:.0f} s before {without_secrets(url)} ({reason}): come back later; "
                "what has been fetched stays."
            )
        raise _PassingError(reason, wait_s=wait, everywhere=status in BUSY)

    @staticmethod
    def _checked(parse: Callable[[bytes], T], body: bytes) -> T:
        try:
            return parse(body)
        except ValueError as error:
            raise _PassingError(str(error)) from error


class _Adapter(HTTPAdapter):
    """Calls `note` with each connection before it is opened."""

    def __init__(self, note: Callable[[HTTPConnection], None]):
        self._note = note
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        note = self._note

        class Plain(HTTPConnection):
            def connect(self) -> None:
                note(self)
                super().connect()

        class Secure(HTTPSConnection):
            def connect(self) -> None:
                note(self)
                super().connect()

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class SecurePool(HTTPSConnectionPool):
            ConnectionCls = Secure

        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}


def _break_off(connection: HTTPConnection) -> None:
    """End whatever another thread does with the connection."""
    if connection.sock is not None:
        with suppress(OSError):
            connection.sock.shutdown(socket.SHUT_RDWR)


def _origin(url: str) -> tuple[str, str | None, int | None]:
    """Scheme, host and port of an address."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _seconds(retry_after: str | None) -> float:
    """A Retry-After header, seconds or an HTTP date, as seconds from now; 0 where there is none that is valid."""
    try:
        return Retry().parse_retry_after(retry_after) if retry_after else 0.0
    except (InvalidHeader, ValueError, OverflowError):
        return 0.0

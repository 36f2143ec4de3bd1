"""Requests to a tile server as a good guest makes them: one rate for all threads, back-off, and an end to insisting."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from http.client import HTTPException, IncompleteRead
from itertools import count
from typing import TypeVar
from urllib.error import HTTPError, URLError
from urllib.request import Request, build_opener

from monai_ext import __version__
from monai_ext.data.tiles.grid import without_secrets

__all__ = ["TileClient", "TileFetchError", "TileMissingError", "TileRefusedError"]

T = TypeVar("T")
USER_AGENT = f"monai_ext/{__version__} (fetches map tiles for research)"
ABSENT = frozenset({204, 404, 410})
BUSY = frozenset({429, 503})  # the whole server, so every thread waits
TRY_AGAIN = frozenset({408, 425}) | BUSY
LONGEST_WAIT_S = 300.0  # that a server may ask for; beyond it the run ends
LARGEST_ANSWER = 2**26  # bytes


class TileFetchError(OSError):
    """A tile could not be fetched; the message has its address, without keys."""


class TileMissingError(TileFetchError):
    """The server says that it has no such tile."""


class TileRefusedError(TileFetchError):
    """The server does not want to be asked like this: asking for other tiles is of no use either."""


class _PassingError(Exception):
    """A failure that may be over at the next attempt."""

    def __init__(self, reason: str, *, wait_s: float = 0.0, everywhere: bool = False):
        super().__init__(reason)
        self.wait_s, self.everywhere = wait_s, everywhere


class TileClient:
    """Fetches addresses from several threads, together at most `rate` a second.

    Statuses 408, 425, 429 and 5xx, broken connections and cut-off answers are tried again after `back_off` seconds,
    then twice that, and so on (each shortened by up to half, by chance). A Retry-After header is waited for, by all
    threads. Any other 4xx is final.

    Args:
        rate: requests a second, retries included, evenly spaced.
        user_agent: how to introduce oneself; many servers ask for a contact in it.
        attempts: at most for one address.
        back_off: seconds before the second attempt.
        timeout: seconds without an answer.

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
    ):
        if not rate > 0 or attempts < 1 or back_off < 0 or not timeout > 0:
            raise ValueError(
                f"rate={rate}, attempts={attempts}, back_off={back_off}, timeout={timeout}: "
                "choose a positive rate and timeout, at least one attempt, and no negative back_off."
            )
        if not (user_agent.strip() and user_agent.isprintable() and user_agent.isascii()):
            raise ValueError(f"user_agent is {user_agent!r}: name yourself in one line of ASCII characters.")
        self.rate, self.attempts, self.back_off, self.timeout = rate, attempts, back_off, timeout
        self._headers = {"User-Agent": user_agent, "Accept": "image/*,*/*;q=0.5"}
        self._opener = build_opener()
        self._lock = threading.Lock()
        self._free_at = 0.0  # on the monotonic clock, of the next request
        self._stopped = threading.Event()

    def get(self, url: str, parse: Callable[[bytes], T]) -> T:
        """What `parse` makes of the answer's body; a `ValueError` of `parse` counts as a failed attempt.

        Raises:
            TileMissingError: status 204, 404 or 410.
            TileRefusedError: another 4xx, a Retry-After beyond 5 minutes, an answer beyond 64 MiB, or the client was
                stopped.
            TileFetchError: all attempts failed, or as `parse` raises it.
        """
        for attempt in count(1):
            self._take_turn()
            try:
                return self._checked(parse, self._request(url))
            except _PassingError as failure:
                if attempt == self.attempts:
                    times = f"{attempt} attempts in a row" if attempt > 1 else "one attempt"
                    # The sentence is whole; a chain of causes would let one without the address speak for it.
                    raise TileFetchError(f"{without_secrets(url)} failed in {times}: {failure}.") from None
                wait = max(failure.wait_s, self.back_off * 2 ** (attempt - 1) * random.uniform(0.5, 1))
                self._wait(wait, everywhere=failure.everywhere)

    def stop(self) -> None:
        """End all waiting at once and for good, by a `TileRefusedError`; running requests are let finish."""
        self._stopped.set()

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
        try:
            with self._opener.open(Request(url, headers=self._headers), timeout=self.timeout) as answer:
                body, status = answer.read(LARGEST_ANSWER + 1), answer.status
                if len(body) > LARGEST_ANSWER:
                    raise TileRefusedError(f"{without_secrets(url)} is no tile: its answer exceeds 64 MiB.")
                if answer.length:  # what is still to come of a known length; `read` with a limit does not tell
                    raise IncompleteRead(body, answer.length)
        except HTTPError as error:
            with error:
                status, reason, delay = error.code, error.reason, error.headers.get("Retry-After")
            if status not in ABSENT:
                self._judge(url, status, f"status {status} {reason}".rstrip(), delay)
        except (URLError, TimeoutError, ConnectionError, HTTPException) as error:
            reason = error.reason if isinstance(error, URLError) else str(error) or type(error).__name__
            raise _PassingError(f"{reason}") from error
        if status in ABSENT:
            raise TileMissingError(f"the server has no {without_secrets(url)} (status {status}).")
        return body

    def _judge(self, url: str, status: int, reason: str, delay: str | None) -> None:
        if status not in TRY_AGAIN and status < 500:
            raise TileRefusedError(
                f"the server refuses {without_secrets(url)} ({reason}): check address, key and terms of use."
            )
        wait = _seconds(delay)
        if wait > LONGEST_WAIT_S:
            raise TileRefusedError(
                f"the server asks to wait {wait:.0f} s before {without_secrets(url)} ({reason}): come back later; "
                "what has been fetched stays."
            )
        raise _PassingError(reason, wait_s=wait, everywhere=status in BUSY)

    @staticmethod
    def _checked(parse: Callable[[bytes], T], body: bytes) -> T:
        try:
            return parse(body)
        except ValueError as error:
            raise _PassingError(str(error)) from error


def _seconds(retry_after: str | None) -> float:
    """A Retry-After header, seconds or an HTTP date, as seconds from now; 0 where it says nothing."""
    if not retry_after:
        return 0.0
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        date = parsedate_to_datetime(retry_after)
    except ValueError:
        return 0.0
    if date.tzinfo is None:
        date = date.replace(tzinfo=timezone.utc)
    return max(0.0, (date - datetime.now(timezone.utc)).total_seconds())

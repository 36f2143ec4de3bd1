"""Chromium without a window, for the tests of pages: nothing is downloaded, no page may fetch anything."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
INNER = ("file:", "data:", "blob:")  # of requests that leave no page
NAMES = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser of playwright, or the test is skipped."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("needs Chromium on the path")
    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=FLAGS.split())
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser: Any, page: Path, *, width: int = 1280, scheme: str = "light") -> Iterator[Any]:
    """A page of a file; a script's error, or a request that is none for a file, fails the test."""
    phone = width < 500
    context = browser.new_context(
        viewport={"width": width, "height": 844}, color_scheme=scheme, has_touch=phone, is_mobile=phone
    )
    problems: list[str] = []
    shown = context.new_page()
    shown.on("pageerror", lambda error: problems.append(str(error)))
    shown.on("request", lambda request: request.url.startswith(INNER) or problems.append(request.url))
    try:
        shown.goto(page.as_uri())
        yield shown
    finally:
        context.close()
    assert not problems

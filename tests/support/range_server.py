"""A server on the loopback address that sends parts of files, as those of Cloud-Optimised GeoTIFFs do."""

from __future__ import annotations

import http.server
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class Server(http.server.ThreadingHTTPServer):
    """Serves the files of a folder, or redirects to `moved`; `sent` has (path, bytes) of each response."""

    daemon_threads = True

    def __init__(self, folder: Path, *, ranges: bool, status: int | None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.ranges, self.status = folder, ranges, status
        self.sent: list[tuple[str, int]] = []
        self.moved: dict[str, str] = {}
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        if (place := self.server.moved.get(self.path)) is not None:
            self.send_response(302)
            self.send_header("Location", place)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        file = self.server.folder / self.path.partition("?")[0].strip("/")
        content = file.read_bytes() if file.is_file() else b""
        status, sent = 200 if file.is_file() else 404, content
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if content and wanted and self.server.ranges:
            first, last = int(wanted[1]), min(int(wanted[2] or len(content)), len(content) - 1)
            status, sent = 206, content[first : last + 1]
        self.send_response(self.server.status or status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.send_header("Content-Length", str(len(sent)))
        self.send_header("ETag", f'"{file.stat().st_mtime_ns if content else 0}"')
        self.end_headers()
        if self.command == "GET":
            self.server.sent.append((self.path, len(sent)))
            with suppress(OSError):
                self.wfile.write(sent)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving_ranges(folder: Path, *, ranges: bool = True, status: int | None = None) -> Iterator[Server]:
    server = Server(folder, ranges=ranges, status=status)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()

"""A tile server on the loopback address that answers as a test wants it to, and fetching from it."""

from __future__ import annotations

import http.server
import json
import re
import threading
import time
from contextlib import contextmanager
from io import BytesIO

from PIL import Image

from monai_ext.data.tiles.client import TileClient
from monai_ext.data.tiles.fetch import ATTRIBUTION_FILE, fetch_tiles
from monai_ext.data.tiles.grid import TileArea, TileSource

KOLKATA = TileArea(88.30, 22.50, 88.34, 22.54, zoom=13)  # 2 x 2 tiles
HTML = b"<html><body>Sorry</body></html>"


def encoded(colour, kind="JPEG", size=(16, 16), mode="RGB"):
    buffer = BytesIO()
    Image.new(mode, size, colour).save(buffer, kind)
    return buffer.getvalue()


def picture_of(path):
    """A picture of its own for each address."""
    numbers = [int(n) for n in re.findall(r"\d+", path)]
    return encoded((numbers[-1] % 256, numbers[-2] % 256, 99))


class Server(http.server.ThreadingHTTPServer):
    """Answers by `answer(path, times asked before)` -> (status, headers, body[, bytes to send])."""

    daemon_threads = True

    def __init__(self, answer):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer, self.asked, self.headers, self.lock = answer, [], [], threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_port}"

    @property
    def paths(self):
        return [path for path, _, _ in self.asked]

    @property
    def source(self):
        return TileSource(self.url + "/{z}/{x}/{y}.jpg", attribution="nobody")


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        with self.server.lock:
            before = self.server.paths.count(self.path)
            self.server.asked.append((self.path, time.monotonic(), self.headers["User-Agent"]))
            self.server.headers.append(dict(self.headers))
        status, headers, body, *sent = self.server.answer(self.path, before)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: sent[0]] if sent else body)

    def log_message(self, *args):
        pass


@contextmanager
def serving(answer):
    server = Server(answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def good(path, before):
    return 200, {"Content-Type": "image/jpeg"}, picture_of(path)


def quick(**options):
    return TileClient(**{"rate": 1000, "back_off": 0.01, "timeout": 5} | options)


def fetch(server, folder, area=KOLKATA, **options):
    options = {"source": server.source, "client": quick()} | options
    return fetch_tiles(area, folder, **options)


def record(folder):
    return json.loads((folder / ATTRIBUTION_FILE).read_text())["areas"]

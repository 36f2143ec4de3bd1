"""Requests to a server on the loopback address that misbehaves."""

from __future__ import annotations

import gzip
import http.server
import logging
import threading
import time
from contextlib import suppress
from email.utils import formatdate

import numpy as np
import pytest
from PIL import Image
from tile_server import KOLKATA, fetch, good, picture_of, quick, serving

from monai_ext.data.tiles.client import TileClient, TileFetchError, TileRefusedError
from monai_ext.data.tiles.fetch import fetch_tiles, image_suffix
from monai_ext.data.tiles.grid import TileArea
from monai_ext.runtime.errors import explain


def test_requests_are_spaced_evenly_over_all_threads_and_name_the_client(tmp_path):
    with serving(good) as server:
        fetch(server, tmp_path, client=quick(rate=25, user_agent="surveyor (mail@example.org)"), jobs=4)
    times = sorted(moment for _, moment, _ in server.asked)
    assert times[-1] - times[0] >= 3 / 25 - 0.05  # a busy machine delays the first
    assert {agent for _, _, agent in server.asked} == {"surveyor (mail@example.org)"}


def test_a_slow_answer_does_not_hold_up_other_threads(tmp_path):
    def answer(path, before):
        time.sleep(0.2)
        return good(path, before)

    with serving(answer) as server:
        start = time.monotonic()
        fetch(server, tmp_path, jobs=4)
    assert time.monotonic() - start < 4 * 0.2


@pytest.mark.parametrize("status", [500, 502, 503, 429, 408])
def test_passing_errors_are_tried_again(tmp_path, status):
    with serving(lambda path, before: good(path, before) if before else (status, {}, b"busy")) as server:
        assert fetch(server, tmp_path).fetched == 4
    assert len(server.asked) == 8


def test_back_off_doubles(tmp_path):
    with serving(lambda path, before: good(path, before) if before >= 3 else (500, {}, b"")) as server:
        fetch(server, tmp_path, TileArea(*KOLKATA.bbox, zoom=1), client=quick(back_off=0.08))
    times = [moment for _, moment, _ in server.asked]
    waits = np.diff(times)
    assert len(waits) == 3
    assert all(0.5 * 0.08 * 2**i <= wait for i, wait in enumerate(waits))


def test_retry_after_in_seconds_is_waited_for_by_all_threads(tmp_path):
    first = []

    def answer(path, before):
        if not first:
            first.append(path)
            return 429, {"Retry-After": "1"}, b""
        return good(path, before)

    with serving(answer) as server:
        assert fetch(server, tmp_path, jobs=1).fetched == 4
    times = [moment for _, moment, _ in server.asked]
    assert times[1] - times[0] >= 0.99  # jobs=1: but for the retry nothing would wait
    assert server.paths[1] == server.paths[0]


def test_a_date_in_retry_after_counts_and_too_long_a_wait_ends_the_run(tmp_path):
    later = formatdate(time.time() + 4000, usegmt=True)
    with serving(lambda path, before: (503, {"Retry-After": later}, b"")) as server:
        with pytest.raises(
            TileRefusedError, match=r"the server demands a wait of (39\d\d|4000) s before http://127.*come back"
        ):
            fetch(server, tmp_path)
    assert len(server.asked) <= 4


def test_a_cut_off_body_is_fetched_again(tmp_path):
    def answer(path, before):
        body = picture_of(path)
        return (200, {}, body, len(body) // 2) if not before else (200, {}, body)

    with serving(answer) as server:
        assert fetch(server, tmp_path).fetched == 4
    assert len(server.asked) == 8
    for file in tmp_path.rglob("*.jpg"):
        Image.open(file).load()


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_refusal_ends_the_run_with_the_address(tmp_path, status):
    area = TileArea(88, 22, 89, 23, zoom=13)
    with serving(lambda path, before: (status, {}, b"no key")) as server:
        with pytest.raises(
            TileRefusedError, match=rf"refuses http://127\S+/13/\d+/\d+.jpg \(status {status}"
        ) as caught:
            fetch(server, tmp_path, area)
    assert explain(caught.value) == str(caught.value)
    assert len(server.asked) <= 8 < len(area)


def test_a_server_that_is_not_there_is_named(tmp_path):
    with serving(good) as server:
        source = server.source
    with pytest.raises(TileFetchError, match=r"http://127\S+ failed in one attempt: .*refused"):
        fetch_tiles(KOLKATA, tmp_path, source=source, client=quick(attempts=1))


@pytest.mark.parametrize(
    "options",
    [{"rate": 0}, {"attempts": 0}, {"back_off": -1}, {"timeout": 0}, {"user_agent": "a\nb"}],
)
def test_clients_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="choose a positive rate|name yourself in one line"):
        TileClient(**options)


def dripping(headers: bool):
    """A server that sends a byte each 0.1 s for ever, of its headers or of the body."""

    class Drip(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            start = b"HTTP/1.1 200 OK\r\nX: " if headers else b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
            with suppress(OSError):
                self.wfile.write(start)
                while True:
                    self.wfile.write(b"x")
                    time.sleep(0.1)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Drip)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_port}/1/0/0.jpg"


@pytest.mark.parametrize("headers", [True, False])
def test_a_response_that_drips_in_ends_at_the_deadline(headers):
    server, url = dripping(headers)
    start = time.monotonic()
    with pytest.raises(TileFetchError, match=r"0.jpg failed in 2 attempts in a row: no whole response within 0.5 s"):
        quick(timeout=0.5, attempts=2).get(url, bytes)
    assert 1 <= time.monotonic() - start < 3
    server.shutdown()


def test_stopping_ends_running_requests_at_once():
    server, url = dripping(headers=False)
    client = quick(timeout=60)
    threading.Timer(0.3, client.stop).start()
    start = time.monotonic()
    with pytest.raises(TileRefusedError, match="fetching was stopped"):
        client.get(url, bytes)
    assert time.monotonic() - start < 5
    server.shutdown()


def test_redirects_are_followed_to_http_addresses():
    def answer(path, before):
        return (302, {"Location": "/2/0/0.jpg"}, b"") if path == "/1/0/0.jpg" else good(path, before)

    with serving(answer) as server:
        assert quick().get(server.url + "/1/0/0.jpg", bytes) == picture_of("/2/0/0.jpg")
    assert server.paths == ["/1/0/0.jpg", "/2/0/0.jpg"]


def test_own_headers_go_to_the_server_itself_alone():
    def elsewhere(path, before):
        return 302, {"Location": f"{other.url}/2/0/0.jpg" if path == "/0/0/0.jpg" else "/0/0/0.jpg"}, b""

    client = quick(headers={"Authorization": "Bearer hidden", "X-Key": "hidden", "X-Empty": ""})
    with serving(good) as other, serving(elsewhere) as server:
        client.get(server.url + "/1/0/0.jpg", bytes)
    assert [each.get("Authorization") for each in server.headers] == ["Bearer hidden"] * 2
    assert other.paths == ["/2/0/0.jpg"] and not {"Authorization", "X-Key"} & other.headers[0].keys()


def test_own_headers_come_before_a_password_in_netrc_and_are_in_no_message(tmp_path, monkeypatch, caplog):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password mine\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    client = quick(headers={"Authorization": "Bearer hidden"}, attempts=1)
    with serving(lambda path, before: (200, {}, b"the token hidden is unknown")) as server, caplog.at_level(10):
        with pytest.raises(TileFetchError, match=r"begin with 'the token \*\*\* is unknown'") as caught:
            client.get(server.url, lambda body: image_suffix(body, server.url))
    assert server.headers[0]["Authorization"] == "Bearer hidden"
    assert "hidden" not in caplog.text + str(caught.value)


@pytest.mark.parametrize(
    ("location", "sentence"),
    [
        ("ftp://example.org/a.jpg", ": it is redirected to what is no http or https address"),
        ("file:///etc/passwd", ": it is redirected to what is no http or https address"),
        ("http://[::1", ": it is redirected to what is no http or https address"),
        ("http://a:99999/", ": it is redirected to what is no http or https address"),
        ("/1/0/0.jpg", " is redirected more than 5 times"),
    ],
)
def test_other_redirects_are_refused(location, sentence):
    with serving(lambda path, before: (301, {"Location": location}, b"")) as server:
        with pytest.raises(TileRefusedError, match=rf"http://127\S+/1/0/0.jpg{sentence}"):
            quick().get(server.url + "/1/0/0.jpg", bytes)


def test_gzip_that_nobody_asked_for_is_unpacked():
    with serving(lambda path, before: (200, {"Content-Encoding": "gzip"}, gzip.compress(picture_of(path)))) as server:
        assert quick().get(server.url + "/1/0/0.jpg", bytes) == picture_of("/1/0/0.jpg")


def test_keys_stay_out_of_errors_and_logs_and_the_servers_words_out_of_both(caplog):
    url = "/1/0/0.jpg?api=hidden1&sig=hidden2"
    with serving(lambda path, before: (500, {}, b"")) as server, caplog.at_level(logging.DEBUG):
        server.RequestHandlerClass.responses = {500: ("\x1b[31mred", "")}
        try:
            with pytest.raises(TileFetchError, match="status 500 Internal Server Error") as caught:
                quick(attempts=1).get(server.url + url, bytes)
        finally:
            del server.RequestHandlerClass.responses
    with pytest.raises(TileFetchError, match="refused") as other:
        quick(attempts=1).get(server.url.replace("//", "//user:hidden3@") + url, bytes)
    told = f"{caught.value} {other.value} {caplog.text}"
    assert "hidden" not in told and "\x1b" not in told and "/1/0/0.jpg" in caplog.text


def test_a_status_line_with_what_a_terminal_obeys_is_spelled_out():
    class Rude(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.wfile.write(b"HTTP/9 \x1b[31mred\r\n\r\n")

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Rude)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    with pytest.raises(TileFetchError) as caught:
        quick(attempts=1).get(f"http://127.0.0.1:{server.server_port}/1/0/0.jpg", bytes)
    assert "\x1b" not in str(caught.value) and "1/0/0.jpg failed in one attempt" in str(caught.value)
    server.shutdown()
    server.server_close()

"""Tiles of an area from a server that misbehaves: what is kept, counted, recorded and reported."""

from __future__ import annotations

import re
import signal
import threading
import time
from io import BytesIO

import mercantile
import numpy as np
import pytest
from tifffile import imwrite
from tile_server import HTML, KOLKATA, encoded, fetch, good, picture_of, quick, record, serving

from monai_ext.data.tiles.client import TileFetchError, TileRefusedError
from monai_ext.data.tiles.fetch import ATTRIBUTION_FILE, fetch_tiles
from monai_ext.data.tiles.grid import TileArea, TileSource
from monai_ext.data.tiles.listing import tile_items
from monai_ext.runtime.errors import explain


def test_tiles_come_byte_for_byte_into_folders_by_zoom_and_column(tmp_path):
    with serving(good) as server:
        summary = fetch(server, tmp_path)
    tiles = list(KOLKATA)
    assert (summary.fetched, summary.kept, summary.missing) == (4, 0, 0) == (len(tiles), 0, 0)
    for tile in tiles:
        body = (tmp_path / f"{tile.z}/{tile.x}/{tile.y}.jpg").read_bytes()
        assert body == picture_of(f"/{tile.z}/{tile.x}/{tile.y}.jpg")
    assert [item["id"] for item in tile_items(tmp_path)] == sorted(f"{t.z}_{t.x}_{t.y}" for t in tiles)
    assert summary.nbytes == sum(file.stat().st_size for file in tmp_path.rglob("*.jpg"))


def test_source_credit_box_and_time_are_recorded_beside_the_tiles(tmp_path):
    with serving(good) as server:
        source = TileSource(server.url + "/{z}/{x}/{y}.jpg?key=hidden", attribution="CC BY 4.0, somebody")
        fetch(server, tmp_path, source=source)
        fetch(server, tmp_path, TileArea(88.30, 22.50, 88.34, 22.54, zoom=12), source=source)
        fetch(server, tmp_path, source=source)
    first, second = record(tmp_path)
    assert (first["zoom"], second["zoom"]) == (12, 13)  # the one written last stands last, and once
    assert second["source"] == server.url + "/{z}/{x}/{y}.jpg?key=***"
    assert second["attribution"] == "CC BY 4.0, somebody" and second["bbox"] == list(KOLKATA.bbox)
    assert second["tiles"] == second["tiles_of_area"] == 4 and second["missing"] == 0
    assert second["started"] <= second["finished"]


def test_the_same_call_again_asks_only_for_tiles_that_are_not_there_whole(tmp_path):
    with serving(good) as server:
        fetch(server, tmp_path)
        files = sorted(tmp_path.rglob("*.jpg"))
        files[0].unlink()
        files[1].write_bytes(files[1].read_bytes()[:-40])  # as other programs leave them
        files[2].rename(files[2].with_suffix(".png"))
        files[2].with_suffix(".png").write_bytes(b"")
        server.asked.clear()
        summary = fetch(server, tmp_path)
    assert (summary.fetched, summary.kept) == (3, 1)
    assert len(server.asked) == 3
    assert sorted(tmp_path.rglob("*.*g")) == files  # the damaged .png is gone


def test_an_image_cut_off_at_the_server_fails_with_address_and_reason_and_leaves_no_file(tmp_path):
    with serving(lambda path, before: (200, {}, picture_of(path)[:-30])) as server:
        with pytest.raises(TileFetchError, match="4 of 4 tiles could not be fetched") as caught:
            fetch(server, tmp_path, client=quick(attempts=2))
    assert re.search(
        r"http://127\S+/13/\d+/\d+.jpg failed in 2 attempts in a row: the image is damaged", str(caught.value)
    )
    assert explain(caught.value) == str(caught.value)  # the command shows this sentence, not one of its causes
    assert len(server.asked) == 8
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == [ATTRIBUTION_FILE]
    assert record(tmp_path)[0]["finished"] is None


def test_a_page_in_place_of_an_image_is_not_saved_nor_asked_for_again(tmp_path):
    page = {mercantile.Tile(x=6105, y=3570, z=13)}
    assert page < set(KOLKATA)

    def answer(path, before):
        return (200, {"Content-Type": "image/jpeg"}, HTML) if path == "/13/6105/3570.jpg" else good(path, before)

    with serving(answer) as server:
        with pytest.raises(
            TileFetchError, match=r"1 of 4 tiles .*3570.jpg is no image: its 31 bytes begin with '<html>"
        ):
            fetch(server, tmp_path)
    assert len(server.asked) == 4
    assert len(list(tmp_path.rglob("*.jpg"))) == 3


def test_the_suffix_is_that_of_the_content(tmp_path):
    bodies = {
        "/1/0/0.jpg": encoded("red", "PNG"),
        "/1/0/1.jpg": encoded("red", "WEBP"),
        "/1/1/0.jpg": encoded("red", "TIFF"),
    }

    with serving(lambda path, before: (200, {}, bodies.get(path) or picture_of(path))) as server:
        fetch(server, tmp_path, TileArea(-180, -85, 180, 85, zoom=1))
        again = fetch(server, tmp_path, TileArea(-180, -85, 180, 85, zoom=1))
    assert sorted(file.name for file in tmp_path.rglob("?.*")) == ["0.png", "0.tif", "1.jpg", "1.webp"]
    assert again.kept == 4


def test_missing_tiles_are_counted_and_not_tried_again(tmp_path):
    with serving(lambda path, before: (404, {}, HTML) if path.endswith("3569.jpg") else good(path, before)) as server:
        summary = fetch(server, tmp_path)
    assert (summary.fetched, summary.missing, len(server.asked)) == (2, 2, 4)
    assert record(tmp_path)[0]["missing"] == 2


def test_an_area_without_any_tile_is_an_error(tmp_path):
    with serving(lambda path, before: (404, {}, b"")) as server:
        with pytest.raises(TileRefusedError, match="none of the first 4 tiles of http://.*check its largest zoom"):
            fetch(server, tmp_path)


def test_a_long_search_for_the_first_tile_ends(tmp_path):
    area = TileArea(88, 22, 89, 23, zoom=13)
    with serving(lambda path, before: (404, {}, b"")) as server:
        with pytest.raises(TileRefusedError, match="none of the first 200 tiles"):
            fetch(server, tmp_path, area, client=quick(rate=1e6))
    assert len(area) > 500 > len(server.asked)


def test_failures_in_a_row_end_the_run(tmp_path):
    area = TileArea(88, 22, 89, 23, zoom=13)
    with serving(lambda path, before: (500, {}, b"")) as server:
        with pytest.raises(TileRefusedError, match=r"8 tiles in a row.* The last: http.* in 2 attempts .*status 500"):
            fetch(server, tmp_path, area, client=quick(attempts=2))
    assert len(server.asked) < 30 < len(area)


def test_two_sources_do_not_mix_in_one_folder(tmp_path):
    with serving(good) as server:
        fetch(server, tmp_path)
        with pytest.raises(
            ValueError, match=r"holds tiles of http\S+/{y}.jpg, not of https://t.org/{q}: choose another"
        ):
            fetch(server, tmp_path, source=TileSource("https://t.org/{q}"))
        (tmp_path / ATTRIBUTION_FILE).write_text("{}")
        with pytest.raises(ValueError, match="attribution.json is damaged"):
            fetch(server, tmp_path)


def test_a_mistyped_address_does_not_bar_the_folder(tmp_path):
    with serving(lambda path, before: good(path, before) if path.endswith(".jpg") else (404, {}, b"")) as server:
        with pytest.raises(TileRefusedError):
            fetch(server, tmp_path, source=TileSource(server.url + "/{z}/{x}/{y}.jgp"))
        assert fetch(server, tmp_path).fetched == 4
    assert [entry["source"] for entry in record(tmp_path)] == [server.source.template]


def test_pictures_that_repeat_are_counted(tmp_path):
    sea = encoded("blue")
    with serving(lambda path, before: (200, {}, picture_of(path) if path.endswith("3569.jpg") else sea)) as server:
        assert fetch(server, tmp_path).repeated == 2


def tiff(bands=3, at=None, **options):
    """A TIFF, with bytes in the middle of its pixels overwritten if `at` is given."""
    buffer = BytesIO()
    values = np.random.default_rng(0).integers(0, 255, (32, 32, bands), dtype=np.uint8)
    imwrite(buffer, values, photometric="rgb" if bands == 3 else "minisblack", planarconfig="contig", **options)
    body = bytearray(buffer.getvalue())
    if at is not None:
        body[at : at + 40] = b"\xff" * 40
    return bytes(body)


@pytest.mark.parametrize("bands", [3, 6])
def test_a_tiff_is_decoded_before_it_is_kept(tmp_path, bands):
    good, damaged = (tiff(bands, at, compression="zlib") for at in (None, 600))
    with serving(lambda path, before: (200, {}, good)) as server:
        assert fetch(server, tmp_path / "good").fetched == 4
    with serving(lambda path, before: (200, {}, damaged)) as server:
        with pytest.raises(TileFetchError, match="4 of 4 tiles .*: the image is damaged"):
            fetch(server, tmp_path / "damaged", client=quick(attempts=1))
    assert not list((tmp_path / "damaged").rglob("*.tif"))


def test_an_interrupt_while_a_server_does_not_accept_ends_at_once(tmp_path, monkeypatch):
    waiting = threading.Event()

    def connect(*args, **kwargs):
        waiting.set()
        time.sleep(60)

    def interrupt():
        waiting.wait()
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    monkeypatch.setattr("urllib3.util.connection.create_connection", connect)
    monkeypatch.setattr("monai_ext.data.tiles.fetch.PATIENCE_S", 0.2)
    source = TileSource("http://127.0.0.1:9/{z}/{x}/{y}")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
    try:
        threading.Thread(target=interrupt, daemon=True).start()
        start = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            fetch_tiles(KOLKATA, tmp_path, source=source, client=quick(timeout=60))
        assert time.monotonic() - start < 5
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    "body", [b"II*\0<html>not found</html>", encoded("red", "TIFF", size=(64, 64))[:-3000], b"II*\0"]
)
def test_a_tiff_that_is_none_or_not_whole_is_not_kept(tmp_path, body):
    with serving(lambda path, before: (200, {}, body)) as server:
        with pytest.raises(TileFetchError, match="4 of 4 tiles .*: the image is damaged"):
            fetch(server, tmp_path, client=quick(attempts=1))
    assert not list(tmp_path.rglob("*.tif"))

"""Tiles of an area from a server: the grid against mercantile, and a server on the loopback address that misbehaves."""

from __future__ import annotations

import json
import multiprocessing
import re
import time
from email.utils import formatdate

import mercantile
import numpy as np
import pytest
from PIL import Image
from tile_server import encoded, good, picture_of, serving

from monai_ext.__main__ import main
from monai_ext.commands.datasets.fetch_tiles import MOST_TILES
from monai_ext.data.tiles.client import TileClient, TileFetchError, TileRefusedError
from monai_ext.data.tiles.fetch import ATTRIBUTION_FILE, fetch_tiles
from monai_ext.data.tiles.grid import NATIONAL_MAP, TileArea, TileSource, without_secrets
from monai_ext.data.tiles.listing import tile_items
from monai_ext.runtime.errors import explain

KOLKATA = TileArea(88.30, 22.50, 88.34, 22.54, zoom=13)  # 2 x 2 tiles
HTML = b"<html><body>Sorry</body></html>"


def quick(**options):
    return TileClient(**{"rate": 1000, "back_off": 0.01, "timeout": 5} | options)


def fetch(server, folder, area=KOLKATA, **options):
    options = {"source": server.source, "client": quick(), "progress": False} | options
    return fetch_tiles(area, folder, **options)


def record(folder):
    return json.loads((folder / ATTRIBUTION_FILE).read_text())["areas"]


# --- grid ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("box", "zoom"),
    [
        ((88.2, 22.4, 88.6, 22.8), 12),
        ((-0.001, -0.001, 0.001, 0.001), 20),
        ((-180, -90, 180, 90), 3),
        ((170, -20, -170, -10), 7),
        (tuple(mercantile.bounds(5, 9, 4)), 4),  # exactly one tile
        ((-180, 84, -179, 90), 6),
    ],
)
def test_areas_have_the_tiles_that_mercantile_gives(box, zoom):
    area = TileArea(*box, zoom=zoom)
    tiles = list(area)
    assert len(tiles) == len(area) == len(set(tiles))
    assert set(tiles) == set(mercantile.tiles(*box, zooms=zoom))


def test_a_box_round_the_world_at_a_low_zoom_has_no_tile_twice():
    tiles = list(TileArea(1, -10, -1, 10, zoom=1))
    assert len(tiles) == len(set(tiles)) == 4


def test_counting_a_huge_area_does_not_list_it():
    assert len(TileArea(-180, -85.0511287, 180, 85.0511287, zoom=24)) == 4**24


def test_a_pixel_of_the_equator_at_zoom_0_is_a_256th_of_it():
    assert TileArea(0, -1, 1, 1, zoom=0).pixel_size_m == pytest.approx(156543.034, abs=1e-3)
    assert TileArea(0, 59, 1, 61, zoom=1).pixel_size_m == pytest.approx(156543.034 / 4, rel=1e-6)  # cos 60 degrees


@pytest.mark.parametrize(
    ("box", "zoom", "sentence"),
    [
        ((88, 23, 89, 22), 5, "bbox 88 23 89 22 is empty: the order is W S E N"),
        ((88, 22, 88, 23), 5, "is empty"),
        ((22.5, 88.2, 22.7, 88.5), 5, "beyond 85.0511 degrees, where tiles end: the order is W S E N"),
        ((88, 22, 189, 23), 5, "leaves the world"),
        ((float("nan"), 22, 89, 23), 5, "not finite"),
        ((88, 22, 89, 23), -1, "zoom is -1: choose a whole number, 0 ... 30"),
        ((88, 22, 89, 23), 31, "zoom is 31"),
    ],
)
def test_wrong_boxes_and_zooms_are_refused_in_a_sentence(box, zoom, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        TileArea(*box, zoom=zoom)


def test_templates_in_xyz_tms_quadkey_and_with_subdomains():
    tile = mercantile.Tile(486, 332, 10)  # the example of mercantile's documentation
    assert TileSource("https://t.org/{z}/{x}/{y}.png").url(tile) == "https://t.org/10/486/332.png"
    assert TileSource("https://t.org/{z}/{x}/{-y}.png").url(tile) == f"https://t.org/10/486/{1023 - 332}.png"
    assert TileSource("https://t.org/a{q}.jpeg?g=1").url(tile) == "https://t.org/a0313102310.jpeg?g=1"
    hosts = {TileSource("http://{s}.t.org/{z}/{x}/{y}", subdomains="01").url(mercantile.Tile(x, 0, 3)) for x in (0, 1)}
    assert hosts == {"http://0.t.org/3/0/0", "http://1.t.org/3/1/0"}
    assert NATIONAL_MAP.url(tile).endswith("/tile/10/332/486")  # row before column


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        ("ftp://t.org/{z}/{x}/{y}", "must begin with http:// or https://"),
        ("https://t.org/{z}/{x}/{y} .png", "without spaces"),
        ("https://t.org/{z}/{x}.png", "must have {z}, {x} and {y} or {-y}, or {q}"),
        ("https://t.org/{z}/{x}/{y}{r}.png", "unknown field {r}"),
        ("https://t.org/{z/{x}/{y}.png", "cannot be understood"),
        ("https://t.org/{z}/{x}/{y}}.png", "cannot be understood"),
    ],
)
def test_wrong_templates_are_refused_in_a_sentence(template, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        TileSource(template)


def test_zoom_0_has_no_quadkey():
    with pytest.raises(ValueError, match="zoom 0 has no quadkey"):
        TileSource("https://t.org/{q}").url(mercantile.Tile(0, 0, 0))


def test_keys_in_addresses_are_not_shown():
    assert without_secrets("https://t.org/1?v=3&apiKey=s1&x=2") == "https://t.org/1?v=3&apiKey=***&x=2"
    assert "s1" not in TileSource("https://t.org/{q}?subscription-key=s1").public_template


# --- fetching ------------------------------------------------------------------------------------------------------


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


def test_requests_are_spaced_evenly_over_all_threads_and_name_the_client(tmp_path):
    with serving(good) as server:
        fetch(server, tmp_path, client=quick(rate=25, user_agent="surveyor (mail@example.org)"), jobs=4)
    times = sorted(moment for _, moment, _ in server.asked)
    assert times[-1] - times[0] >= 3 / 25 - 0.02
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
            TileRefusedError, match=r"the server asks to wait (39\d\d|4000) s before http://127.*come back"
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
    bodies = {"/1/0/0.jpg": encoded("red", "PNG"), "/1/0/1.jpg": encoded("red", "WEBP"), "/1/1/0.jpg": b"II*\0whatever"}

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


def test_failures_in_a_row_end_the_run(tmp_path):
    area = TileArea(88, 22, 89, 23, zoom=13)
    with serving(lambda path, before: (500, {}, b"")) as server:
        with pytest.raises(TileRefusedError, match=r"8 tiles in a row.* The last: http.* in 2 attempts .*status 500"):
            fetch(server, tmp_path, area, client=quick(attempts=2))
    assert len(server.asked) < 30 < len(area)


def test_a_server_that_is_not_there_is_named(tmp_path):
    with serving(good) as server:
        source = server.source
    with pytest.raises(TileFetchError, match=r"http://127\S+ failed in one attempt: .*refused"):
        fetch_tiles(KOLKATA, tmp_path, source=source, client=quick(attempts=1), progress=False)


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


@pytest.mark.parametrize(
    "options",
    [{"rate": 0}, {"attempts": 0}, {"back_off": -1}, {"timeout": 0}, {"user_agent": "a\nb"}],
)
def test_clients_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="choose a positive rate|name yourself in one line"):
        TileClient(**options)


# --- the command ---------------------------------------------------------------------------------------------------


def command(server, folder, *more, box=KOLKATA.bbox, zoom=13):
    where = ["--bbox", *map(str, box), "--zoom", str(zoom), "--output_dir", str(folder)]
    return ["fetch_tiles", *where, "--url", server.url + "/{z}/{x}/{y}.jpg", "--rate", "500", *more]


def test_the_command_says_what_it_will_do_and_did(tmp_path, capsys):
    with serving(good) as server:
        assert main(command(server, tmp_path, "--dry_run")) == 0
        assert not server.asked and not list(tmp_path.iterdir())
        assert main(command(server, tmp_path, "--attribution", "mine", "--user_agent", "me")) == 0
    said = capsys.readouterr().err
    assert "4 tiles at zoom 13 (17.7 m a pixel), about 0 MB, at least 0 s at 500 a second" in said
    assert re.search(r"of [\d.]+ [EW] to [\d.]+ [EW], [\d.]+ [NS] to [\d.]+ [NS]\n", said)
    assert "4 tiles fetched (0.0 MB), 0 were there, 0 do not exist" in said
    assert record(tmp_path)[0]["attribution"] == "mine" and server.asked[0][2] == "me"


def test_more_tiles_than_the_limit_need_yes(tmp_path):
    with serving(good) as server:
        with pytest.raises(ValueError, match=rf"tiles are more than {MOST_TILES:,}: .* add --yes"):
            main(command(server, tmp_path, box=(80, 20, 89, 29), zoom=14))
        assert not server.asked


def test_the_national_map_is_the_default_and_credited(capsys, tmp_path):
    main("fetch_tiles --bbox -76.62 39.28 -76.61 39.29 --zoom 15 --output_dir x --dry_run".split())
    assert NATIONAL_MAP.template in capsys.readouterr().err
    assert "U.S. Geological Survey" in NATIONAL_MAP.attribution and "public domain" in NATIONAL_MAP.attribution


def test_a_killed_run_leaves_whole_tiles_and_is_continued(tmp_path):
    box = (88, 22, 88.4, 22.4)
    with serving(good) as server:
        arguments = command(server, tmp_path, "--rate", "50", box=box)
        process = multiprocessing.get_context("fork").Process(target=main, args=(arguments,))
        process.start()
        while len(server.asked) < 5 and process.is_alive():
            time.sleep(0.01)
        process.kill()
        process.join()
        files = list(tmp_path.rglob("[0-9]*.jpg"))
        assert len(files) >= 1
        for file in files:
            Image.open(file).load()
        summary = fetch(server, tmp_path, TileArea(*box, zoom=13))
    assert summary.kept == len(files) and summary.kept + summary.fetched == len(TileArea(*box, zoom=13))

"""`fetch_tiles` as it is typed."""

from __future__ import annotations

import multiprocessing
import re
import sys
import time

import pytest
from PIL import Image
from tile_server import KOLKATA, fetch, good, record, serving

from monai_ext.__main__ import main
from monai_ext.commands.datasets.fetch_tiles import MOST_TILES
from monai_ext.data.tiles.grid import NATIONAL_MAP, TileArea


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


def test_keys_and_passwords_are_in_no_file_and_no_message(tmp_path, capsys, monkeypatch):
    with serving(good) as server:
        url = server.url.replace("//", "//me:hidden1@") + "/{z}/{x}/{y}.jpg?key=hidden2&t=0123456789hidden3abcdef"
        credit = ["--attribution", "from http://x.org/?sig=hidden4"]
        arguments = [*command(server, tmp_path), "--url", url, *credit]
        monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "monai_ext", *arguments])
        assert main(arguments) == 0
    written = "".join(file.read_text(errors="replace") for file in tmp_path.rglob("*.*") if file.suffix != ".jpg")
    said = capsys.readouterr()
    assert "# command: " in written and "***@127.0.0.1" in written and "hidden" not in written + said.out + said.err


@pytest.mark.parametrize("typed", ["$TILE_TOKEN", "hidden1"])  # taken from the environment, or put in by the shell
def test_a_token_is_sent_and_in_no_file_and_no_message(tmp_path, capsys, caplog, monkeypatch, typed):
    monkeypatch.setenv("TILE_TOKEN", "hidden1")
    with serving(good) as server:
        arguments = command(server, tmp_path, "--header", f"Authorization: Bearer {typed}", "--header", "X-Who: me")
        monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "monai_ext", *arguments])
        with caplog.at_level("DEBUG"):
            assert main(arguments) == 0
    assert {(each["Authorization"], each["X-Who"]) for each in server.headers} == {("Bearer hidden1", "me")}
    written = "".join(file.read_text(errors="replace") for file in tmp_path.rglob("*.*"))
    said = capsys.readouterr()
    assert "# command: " in written and "hidden" not in written + said.out + said.err + caplog.text


def test_more_tiles_than_the_limit_need_yes(tmp_path):
    with serving(good) as server:
        with pytest.raises(ValueError, match=rf"tiles are more than {MOST_TILES:,}: .* add --yes"):
            main(command(server, tmp_path, box=(80, 20, 89, 29), zoom=14))
        assert not server.asked


def test_a_box_whose_west_and_east_are_swapped_is_refused(tmp_path, capsys):
    with serving(good) as server:
        with pytest.raises(
            ValueError, match=r"goes 359.9 degrees east across the antimeridian .* write 88.3 22.5 88.4"
        ):
            main(command(server, tmp_path, "--dry_run", box=(88.4, 22.5, 88.3, 22.6), zoom=16))
        assert main(command(server, tmp_path, "--dry_run", "--yes", box=(88.4, 22.5, 88.3, 22.6), zoom=4)) == 0
        assert main(command(server, tmp_path, "--dry_run", box=(179, -17, -179, -16), zoom=8)) == 0
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

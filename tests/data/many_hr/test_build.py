"""One low-resolution image, many high-resolution ones: exactness, byte identity, resuming, reading, checking."""

from __future__ import annotations

import json
import math
import multiprocessing
import re
import shutil
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from many_hr import DEGRADATION, SETTINGS, build, contents
from many_hr_sets import read_lines, rows
from PIL import Image

from monai_ext.__main__ import main
from monai_ext.data import DeviceDataset, DeviceLoader
from monai_ext.data.many_hr import build as building
from monai_ext.data.many_hr.build import build_many_hr
from monai_ext.data.many_hr.check import check_many_hr
from monai_ext.data.many_hr.dataset import DecodeManyHighResd, ManyHighResDataset, many_hr_items, many_hr_pairs
from monai_ext.data.many_hr.format import ManyHrError
from monai_ext.data.many_hr.plan import ManyHrPlan, ManyHrSettings
from monai_ext.data.tiles.listing import tile_items
from monai_ext.phantoms.aerial import write_aerial_phantoms
from monai_ext.runtime.errors import explain
from monai_ext.transforms.pairs import ToUnitRanged


def test_every_exact_answer_reduces_to_its_image_as_pillow_and_the_operator_see_it(built):
    answers = read_lines(built / "answers.jsonl")
    for record in read_lines(built / "records.jsonl"):
        low_res, high_res = rows(built, record)
        assert low_res.shape == (3, 16, 16) and high_res.shape[1:] == (3, 64, 64) and high_res.dtype == np.uint8
        told = [answer for answer in answers if answer["record"] == record["record"]]
        for answer, image in zip(told, high_res, strict=True):
            if answer["kind"] == "capture":
                continue
            again = DEGRADATION(torch.from_numpy(image / 255.0)[None])[0].clamp(0, 1) * 255
            error = (again.numpy() - low_res).astype(float)
            psnr = 10 * math.log10(255**2 / max((error**2).mean(), 1e-9))
            assert psnr >= 50 and abs(min(psnr, 100) - answer["lr_psnr"]) < 1e-3
            assert abs(abs(error).max() - answer["lr_max"]) < 1e-3
            assert (again.round().numpy() != low_res).sum() == answer["lr_differing"]
            if record["tile_id"] == "phantom_0006":
                continue  # Pillow cuts overshoot off between the axes too
            shrunk = np.asarray(Image.fromarray(image.transpose(1, 2, 0)).resize((16, 16), Image.Resampling.BICUBIC))
            assert abs(shrunk.transpose(2, 0, 1).astype(int) - low_res).max() <= 2  # and rounds there


def test_answers_of_ordinary_scenes_agree_to_the_last_level(built):
    stark = {r["record"] for r in read_lines(built / "records.jsonl") if r["tile_id"] == "phantom_0006"}
    ordinary = [a for a in read_lines(built / "answers.jsonl") if a["record"] not in stark and a["kind"] != "capture"]
    assert ordinary and all(answer["lr_differing"] == 0 and answer["lr_max"] <= 0.5 for answer in ordinary)


def test_the_first_answer_is_the_turned_window_of_its_tile_and_the_others_are_not(built, tiles):
    records = read_lines(built / "records.jsonl")
    assert [record["turn"] for record in records] == [0] * 8 + [1] * 2
    for record in records:
        _, high_res = rows(built, record)
        tile = np.asarray(Image.open(tiles / f"{record['tile_id']}.png"))
        assert np.array_equal(high_res[0].transpose(1, 2, 0), np.rot90(tile, record["turn"]))
        exact = high_res[: record["answers"]].astype(float)
        wanted = [
            math.sqrt(((high_res[i].astype(float) - high_res[j]) ** 2).mean())
            for i in range(len(high_res))
            for j in range(i + 1, len(high_res))
        ]
        assert np.allclose(wanted, record["distance_rms"], atol=1e-4)
        assert len({image.tobytes() for image in exact}) == record["answers"]


def test_kinds_come_in_turn_and_captures_join_where_there_are_other_dates(built):
    by_record: dict[str, list] = {}
    for answer in read_lines(built / "answers.jsonl"):
        by_record.setdefault(answer["record"], []).append(answer)
    records = {record["record"]: record for record in read_lines(built / "records.jsonl")}
    tiles = json.loads((built / "index.json").read_text())["tiles"]
    dated = 0
    for name, answers in by_record.items():
        kinds = [answer["kind"] for answer in answers]
        assert kinds[:4] == ["original", "texture", "mined", "texture"]
        if records[name]["tile_id"].endswith("0000"):
            dated += 1
            assert kinds[4:] == ["capture"] and answers[4]["lr_psnr"] < 40 < answers[4]["lr_psnr_fitted"]
            (other,) = answers[4]["tiles"]
            assert {tiles[other]["id"], records[name]["tile_id"]} == {"phantom_0000", "2019_phantom_0000"}
        else:
            assert len(kinds) == 4
    assert dated >= 2


def test_nothing_is_borrowed_from_the_own_ground_or_across_parts(built):
    tiles = json.loads((built / "index.json").read_text())["tiles"]
    records = {record["record"]: record for record in read_lines(built / "records.jsonl")}
    borrowing = [a for a in read_lines(built / "answers.jsonl") if a["kind"] in ("texture", "mined") and a["tiles"]]
    assert borrowing
    for answer in borrowing:
        own = tiles[records[answer["record"]]["tile"]]
        for donor in answer["tiles"]:
            assert tiles[donor]["footprint"] != own["footprint"] and tiles[donor]["part"] == own["part"]
    parts: dict[str, set] = {}
    for tile in tiles:
        parts.setdefault(tile["place"], set()).add(tile["part"])
    assert all(len(part) == 1 for part in parts.values())
    assert {part for own in parts.values() for part in own} == {"train", "test"}


def test_a_build_is_the_same_to_the_byte_in_three_threads(built, tiles, tmp_path):
    build(tiles, tmp_path / "again", jobs=3)
    assert contents(tmp_path / "again") == contents(built)


def test_another_seed_makes_other_answers(built, tiles, tmp_path):
    build(tiles, tmp_path, records=2, settings=replace(SETTINGS, seed=1))
    first = read_lines(tmp_path / "records.jsonl")[0]
    same = [r for r in read_lines(built / "records.jsonl") if (r["tile_id"], r["turn"]) == (first["tile_id"], 0)]
    assert not np.array_equal(rows(tmp_path, first)[1][1], rows(built, same[0])[1][1])


def test_a_longer_set_begins_with_a_shorter_one_and_keeps_its_whole_shards(built, tiles, tmp_path, monkeypatch):
    shutil.copytree(built, tmp_path / "longer")
    made = []
    record = building._Build.record
    monkeypatch.setattr(building._Build, "record", lambda self, number: made.append(number) or record(self, number))
    build(tiles, tmp_path / "longer", records=13)
    assert made == list(range(8, 13))
    before, after = contents(built), contents(tmp_path / "longer")
    assert all(after[name] == before[name] for name in before if re.search(r"shards/0000[01]", name))
    lines = [before[name].splitlines() for name in ("records.jsonl", "answers.jsonl")]
    assert after["records.jsonl"].splitlines()[:10] == lines[0] and after["answers.jsonl"].startswith(
        before["answers.jsonl"]
    )


def build_and_hang(tiles, output):
    """In a process of its own: the second shard never ends."""
    record = building._Build.record
    building._Build.record = lambda self, number: time.sleep(600 if number == 6 else 0) or record(self, number)
    build(tiles, output)


def test_a_killed_build_is_finished_to_the_same_bytes(built, tiles, tmp_path):
    output = tmp_path / "killed"
    process = multiprocessing.get_context("fork").Process(target=build_and_hang, args=(tiles, output))
    process.start()
    try:
        deadline = time.monotonic() + 120
        while not (output / "shards" / "00000.json").is_file():
            assert process.is_alive() and time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        process.kill()  # SIGKILL: nothing is tidied up
        process.join()
    assert not (output / "index.json").exists()
    with pytest.raises(ManyHrError, match="no index.json in .*run its build again"):
        many_hr_items(output)
    kept = (output / "shards" / "00000.high_res.npy").stat().st_mtime_ns
    build(tiles, output)
    assert (output / "shards" / "00000.high_res.npy").stat().st_mtime_ns == kept
    assert {name: data for name, data in contents(output).items() if "/." not in name} == contents(built)


def test_items_are_chosen_by_part_kind_number_and_gap(built):
    every = many_hr_items(built)
    assert len(every) == 10 and {kind for item in every for kind in item["kinds"]} == {"original", "texture", "mined"}
    parts = [many_hr_items(built, part=part) for part in ("training", "test")]
    assert sorted(item["id"] for part in parts for item in part) == [item["id"] for item in every]
    assert not {item["place"] for item in parts[0]} & {item["place"] for item in parts[1]}
    captures = many_hr_items(built, kinds=["capture"])
    assert all(item["kinds"] == ["capture"] for item in captures) and 2 <= len(captures) < 10
    assert not [item for item in many_hr_items(built, targets=2) if item["kinds"] != ["original", "texture"]]
    closer = many_hr_items(built, min_lr_psnr=65)
    assert closer and not any("original" in item["kinds"] for item in closer)  # it differs by the rounding
    with pytest.raises(ManyHrError, match="relax these choices"):
        many_hr_items(built, targets=9)
    with pytest.raises(ValueError, match="part='train' is unknown: choose from training, validation, test"):
        many_hr_items(built, part="train")
    with pytest.raises(ValueError, match="kind guessed is unknown"):
        many_hr_items(built, kinds=["guessed"])


def test_records_and_pairs_go_into_device_batches(built):
    record = ManyHighResDataset(built, targets=4, transform=ToUnitRanged(["image", "label"]))[3]
    assert record["label"].shape == (4, 3, 64, 64) and record["label"].dtype == torch.float32
    low_res, high_res = rows(built, read_lines(built / "records.jsonl")[3])
    assert np.array_equal((record["label"] * 255).round().numpy(), high_res[:4])
    pairs = many_hr_pairs(built, part="training")
    assert [pair["id"] for pair in pairs[:2]] == [f"{pairs[0]['id'][:6]}_{row}" for row in (0, 1)]
    dataset = DeviceDataset(pairs, DecodeManyHighResd(), num_workers=0, progress=False)
    batch = next(iter(DeviceLoader(dataset, 8)))
    assert batch["label"].shape == (8, 3, 64, 64) and batch["image"].dtype == torch.uint8
    reduced = DEGRADATION(batch["label"].double() / 255).clamp(0, 1) * 255
    assert (reduced - batch["image"]).abs().max() < 1


def numbered_tiles(folder, numbers):
    write_aerial_phantoms(folder, count=len(numbers), size=(32, 32))
    for file, number in zip(sorted(folder.glob("phantom_*.png")), numbers, strict=True):
        file.rename(folder / f"tile_{number}.png")
    return folder


@pytest.mark.parametrize("others", [range(8, 14), ()], ids=["among_others", "alone"])
def test_numbers_that_look_like_years_make_no_captures(tmp_path, caplog, others):
    folder = numbered_tiles(tmp_path / "tiles", [*others, *range(1998, 2010)])
    options = "--records 4 --targets 3 --size 32 --captures 9 --validation_fraction 0".split()
    assert main(["many_hr", "build", "--tiles", str(folder), "--output_dir", str(tmp_path / "set"), *options]) == 0
    index = json.loads((tmp_path / "set" / "index.json").read_text())
    assert index["kinds"] == {"original": 4, "texture": 4, "mined": 4}
    assert [(tile["footprint"], tile["date"]) for tile in index["tiles"]] == [(t["id"], "") for t in index["tiles"]]
    warned = [message for message in caplog.messages if "tile (12 tiles" in message and "--dates" in message]
    assert len(warned) == (0 if others else 1)


def test_years_of_one_place_alone_name_it_and_the_table_of_dates(tmp_path, caplog):
    folder = numbered_tiles(tmp_path / "tiles", [1998])
    pixels = np.asarray(Image.open(folder / "tile_1998.png"))
    for year in (1999, 2000):
        Image.fromarray(pixels // 2 + year % 100).save(folder / f"tile_{year}.png")
    settings = replace(SETTINGS, size=32, test_fraction=0)
    with pytest.raises(ValueError, match=r"train shows one place alone, tile \(3 tile.*by --dates CSV") as caught:
        build(folder, tmp_path / "set", settings=settings)
    assert explain(caught.value)
    table = tmp_path / "dates.csv"
    table.write_text("file,footprint,date\n")  # as the document says: no tile has another date
    options = ["--dates", str(table), "--records", "2", "--targets", "2", "--size", "32", "--test_fraction", "0"]
    options += ["--validation_fraction", "0", "--output_dir", str(tmp_path / "set")]
    assert main(["many_hr", "build", "--tiles", str(folder), *options]) == 0
    assert "capture" not in json.loads((tmp_path / "set" / "index.json").read_text())["kinds"]


def test_a_part_without_a_place_names_the_way_out(tiles, caplog):
    items = [{**item, "place": "x0 y0"} for item in tile_items(tiles)]
    assert {tile["part"] for tile in ManyHrPlan(items, SETTINGS).tiles} == {"train"}
    (warning,) = caplog.messages
    assert "all 8 tiles left show one place" in warning and "there is no part test" in warning
    assert "fetch a larger --bbox" in warning and "a lower --block" in warning


def test_real_tiles_make_exact_answers(real_data, tmp_path):
    folder = real_data / "aerial"
    if not folder.is_dir():
        pytest.skip("MONAI_EXT_DATA has no folder aerial")
    items = [item for item in tile_items(folder) if "SJER_00" in item["id"]]
    settings = ManyHrSettings(targets=3, patches=2000, test_fraction=0, validation_fraction=0)
    index = build_many_hr(
        items, tmp_path, degradation=DEGRADATION, records=2, settings=settings
    )  # fmt: skip
    report = check_many_hr(tmp_path)
    assert not report.problems and index.kinds["capture"] == 2
    assert min(report.lowest_psnr[kind] for kind in ("original", "texture", "mined")) >= 50

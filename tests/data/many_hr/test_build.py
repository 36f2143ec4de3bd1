"""One low-resolution image, many high-resolution ones: exactness, byte identity, resuming, reading, checking."""

from __future__ import annotations

import hashlib
import json
import math
import multiprocessing
import re
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from many_hr import DEGRADATION, SETTINGS, build, contents, write_tiles
from PIL import Image

from monai_ext.__main__ import main
from monai_ext.commands.datasets.many_hr import NetworkSampler
from monai_ext.data import DeviceDataset, DeviceLoader
from monai_ext.data.many_hr import build as building
from monai_ext.data.many_hr.build import build_many_hr
from monai_ext.data.many_hr.check import check_many_hr
from monai_ext.data.many_hr.dataset import DecodeManyHighResd, ManyHighResDataset, many_hr_items, many_hr_pairs
from monai_ext.data.many_hr.format import ManyHrError
from monai_ext.data.many_hr.plan import ManyHrPlan, ManyHrSettings
from monai_ext.data.tiles.listing import tile_items
from monai_ext.networks.srresnet import SRResNet
from monai_ext.phantoms.aerial import write_aerial_phantoms
from monai_ext.runtime.errors import explain
from monai_ext.transforms.degradation import Degradation
from monai_ext.transforms.pairs import ToUnitRanged

DOCUMENT = Path(__file__).parents[3] / "docs" / "many_hr.md"


@pytest.fixture(scope="module")
def tiles(tmp_path_factory):
    return write_tiles(tmp_path_factory.mktemp("tiles"))


@pytest.fixture(scope="module")
def built(tiles, tmp_path_factory):
    folder = tmp_path_factory.mktemp("built") / "set"
    build(tiles, folder)
    return folder


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def rows(folder, record):
    stem = folder / "shards" / f"{record['shard']:05d}"
    first, count = record["high_res_row"], record["answers"] + record["captures"]
    low_res = np.load(f"{stem}.low_res.npy")[record["low_res_row"]]
    return low_res, np.load(f"{stem}.high_res.npy")[first : first + count]


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


def test_a_damaged_shard_is_found_and_made_again(built, tiles, tmp_path):
    folder = tmp_path / "set"
    shutil.copytree(built, folder)
    assert check_many_hr(folder, progress=False).problems == []
    path = folder / "shards" / "00001.high_res.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    (folder / "shards" / "00002.low_res.npy").unlink()
    problems = check_many_hr(folder, progress=False).problems
    assert len(problems) == 2 and "00001.high_res.npy is not the file" in problems[0] and "missing" in problems[1]
    with pytest.raises(ManyHrError, match=r"not whole, 2 problem\(s\)"):
        main(["many_hr", "check", str(folder)])
    build(tiles, folder)
    assert contents(folder) == contents(built)


def test_a_table_that_says_too_much_is_found(built, tmp_path):
    folder = tmp_path / "set"
    shutil.copytree(built, folder)
    lines = read_lines(folder / "answers.jsonl")
    lines[1]["lr_psnr"] += 1
    (folder / "answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    index = json.loads((folder / "index.json").read_text())
    data = (folder / "answers.jsonl").read_bytes()
    index["files"]["answers.jsonl"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "index.json").write_text(json.dumps(index))
    (problem,) = check_many_hr(folder, progress=False).problems
    assert problem.startswith("record 000000, row 1: the gap is")


def test_the_card_and_the_document_read_it_with_numpy_alone(built):
    for page in (built / "README.md", DOCUMENT):
        code = re.search(r"```python\n(import json\n.*?)```", page.read_text(encoding="utf-8"), re.DOTALL).group(1)
        assert "monai" not in code and "torch" not in code
        namespace: dict = {}
        exec(compile(code.replace('folder = "."', f"folder = {str(built)!r}"), str(page), "exec"), namespace)
        assert namespace["high_res"].shape == (4, 3, 64, 64)


def test_the_documents_data_sets_are_read(built):
    code = re.search(r"```python\n(from monai_ext.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL).group(1)
    namespace: dict = {}
    code = code.replace('"many_hr"', repr(str(built))).replace("targets=8", "targets=4")
    exec(compile(code, str(DOCUMENT), "exec"), namespace)
    assert namespace["records"][0]["label"].shape == (4, 3, 64, 64) and len(namespace["pairs"]) > 0


def test_croissant_names_every_array_with_its_checksum_and_columns_that_exist(built):
    described = json.loads((built / "croissant.json").read_text())
    assert described["conformsTo"].endswith("croissant/1.0") and described["@type"] == "sc:Dataset"
    objects = {entry["@id"]: entry for entry in described["distribution"]}
    for path in built.glob("shards/*.npy"):
        name = path.relative_to(built).as_posix()
        assert objects[name]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    for record_set in described["recordSet"]:
        (table,) = {field["source"]["fileObject"]["@id"] for field in record_set["field"]}
        columns = {field["source"]["extract"]["column"] for field in record_set["field"]}
        assert columns == set().union(*read_lines(built / table)), table
        for field in record_set["field"]:
            line = read_lines(built / field["source"]["fileObject"]["@id"])[0]
            assert field["source"]["fileObject"]["@id"] in objects and field["source"]["extract"]["column"] in line


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


class Drawing(torch.nn.Module):
    """A network with samples: noise."""

    def sample(self, low_res, n, *, generator):
        size = (len(low_res), n, low_res.shape[1], *(4 * side for side in low_res.shape[2:]))
        return torch.rand(size, generator=generator)


STEADY = SRResNet(features=4, blocks=1, norm=None, residual=True)  # begins as plain interpolation


@pytest.mark.parametrize("network", [Drawing(), STEADY], ids=["samples", "deterministic"])
def test_a_networks_answers_are_exact_and_differ(tiles, tmp_path, network):
    settings = replace(SETTINGS, kinds=("sampled",), targets=3)
    index = build(tiles, tmp_path, records=2, settings=settings, sampler=NetworkSampler(network, "abc"))
    assert index.kinds == {"original": 2, "sampled": 4} and index.model == "abc"
    answers = [answer for answer in read_lines(tmp_path / "answers.jsonl") if answer["kind"] == "sampled"]
    assert all(answer["lr_psnr"] > 50 for answer in answers)
    assert check_many_hr(tmp_path, progress=False).nearest > 0.2
    with pytest.raises(ManyHrError, match="other settings, tiles or weights"):
        build(tiles, tmp_path, records=2, settings=settings, sampler=NetworkSampler(network, "other"))


def test_a_network_of_another_scale_is_refused(tiles, tmp_path):
    sampler = NetworkSampler(SRResNet(features=4, blocks=1, scale=2), "")
    with pytest.raises(ValueError, match=r"makes \(1, 3, 32, 32\) of \(1, 3, 16, 16\), not \(1, 3, 64, 64\)"):
        build(tiles, tmp_path, records=1, settings=replace(SETTINGS, kinds=("sampled",)), sampler=sampler)


def test_errors_name_the_way_out(tiles, tmp_path):
    with pytest.raises(ValueError, match="65 records are more than the tiles allow, 64"):
        build(tiles, tmp_path, records=65)
    with pytest.raises(ValueError, match="none of the 8 tiles has 256 x 256 pixels: choose a smaller size"):
        build(tiles, tmp_path, settings=replace(SETTINGS, size=256))
    with pytest.raises(ValueError, match="kinds capture make no targets that agree exactly"):
        build(tiles, tmp_path, settings=replace(SETTINGS, kinds=("capture",)))
    with pytest.raises(ValueError, match=r"the part test shows one place alone, \w+ \(1 tile.*--test_fraction"):
        build(tiles, tmp_path, settings=replace(SETTINGS, test_fraction=0.1))
    with pytest.raises(ValueError, match="targets=1 must be at least 2"):
        replace(SETTINGS, targets=1)
    with pytest.raises(ValueError, match="the operator draws noise"):
        build_many_hr(tile_items(tiles), tmp_path, degradation=Degradation(4, noise=0.1), settings=SETTINGS)
    assert not list(tmp_path.rglob("*.npy"))


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


def test_help_says_that_sampled_needs_a_model(capsys):
    with pytest.raises(SystemExit):
        main(["many_hr", "build", "--help"])
    assert "sampled only with --bundle" in " ".join(capsys.readouterr().out.split())


def test_the_command_builds_checks_and_shows(tiles, tmp_path, capsys):
    output = tmp_path / "set"
    options = "--records 3 --targets 3 --size 32 --scale 2 --kinds texture mined --licence CC0-1.0"
    options += " --test_fraction 0 --validation_fraction 0"
    assert main(["many_hr", "build", "--tiles", str(tiles), "--output_dir", str(output), *options.split()]) == 0
    assert "3 records, 9 images (3 original, 3 texture, 3 mined)" in capsys.readouterr().err
    assert "Licence: CC0-1.0" in (output / "README.md").read_text()
    assert main(["many_hr", "check", str(output)]) == 0
    assert "all files and measures agree with the records" in capsys.readouterr().err
    assert main(["many_hr", "show", str(output), "--records", "000001"]) == 0
    with Image.open(output / "contact_sheet.png") as sheet:
        assert sheet.size == (5 * 36 - 4, 32 + 14)
        first = np.asarray(sheet)[14:, 36:68]
    assert np.array_equal(first.transpose(2, 0, 1), rows(output, read_lines(output / "records.jsonl")[1])[1][0])
    with pytest.raises(ValueError, match="record 000009 is not in") as caught:
        main(["many_hr", "show", str(output), "--records", "000009"])
    assert explain(caught.value)


def test_real_tiles_make_exact_answers(real_data, tmp_path):
    folder = real_data / "aerial"
    if not folder.is_dir():
        pytest.skip("MONAI_EXT_DATA has no folder aerial")
    items = [item for item in tile_items(folder) if "SJER_00" in item["id"]]
    settings = ManyHrSettings(targets=3, patches=2000, test_fraction=0, validation_fraction=0)
    index = build_many_hr(
        items, tmp_path, degradation=DEGRADATION, records=2, settings=settings, progress=False
    )  # fmt: skip
    report = check_many_hr(tmp_path, progress=False)
    assert not report.problems and index.kinds["capture"] == 2
    assert min(report.lowest_psnr[kind] for kind in ("original", "texture", "mined")) >= 50

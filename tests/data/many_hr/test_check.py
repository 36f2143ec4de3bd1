"""Damaged data sets are found."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest
from many_hr import build, contents
from many_hr_sets import read_lines

from monai_ext.__main__ import main
from monai_ext.data.many_hr.check import check_many_hr
from monai_ext.data.many_hr.format import ManyHrError
from monai_ext.storage.records import read_record


def test_a_damaged_shard_is_found_and_made_again(built, tiles, tmp_path):
    folder = tmp_path / "set"
    shutil.copytree(built, folder)
    assert check_many_hr(folder).problems == []
    path = folder / "shards" / "00001.high_res.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    (folder / "shards" / "00002.low_res.npy").unlink()
    problems = check_many_hr(folder).problems
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
    index = read_record(folder / "index.json", dict)
    data = (folder / "answers.jsonl").read_bytes()
    index["files"]["answers.jsonl"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "index.json").write_text(json.dumps(index))
    (problem,) = check_many_hr(folder).problems
    assert problem.startswith("record 000000, row 1: the gap is")

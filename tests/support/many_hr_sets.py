"""Small data sets of one low resolution and many high resolutions."""

from __future__ import annotations

import json

import numpy as np


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def rows(folder, record):
    stem = folder / "shards" / f"{record['shard']:05d}"
    first, count = record["high_res_row"], record["answers"] + record["captures"]
    low_res = np.load(f"{stem}.low_res.npy")[record["low_res_row"]]
    return low_res, np.load(f"{stem}.high_res.npy")[first : first + count]

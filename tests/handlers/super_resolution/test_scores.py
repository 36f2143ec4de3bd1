"""Tables of test tiles: the network beside interpolation."""

from __future__ import annotations

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ignite.engine import Engine

from monai_ext.handlers.super_resolution.scores import (
    MeanSuperResolutionScores,
    SuperResolutionTable,
    gain_by_place,
    places_of,
)
from monai_ext.transforms.degradation import Degradation
from monai_ext.transforms.interpolation import interpolate

IDS = ["b", "a", "c"]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A network that answers with bicubic interpolation, but with the original of tile b; in two batches."""
    folder = tmp_path_factory.mktemp("table")
    high = torch.randint(256, (3, 3, 16, 16), generator=torch.Generator().manual_seed(0)) / 255
    low = Degradation(2)(high)
    answers = interpolate(low, 2, method="bicubic")
    answers[0] = high[0]
    batches = [
        {"id": IDS[part], "image": low[part], "label": high[part], "pred": answers[part]}
        for part in (slice(0, 2), slice(2, 3))
    ]
    engine = Engine(lambda engine, batch: batch)
    engine.data_loader = SimpleNamespace(dataset=SimpleNamespace(ids=IDS))
    items = [{"id": "a", "place": "p"}, {"id": "b", "place": "p"}, {"id": "c"}]
    SuperResolutionTable(folder, {"scale": 2}, items=items, shown=2).attach(engine)
    engine.run(batches)
    return folder


def test_the_table_has_a_row_for_each_tile_and_method_in_the_order_of_ids(written):
    with (written / "tiles.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["id"], row["place"], row["method"]) for row in rows[:4]] == [
        ("a", "p", method) for method in ("nearest", "bicubic", "lanczos", "network")
    ]
    of = {(row["id"], row["method"]): float(row["psnr"]) for row in rows}
    assert len(rows) == 12 and of["a", "network"] == of["a", "bicubic"] and of["b", "network"] > 100
    assert (written / "triplets.png").stat().st_size > 1000


def test_the_summary_caps_tiles_without_error_and_counts_the_better_ones(written):
    summary = json.loads((written / "summary.json").read_text())
    assert (summary["tiles"], summary["places"]) == (3, 2)
    assert summary["scores"]["network"]["psnr"]["highest"] == 100
    gain = summary["gain_over_bicubic"]["psnr"]
    assert gain["better"] == pytest.approx(1 / 3) and gain["mean"] > 10
    assert gain["places"]["c"] == {"tiles": 1, "mean": 0} and gain["places"]["p"]["tiles"] == 2
    assert gain["places"]["p"]["mean"] == pytest.approx(1.5 * gain["mean"])  # the other tile of the three gains nothing
    assert gain["mean_of_places"] == pytest.approx(0.75 * gain["mean"])


def test_intervals_draw_whole_places_so_that_many_tiles_of_one_add_no_certainty():
    of_one = gain_by_place(np.array([1.0, 3.0]), ["p", "q"])
    of_many = gain_by_place(np.repeat([1.0, 3.0], 50), 50 * ["p"] + 50 * ["q"])
    assert of_one["interval"] == of_many["interval"] == of_many["interval_of_places"] == [1, 3]
    uneven = gain_by_place(np.array([1.0, 1, 1, 5]), ["p", "p", "p", "q"])
    assert (uneven["mean"], uneven["mean_of_places"]) == (2, 3)
    assert uneven["places"] == {"p": {"tiles": 3, "mean": 1}, "q": {"tiles": 1, "mean": 5}}


def test_statistics_of_one_tile_have_no_spread():
    found = SuperResolutionTable.statistics({"ssim": np.array([0.5])})["ssim"]
    assert found == {"mean": 0.5, "median": 0.5, "sd": 0.0, "lowest": 0.5, "highest": 0.5}


def test_methods_of_one_name_and_unknown_scores_are_refused(tmp_path):
    with pytest.raises(ValueError, match="bicubic: each needs a name of its own"):
        SuperResolutionTable(tmp_path, {"scale": 2}, name="bicubic")
    with pytest.raises(ValueError, match="key='dice' is not a score"):
        MeanSuperResolutionScores("dice", scale=2)


def test_places_are_those_of_items_that_have_one():
    assert places_of([{"id": "a", "place": "p"}, {"id": "b", "place": ""}, {"id": "c"}]) == {"a": "p"}
    assert places_of(None) == {}

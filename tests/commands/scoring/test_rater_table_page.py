"""Tables and figure of methods for several raters."""

from __future__ import annotations

from pathlib import Path

import pytest

from monai_ext.commands.html import Table, Text
from monai_ext.commands.scoring.rater_table_page import MethodRow, MethodTable, Pair, table_blocks, table_figure
from monai_ext.commands.scoring.records import Interval, Statistic

KNOWN, UNKNOWN = Interval(mean=0.75, low=0.7, high=0.8, cases=4), Interval(mean=None, low=None, high=None, cases=0)


@pytest.fixture
def table() -> MethodTable:
    methods = [
        MethodRow(
            method=name,
            runs=1,
            seeds=1,
            sd_over_seeds=None,
            parameters=1234,
            epochs=None,
            training_minutes=minutes,
            diversity_of_raters=None,
            too_diverse=False,
        )
        for name, minutes in (("holistic", 1.5), ("combined", None))
    ]
    return MethodTable(
        cases=4, group=None, samples=16, raters=[1], settings={"task": 1, "part": None}, methods=methods,
        scores={"qubiq_score": [KNOWN, UNKNOWN], "dice_rater01": [KNOWN, KNOWN]}, first_in_qubiq_score=[1.0, None],
        against_best={"qubiq_score": []},
        pairs=[Pair(mean=None, low=None, high=None, cases=0, first="holistic", second="combined", p_holm=None,
                    rank_biserial=None, claimed=False, by_seed=[])],
        rater_row={"qubiq_score": Statistic(mean=0.9, cases=4)}, rater_row_cases=4, published=[], notes=["a note"],
        conventions={"threshold": "0.5"},
    )  # fmt: skip


def test_what_is_not_known_is_a_dash(table):
    blocks = table_blocks(table, Path("scores.png"))
    scores, raters, pairs = (block for block in blocks if isinstance(block, Table))
    assert scores.header == ("Method", "QUBIQ score ↑", "Parameters", "Minutes", "Epochs", "Seeds", "Cases")
    assert [row[1:] for row in scores.rows] == [
        ("0.750\n(0.700-0.800)", "1,234", "1.5", "-", "1", "4"), ("-", "1,234", "-", "-", "1", "0"),
        ("0.900", "-", "-", "-", "-", "4"),
    ]  # fmt: skip
    assert raters.header == ("Method", "Rater 1") and pairs.rows[0][1:] == ("-", "-", "-", "-", "no", "-")
    lines = [line for block in blocks if isinstance(block, Text) for line in block.lines]
    assert "The same for all: task 1." in lines[0] and "a note" in lines and lines[-1] == "threshold: 0.5"


def test_the_figure_has_an_interval_for_each_known_score_and_a_line_for_the_raters(table):
    qubiq, energy, _ = table_figure(table).axes
    assert [list(line.get_xdata()) for line in qubiq.lines] == [[0.7, 0.8], [0.75], [0.9, 0.9]]
    assert not energy.lines and qubiq.get_title() == "QUBIQ score (higher is better)"

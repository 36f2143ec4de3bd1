"""The page of a challenge's tasks."""

from __future__ import annotations

from pathlib import Path

from monai_ext.commands.challenge.table import TaskResult, challenge_blocks
from monai_ext.commands.html import Table, Text


def test_the_mean_is_over_the_tasks_that_were_scored():
    results = [
        TaskResult(name="a", raters=[1], scored_on="x", method="heads", cases=2, scores={"qubiq_score": 0.8}),
        TaskResult(name="b", raters=[1], scored_on="x", method="heads", cases=3, minutes=1.25,
                   scores={"qubiq_score": 0.6, "dice": 0.5}),
        TaskResult(name="c", raters=[1], scored_on="x", failed="evaluation"),
    ]  # fmt: skip
    _, table, text = challenge_blocks(results, Path("out"), 5)
    assert isinstance(table, Table) and isinstance(text, Text)
    assert table.rows[-1][:5] == ("mean of tasks", "", "", "0.700", "0.500") and table.rows[-1][-3] == "5"
    assert table.rows[1][-1] == "1.2" and table.rows[2][2:4] == ("evaluation failed", "-")
    assert text.lines == ("c: the step evaluation failed", "submission: 5 maps of the predicted share of raters in out")
    assert len(challenge_blocks(results[:1], None, 0)[1].rows) == 1

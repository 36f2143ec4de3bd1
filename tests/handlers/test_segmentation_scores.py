"""The table of cases."""

from __future__ import annotations

import pytest
import torch
from training_engines import engine, item, read

from monai_ext.handlers import (
    CaseTable,
)


def test_case_table_scores_each_case_and_names_its_group(tmp_path):
    truth = torch.zeros(1, 4, 6)
    truth[..., :3] = 1
    outputs = [
        {"pred": truth * 0.9, "label": truth},
        {"pred": 1 - truth, "label": truth},
    ]
    evaluator = engine(outputs, [item("b"), item("a")], length=1)
    CaseTable(tmp_path / "cases.csv", groups={"a": "g1", "b": "g1"}).attach(evaluator)
    evaluator.run_engine()
    table = read(tmp_path / "cases.csv")
    assert [(row["hd95"], row["surface_dice"]) for row in table][1] == ("0.000000", "1.000000")
    assert float(table[0]["hd95"]) >= 1 and float(table[0]["assd"]) >= 1
    assert [(row["id"], row["group"], float(row["dice"])) for row in table] == [("a", "g1", 0.0), ("b", "g1", 1.0)]


def test_a_case_whose_prediction_holds_nan_is_refused_and_no_table_written(tmp_path):
    truth = torch.zeros(1, 4, 6)
    outputs = [{"pred": truth.clone(), "label": truth}, {"pred": truth.clone(), "label": truth}]
    outputs[1]["pred"][0, 2, 3] = torch.nan
    evaluator = engine(outputs, [item("b"), item("a")], length=1)
    CaseTable(tmp_path / "cases.csv").attach(evaluator)
    with pytest.raises(ValueError, match="the prediction for a holds NaN"):
        evaluator.run_engine()
    assert not (tmp_path / "cases.csv").exists()

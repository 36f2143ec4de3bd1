"""What the pages of all demos share."""

from __future__ import annotations

import json

import numpy as np
import pytest

from monai_ext.commands.demo.page import DemoRun, Panel, command_blocks, read_training, stage_curves
from monai_ext.commands.html import Command


def test_a_training_is_read_back_with_its_evaluation_where_there_is_one(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"settings": {"scale": 4}, "started": "now"}))
    (tmp_path / "epochs.csv").write_text("epoch,val_psnr\n1,20.5\n")
    assert read_training(tmp_path) == ({"scale": 4}, [{"epoch": "1", "val_psnr": "20.5"}], {})
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation" / "summary.json").write_text('{"tiles": 3}')
    assert read_training(tmp_path).summary == {"tiles": 3}
    (tmp_path / "epochs.csv").write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"epochs.csv.*remove the demo's folder and run it again"):
        read_training(tmp_path)


def test_curves_leave_out_epochs_without_a_value_and_mark_the_second_stage():
    epochs = [{"epoch": "1", "a": "2", "b": ""}, {"epoch": "2", "a": "1", "b": ""}, {"epoch": "3", "a": "", "b": ""}]
    left, right = stage_curves(epochs, [Panel("a", "A", "red"), Panel("b", "B", "blue")], pretrain_epochs=2).axes
    curve, border = left.lines
    np.testing.assert_array_equal(curve.get_xydata(), [[1, 2], [2, 1]])
    assert border.get_xdata()[0] == 2.5 and left.get_ylabel() == "A" and len(right.lines) == 1


def test_every_step_is_shown_with_its_command_and_time(tmp_path):
    run = DemoRun(
        tmp_path, tmp_path, {"training": "python a", "inference": "python b"}, {"training": 9.6, "inference": 1}
    )
    commands = [
        (block.caption, block.line) for block in command_blocks(run, results="there") if isinstance(block, Command)
    ]
    assert commands[:2] == [("training, 10 s", "python a"), ("inference, 1 s", "python b")]
    assert str(tmp_path / "training" / "tensorboard") in commands[2][1]

"""TensorBoard's writer in several processes."""

from __future__ import annotations

from monai_ext.handlers import (
    MainProcessWriter,
)


def test_writer_of_another_process_makes_no_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("monai_ext.handlers.training.tensorboard.is_main_process", lambda: False)
    writer = MainProcessWriter(tmp_path / "tb")
    writer.add_scalar("x", 1.0, 1)
    writer.flush(), writer.close()
    assert not (tmp_path / "tb").exists()

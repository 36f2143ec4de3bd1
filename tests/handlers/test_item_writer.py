"""Writers of items count what they wrote."""

from __future__ import annotations

import logging

import torch
from ignite.engine import Engine

from monai_ext.handlers.item_writer import ItemWriter


class Twice(ItemWriter):
    def write(self, engine):
        self.written += 2


def test_every_batch_is_written_and_the_last_line_counts(tmp_path, caplog):
    engine, writer = (
        Engine(lambda engine, batch: {"pred": torch.zeros(1, 1), "id": ["a"]}),
        Twice(tmp_path, what="{} pictures"),
    )
    writer.attach(engine)
    with caplog.at_level(logging.INFO):
        engine.run(range(3))
    assert writer.written == 6 and f"wrote 6 pictures to '{tmp_path}'" in caplog.text

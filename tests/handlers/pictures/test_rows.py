"""Rows of pictures: the first items, of one size, every so many epochs."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from ignite.engine import Engine

from monai_ext.handlers.pictures.rows import PictureRows


class Squares(PictureRows):
    TAG = "squares"

    def collect(self, engine, wanted):
        for side in engine.state.output[:wanted]:
            self.add([np.full((side, side, 3), 7, np.uint8)])


def test_the_first_items_of_one_size_are_shown_in_every_second_epoch(monkeypatch):
    monkeypatch.setattr(PictureRows, "LEAST", 1)
    shown = []
    writer = SimpleNamespace(add_image=lambda tag, grid, step, dataformats: shown.append((tag, step, grid.shape)))
    engine = Engine(lambda engine, batch: batch)
    Squares(writer, count=3, interval=2).attach(engine)
    engine.run([[4, 5], [4, 4, 4]], max_epochs=4)  # of another size: passed over
    assert shown == [("squares", 2, (3 * 4 + 2 * 4, 4, 3)), ("squares", 4, (20, 4, 3))]

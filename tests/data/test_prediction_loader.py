"""Batches to predict without what cannot be read."""

from __future__ import annotations

import logging

import pytest
import torch
from ignite.engine import Events
from monai.data import Dataset

from monai_ext.data import DecodeError, PredictionLoader
from monai_ext.engines import BatchEvaluator
from monai_ext.raster.images import ImageFileError, read_image


class Reader:
    """Item i -> the number i; those of `broken` raise what reading a file that is no image raises."""

    def __init__(self, broken, folder):
        self.broken, self.folder = broken, folder

    def __call__(self, item):
        if item["n"] in self.broken:
            path = self.folder / f"{item['n']}.png"
            path.write_bytes(b"no image")
            read_image(path)
        return {"image": torch.full((1, 4, 4), float(item["n"]))}


def loader(broken, folder, *, count=5, **options):
    return PredictionLoader(Dataset([{"n": n} for n in range(count)], Reader(broken, folder)), **options)


def numbers(batches):
    return [batch["image"][:, 0, 0, 0].int().tolist() for batch in batches]


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize(
    ("broken", "batches"),
    [
        ([], [[0, 1], [2, 3], [4]]),
        ([1], [[0], [2, 3], [4]]),
        ([0, 1], [[2, 3], [4]]),
        ([2, 3], [[0, 1], [4]]),
        ([4], [[0, 1], [2, 3]]),
        ([0, 1, 2, 3, 4], []),
    ],
)
def test_what_cannot_be_read_is_left_out_of_its_batch(broken, batches, num_workers, tmp_path):
    made = loader(broken, tmp_path, batch_size=2, num_workers=num_workers)
    for _ in range(2):  # a second iteration begins anew
        assert numbers(made) == batches
        if broken:
            with pytest.raises(DecodeError) as told:
                made.refuse_unread()
            assert all(f"{n}.png" in str(told.value) for n in broken[:3])
        else:
            made.refuse_unread()


def test_the_sentence_counts_and_names(tmp_path, caplog):
    made = loader([1, 3], tmp_path, batch_size=2)
    with caplog.at_level(logging.WARNING):
        list(made)
    assert [record.message for record in caplog.records if "1.png" in record.message] == [
        f"{refusal(tmp_path / '1.png')} It is left out."
    ]
    with pytest.raises(DecodeError, match=r"^3 of 5 images are predicted, 2 cannot be read: .*1\.png.*3\.png"):
        made.refuse_unread()
    alone = loader([0], tmp_path, count=1, batch_size=2)
    list(alone)
    with pytest.raises(DecodeError) as told:
        alone.refuse_unread()
    assert str(told.value) == refusal(tmp_path / "0.png")
    none = loader(range(5), tmp_path, batch_size=2)
    list(none)
    with pytest.raises(DecodeError, match=r"^none of the 5 images can be read: .*0\.png.* and 2 more$"):
        none.refuse_unread()


def refusal(path) -> str:
    with pytest.raises(ImageFileError) as refused:
        read_image(path)
    return str(refused.value)


def test_a_defect_is_no_unreadable_image():
    def defect(item):
        raise KeyError("n")

    with pytest.raises(RuntimeError, match="applying transform"):
        list(PredictionLoader(Dataset([{"n": 0}], defect), batch_size=1))


@pytest.mark.parametrize(
    ("broken", "seen"), [([0], [1, 2, 3, 4]), ([2], [0, 1, 3, 4]), ([4], [0, 1, 2, 3]), (range(5), [])]
)
def test_an_evaluator_sees_every_readable_image_once(broken, seen, tmp_path):
    made = loader(broken, tmp_path, batch_size=1)
    evaluator = BatchEvaluator(torch.device("cpu"), made, torch.nn.Identity(), precision="fp32")
    given = []
    evaluator.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: given.extend(engine.state.output["image"][:, 0, 0, 0].int().tolist())
    )
    evaluator.run()
    assert given == seen

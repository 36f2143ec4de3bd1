"""A training of a few seconds with all that a bundle's training saves, and what it leaves."""

from __future__ import annotations

from pathlib import Path

import torch
from bundle_runs import rows
from monai.handlers import ValidationHandler
from torch import Tensor, nn

from monai_ext.data import DeviceDataset
from monai_ext.engines import BatchEvaluator, BatchTrainer
from monai_ext.handlers import (
    BestCheckpoint,
    EpochTable,
    FinalCheckpoint,
    MeanSegmentationScores,
    ResumeHandler,
    load_checkpoint,
)

CPU = torch.device("cpu")
EPOCHS = 3


class DrawnBatches:
    """Three batches that depend on the epoch told and on nothing else."""

    def __init__(self):
        self.epoch = 0

    def __len__(self) -> int:
        return 3

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self):
        generator = torch.Generator().manual_seed(self.epoch)
        for _ in range(3):
            image = torch.rand(4, 1, 8, 8, generator=generator)
            yield {"image": image, "label": (image > 0.5).float()}


def shown(folder: Path) -> dict[str, Path]:
    """Files under a final name."""
    return {path.name: path for path in folder.iterdir() if not path.name.startswith(".")} if folder.exists() else {}


def train_tiny(folder: Path) -> None:
    """A run of three epochs with all that a bundle's run saves, started as a comparison starts it: to be resumed."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.3), nn.Conv2d(4, 1, 1))
    optimizer = torch.optim.Adam(network.parameters(), 0.05)
    evaluator = BatchEvaluator(
        CPU,
        DrawnBatches(),
        network,
        key_val_metric={"val_mean_dice": MeanSegmentationScores(threshold=0)},
        val_handlers=[BestCheckpoint(network, folder / "model.pt")],
    )
    parts = {"network": network, "optimizer": optimizer}
    handlers = [
        ValidationHandler(1, evaluator),
        EpochTable(folder / "epochs.csv", optimizer=optimizer, evaluator=evaluator),
        ResumeHandler(folder / "last.pt", parts, evaluator=evaluator, resume=True),
        FinalCheckpoint(network, folder / "final.pt"),
    ]
    loss = nn.BCEWithLogitsLoss()
    BatchTrainer(CPU, EPOCHS, DrawnBatches(), network, optimizer, loss, train_handlers=handlers).run()


def result(folder: Path) -> dict[str, object]:
    """What a finished run left, without times; all files, hidden ones as well."""
    table = [{key: text for key, text in row.items() if key != "seconds"} for row in rows(folder / "epochs.csv")]
    weights = {name: load_checkpoint(folder / name) for name in ("model.pt", "final.pt")}
    return {"names": sorted(path.name for path in folder.iterdir()), "table": table, **weights}


def assert_equal_results(one: dict, other: dict) -> None:
    assert one["names"] == other["names"] and one["table"] == other["table"]
    for name in ("model.pt", "final.pt"):
        for key, value in other[name].items():
            assert torch.equal(value, one[name][key]), (name, key)


def epoch_kept(folder: Path) -> int:
    """The epoch that a run would go on from; every checkpoint under a final name must be whole."""
    epochs = [0]
    for name, path in shown(folder).items():
        if path.suffix == ".pt":
            epochs.append(load_checkpoint(path).get("epoch", 0))
        elif name == "epochs.csv":
            assert all(None not in row and None not in row.values() for row in rows(path))
    return max(epochs)


class Draw:
    """Stands for a decoder: 4096 bytes for each item."""

    def __call__(self, item: dict) -> dict:
        return {"image": torch.full((1, 64, 64), item["level"], dtype=torch.uint8)}


def start_with_cache(folder: Path) -> Tensor:
    items = [{"id": str(level), "level": level} for level in range(8)]
    return DeviceDataset(items, Draw(), cache_dir=folder, num_workers=0).batch(range(8))["image"]

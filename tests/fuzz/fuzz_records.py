"""Records, tables, weights and bundles that commands read: whole ones, what reads them, and how they are mutated."""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from fuzz_targets import Target
from mutations import (
    Mutator,
    mutate_bytes,
    mutate_csv,
    mutate_head,
    mutate_json,
    mutate_json_lines,
    mutate_zip_record,
)

from monai_ext.commands.bundles import reproduce
from monai_ext.commands.bundles.inspection import inspect_bundle, inspection_text
from monai_ext.commands.bundles.network import load_bundle_network
from monai_ext.commands.bundles.pack import pack_bundle
from monai_ext.commands.challenge import qubiq
from monai_ext.commands.demo.page import read_training
from monai_ext.commands.scoring import rater_table
from monai_ext.commands.scoring.published import read_published
from monai_ext.commands.scoring.rater_row import rater_row
from monai_ext.commands.uncertainty.report import read_run
from monai_ext.data.many_hr.captures import add_captures
from monai_ext.data.many_hr.check import check_many_hr
from monai_ext.data.many_hr.dataset import DecodeManyHighResd, many_hr_items
from monai_ext.data.many_hr.format import (
    OPERATOR_FILE,
    RECORD_FILE,
    TARGET_FILE,
    Index,
    RecordLine,
    TargetLine,
    read_shard,
    shard_files,
    write_index,
    write_shard,
    write_tables,
)
from monai_ext.data.points import read_points
from monai_ext.data.run_cases import RunCases
from monai_ext.data.tiles.pixel_scale import PixelScale, keep_scale, scale_beside
from monai_ext.handlers.training.records import EpochTable
from monai_ext.handlers.training.stages import StageCheckpoints
from monai_ext.metrics.conformal import Calibration, read_calibration, write_calibration
from monai_ext.networks.backbones import read_weights
from monai_ext.phantoms.folder import claim_folder
from monai_ext.storage.locks import FolderLock

JSON: tuple[Mutator, ...] = (mutate_bytes, mutate_json, mutate_json)
CSV: tuple[Mutator, ...] = (mutate_bytes, mutate_csv, mutate_csv)


def written(path: Path, content: str | bytes | dict) -> Path:
    """`path`, with that content; a mapping as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = json.dumps(content) if isinstance(content, dict) else content
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def target(path: Path, calls: list, mutators: tuple[Mutator, ...]) -> Target:
    return Target(path, [path.read_bytes()], calls, mutators)


def run_targets(folder: Path) -> Iterator[Target]:
    """What trainings, calibrations and evaluations leave, and what reads it later."""
    settings = {"method": "holistic", "batch_size": 4, "task": 1, "noise": 0.1, "scale": 4}
    summary = {"settings": settings, "parameters": 9, "samples": 4, "raters": [1, 2], "conventions": {"dice": "0/0"}}
    run = folder / "run"
    evaluation = run / "evaluation"
    columns = ("qubiq_score", "dice_rater01", "dice_rater02", "generalized_energy_distance")
    lines = [",".join(["id", *columns]), *(f"case{i},0.5,0.6,0.7,{i / 9}" for i in range(4))]
    written(evaluation / "summary.json", summary)
    written(evaluation / "cases.csv", "\n".join(lines) + "\n")
    written(run / "epochs.csv", "epoch,train_loss,seconds\n1,0.5,3\n2,0.4,2.5\n3,0.3,\n")
    cases = {"training": {"a": "0a"}, "validation": {f"case{i}": f"{i:02x}" for i in range(4)}}
    begun = {"file": "w.pt", "sha256": "00", "training": {"b": "0b"}}
    written(run / "run.json", {"settings": settings, "cases": cases, "init_weights": begun})
    scored = {"cases": cases["validation"], "origin": "a part", "weights": {str(run / "final.pt"): "00"}}
    written(evaluation / "evaluation.json", scored)
    raters = {
        name: {"raters": {"mean": 0.5, "low": 0.4, "high": None, "cases": 4}} for name in (columns[0], columns[-1])
    }
    predicted = {"probability": True, "raters": [1, 2], "samples": []}
    task = {"task": 1, "scored": 4, "predicted": predicted, "scores": raters}
    written(folder / "scores.json", {"settings": {"estimator": "V"}, "tasks": [task]})
    steps = written(folder / "steps.json", json.dumps([["-m", "monai.bundle", "run"]]))
    figures = folder / "published.csv"
    written(figures, "method,source,protocol,dice\nPHiSeg,a paper,100 samples,0.5\n")
    written(run / "best.json", {"pretrained": {"epoch": 1, "score": "val_psnr", "value": 20.5}})
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1)
    stages = StageCheckpoints(torch.nn.Linear(1, 1), run, pretrain_epochs=2)
    table = EpochTable(run / "epochs.csv", optimizer=optimizer)

    def methods() -> None:
        (method,) = rater_table.read_methods([run])
        assert not any(math.isinf(value) for row in method.rows.values() for value in row.values())

    def divided() -> None:
        RunCases(run).divide([{"id": "case0"}, {"id": "a"}])
        RunCases(run).check([{"id": "case0"}])

    def ceiling() -> None:
        rater_row(folder / "scores.json", task=1, samples=4, cases=4)

    for path, calls, mutators in (
        (evaluation / "summary.json", [methods, lambda: read_training(run)], JSON),
        (evaluation / "cases.csv", [methods], CSV),
        (run / "epochs.csv", [methods, lambda: read_training(run), lambda: table._rows_before(3)], CSV),
        (run / "run.json", [methods, divided, lambda: read_training(run)], JSON),
        (evaluation / "evaluation.json", [methods], JSON),
        (run / "best.json", [lambda: stages._before(3)], JSON),
        (folder / "scores.json", [ceiling], JSON),
        (figures, [lambda: read_published(figures)], CSV),
        (steps, [lambda: qubiq._completed(steps)], JSON),
    ):
        yield target(path, calls, mutators)

    kinds = ("total_sd", "aleatoric_sd", "ambiguity_sd", "epistemic_sd")
    tiles = [",".join(["id", "group", *kinds]), "a,seen,0.5,0.1,0.2,0.3", "b,test,0.5,0.1,0.2,0.4"]
    report = folder / "calibrated" / "uncertainty"
    path = written(report / "summary.json", {"settings": settings})
    yield target(path, [lambda: read_run(folder / "calibrated")], JSON)
    written(report / "tiles.csv", "\n".join(tiles) + "\n")
    yield target(report / "tiles.csv", [lambda: read_run(folder / "calibrated")], CSV)

    path = folder / "calibration.json"
    write_calibration(Calibration("rcps", 0.1, 0.1, (2.0, 1.5, 1.0), images=40, coverage=(0.9, 0.9, 0.9)), path)
    image = torch.full((1, 3, 2, 2), 0.5)

    def calibrated() -> None:
        calibration = read_calibration(path)
        if len(calibration.multiplier) == 3:
            low, high = calibration.apply(image, image**2)
            assert (low <= high).all()

    yield target(path, [calibrated], JSON)
    points, listed = folder / "points.csv", folder / "points.json"
    written(points, "id,row,column,slice\ncase1,3,4.5,2\ncase2,0,1,0\n")
    yield target(points, [lambda: read_points(points)], CSV)
    written(listed, {"case1": [3, 4.5], "case2": [0, 1]})
    yield target(listed, [lambda: read_points(listed)], JSON)
    keep_scale(folder, PixelScale("int16", -20.0, 3000.0, nodata=-9999.0))
    yield target(folder / "pixel_scale.json", [lambda: scale_beside(folder / "model.pt")], JSON)


def reproduce_targets(folder: Path) -> Iterator[Target]:
    config = written(
        folder / "configs" / "train.json", {"output_dir": "out", "dataset_dir": "configs", "resume": False}
    )
    record = {
        "seed": 0,
        "data": {"train": {"items": 1}},
        "versions": {"torch": "2", "python": "3"},
        "git": {"revision": "a", "changed": False},
        "environment": {"threads": 1, "cuda": None, "variables": {"OMP_NUM_THREADS": "1", "WORLD_SIZE": "2"}},
        "origin": {
            "command": ["python"],
            "folder": str(folder),
            "options": {"config_file": [str(config)], "run_id": "run", "meta_file": "metadata.json"},
            "config": json.loads(config.read_text()),
        },
    }
    path = written(folder / "run.json", record)

    def repeated() -> None:
        read = reproduce.read_run(folder)
        assert all(isinstance(sentence, str) for sentence in reproduce.differences(read))
        try:
            assert reproduce.plan_repetition(read, folder / "again").typed()
        except (FileNotFoundError, reproduce.ReproduceError):
            pass  # they name the folder of the record, which is mutated

    yield target(path, [repeated, lambda: reproduce.outcome(folder, folder)], JSON)


def many_hr_targets(folder: Path) -> Iterator[Target]:
    low_res = torch.arange(24, dtype=torch.uint8).reshape(2, 3, 2, 2)
    high_res = torch.arange(4 * 3 * 16).to(torch.uint8).reshape(4, 3, 4, 4)
    records = [
        RecordLine(
            record=f"{i:06d}", operator="x", part="train", place="p", tile=0, tile_id="t", date="", top=0, left=0,
            turn=0, targets=2, captures=0, distance_rms=[1.5], shard=0, low_res_row=i, high_res_row=2 * i,
        )
        for i in range(2)
    ]  # fmt: skip
    targets = [
        TargetLine(
            record=f"{i // 2:06d}", kind="texture", seed=i, lr_max=1.0, lr_psnr=60.0, lr_differing=0,
            lr_psnr_before=None, lr_psnr_fitted=None, borrowed=0.0, agreement=None, tiles=[0], shard=0, row=i,
        )
        for i in range(4)
    ]  # fmt: skip
    data = folder / "many_hr"
    arrays = {"low_res": low_res, "high_res": high_res, "records": records, "targets": targets}
    write_shard(data, 0, fingerprint="f", **arrays)
    write_tables(data, records, targets)
    np.save(data / OPERATOR_FILE, np.kron(np.eye(2), np.full((1, 2), 0.5)))
    names = shard_files(0)
    index = Index(records=2, targets=4, files={})
    write_index(data, index, [*names.values(), RECORD_FILE, TARGET_FILE, OPERATOR_FILE])

    def pixels() -> None:
        decode = DecodeManyHighResd()
        for item in many_hr_items(data):
            decode(item)

    def checked() -> None:
        assert all(isinstance(problem, str) for problem in check_many_hr(data).problems)

    lines = (mutate_bytes, mutate_json_lines, mutate_json_lines)
    array = (mutate_bytes, mutate_head)
    for name, calls, mutators in (
        ("index.json", [pixels, checked], JSON),
        (RECORD_FILE, [pixels, checked], lines),
        (TARGET_FILE, [pixels, checked], lines),
        (OPERATOR_FILE, [checked], array),
        (names["low_res"], [pixels, checked], array),
        (names["high_res"], [pixels, checked], array),
        (names["lines"], [lambda: read_shard(data, 0, fingerprint="f")], JSON),
    ):
        yield target(data / name, calls, mutators)
    dates = written(folder / "dates.csv", "file,footprint,date\na.png,here,2020\nb.png,there,2021\n")
    items = [{"id": name, "image": str(folder / f"{name}.png")} for name in "ab"]
    yield target(dates, [lambda: add_captures(items, dates)], CSV)


def bundle_targets(folder: Path) -> Iterator[Target]:
    bundle = folder / "bundle"
    network = torch.nn.Conv2d(1, 2, 3)
    weights = io.BytesIO()
    torch.save(network.state_dict(), weights)
    network_def = {"_target_": "torch.nn.Conv2d", "in_channels": 1, "out_channels": 2, "kernel_size": 3}
    train = {
        "imports": ["$import os", "$from torch import nn"], "network_def": network_def,
        "run": ["$print(@a)", "$os.path.join('a', 'b')"], "a": "%train.json::b", "b": [1, {"c": "$@a + 1"}],
    }  # fmt: skip
    large = {"path": "models/big.pt", "url": "https://x.org/y", "hash_val": "0" * 64, "hash_type": "sha256"}
    logging = "[loggers]\nkeys=root\n[handlers]\nkeys=h\n[formatters]\nkeys=f\n[logger_root]\nhandlers=h\n"
    files = {
        "LICENSE": "all", "docs/README.md": "# card", "configs/metadata.json": '{"name": "b", "version": "1"}',
        "configs/train.json": json.dumps(train), "configs/inference.json": json.dumps({"network_def": network_def}),
        "configs/logging.conf": logging, "models/model.pt": weights.getvalue(),
        "large_files.json": json.dumps({"large_files": [large]}),
    }  # fmt: skip
    for name, content in files.items():
        written(bundle / name, content)

    def inspected(path: Path = bundle) -> None:
        text = inspection_text(inspect_bundle(path), "a")
        assert all(character.isprintable() or character == "\n" for character in text)

    def packed() -> None:
        pack_bundle(bundle, folder / "written" / "a")

    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        for name, content in files.items():
            archive.writestr(f"bundle/{name}", content)
    path = written(folder / "bundle.zip", whole.getvalue())
    yield target(path, [lambda: inspected(folder / "bundle.zip")], (mutate_bytes, mutate_zip_record, mutate_zip_record))
    for name in ("configs/train.json", "configs/metadata.json", "large_files.json"):
        yield target(bundle / name, [inspected, packed], JSON)
    yield target(bundle / "configs/logging.conf", [inspected], (mutate_bytes,))
    model = bundle / "models" / "model.pt"
    calls = [inspected, packed, lambda: load_bundle_network(bundle)[0], lambda: read_weights(model)]
    yield target(model, calls, (mutate_bytes, mutate_zip_record, mutate_zip_record))


def small_targets(folder: Path) -> Iterator[Target]:
    """Files of one line or two."""
    lock = folder / "locked" / ".run.lock"

    def taken() -> None:
        own = FolderLock(lock.parent)
        own.acquire()
        own.release()

    written(lock, "process 1 on elsewhere\n")
    yield target(lock, [taken], (mutate_bytes,))
    claim_folder(folder, {"size": [4, 4], "seed": 0}, count=1)
    claim = [lambda: claim_folder(folder, {"size": [4, 4], "seed": 0}, count=1)]
    yield target(folder / "phantoms.json", claim, (mutate_bytes, mutate_json))

"""Hostile bundles: each would run something, and none passes `inspect --strict`; harmless ones pass and run nothing."""

from __future__ import annotations

import json
import warnings
import zipfile
from pathlib import Path

import pytest
from hostile_bundles import FILES, RUNNING, ZIPS, hostile_bundle, run_bundle, write_files

from monai_ext.commands.bundles.inspection import InspectOptions, inspect_bundle, inspection_text, run


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize("name", RUNNING)
def test_a_config_that_runs_something_is_marked(name, tmp_path, monkeypatch):
    mark = tmp_path / "mark"
    root = hostile_bundle(tmp_path / "b", name, str(mark))
    found = inspect_bundle(root)
    assert any("configs/train.json" in warning for warning in found.warnings()), inspection_text(found, "b")
    assert not mark.exists()
    monkeypatch.chdir(tmp_path)
    run_bundle(root)
    assert mark.exists()  # it would have


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_could_run_something_is_marked(name, tmp_path):
    mark = tmp_path / "mark"
    root = write_files(tmp_path / "b", {"configs/train.json": '{"a": 1}', **FILES[name](str(mark))})
    assert inspect_bundle(root).warnings() and not mark.exists()


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ZIPS)
def test_a_zip_that_means_harm_is_marked(name, tmp_path):
    path = tmp_path / "b.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("b/configs/train.json", '{"a": 1}')
        for member, mode, text in ZIPS[name]:
            info = zipfile.ZipInfo(member)
            info.external_attr = mode << 16
            archive.writestr(info, text, zipfile.ZIP_DEFLATED)
    assert inspect_bundle(path).warnings()


def test_a_zip_of_several_disks_is_refused_in_a_sentence(tmp_path):
    path = tmp_path / "b.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("b/configs/train.json", "{}")
    content = path.read_bytes()
    end = content.rindex(b"PK\5\6")
    locator = b"PK\6\7" + (1).to_bytes(4, "little") + end.to_bytes(8, "little") + (3).to_bytes(4, "little")
    path.write_bytes(content[:end] + locator + content[end:])
    with pytest.raises(ValueError, match="is a damaged zip: .*multiple disks"):
        inspect_bundle(path)


HARMLESS = {
    "imports": ["$import glob", "$import os", "$import torch.distributed as dist", "$from pathlib import Path"],
    "root": ".",
    "files": "$sorted(glob.glob(os.path.join(@root, 'images', '*.nii.gz')))",
    "items": "$[{'image': i, 'label': i.replace('image', 'label')} for i in @files if not os.path.basename(i) == 'x']",
    "parts": "$monai.data.partition_dataset(@items + [1, 2, 3], (2, 1), shuffle=True, seed=0)",
    "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
    "when": "$f\"{len(@files):03d} files\"",
    "net": {"_target_": "UNet", "spatial_dims": 2, "in_channels": 1, "out_channels": "@classes", "channels": [4, 8],
            "strides": [2], "_desc_": "see os.path, a.py", "_mode_": "default", "_disabled_": "$@classes < 1"},
    "classes": 2,
    "network": "$@net.to(@device)",
    "optimizer": {"_target_": "torch.optim.Adam", "params": "$@network.parameters()", "lr": 0.1, "_requires_": "@net"},
    "before": [{"_target_": "LoadImaged", "keys": ["image"], "reader": "NibabelReader", "image_only": True}],
    "after": {
        "_target_": "monai.transforms.Compose",
        "transforms": [
            {"_target_": "Activationsd", "keys": "pred", "softmax": True},
            {"_target_": "Lambdad", "keys": "pred", "func": "$lambda x, c=@classes: x[1:] * c"},
            {"_target_": "SaveImaged", "keys": "pred", "output_dir": "../out", "output_ext": ".nii.gz"},
        ],
    },
    "again": "%before",
    "saved": {"final_filename": "last.pth", "compile_kwargs": {"mode": "reduce-overhead", "fullgraph": True}},
    "near": {"one": 1, "two": "$@#one + @##classes"},
    "size": "$max(1, int(np.ceil(3 / 2)), *[2])",
    "metric": {"_target_": "MeanDice", "output_transform": "$monai.handlers.from_engine(['pred', 'label'])"},
    "rank": "$dist.get_rank() if dist.is_initialized() else 0",
    "home": "$os.environ.get('HOME') or os.environ['HOME']",
    "loaded": "$torch.load(@weights, map_location=@device, weights_only=True) if os.path.exists(@weights) else None",
    "weights": "$str(Path(@root) / 'models' / 'model.pt')",
    "initialize": ["$monai.utils.set_determinism(seed=123)", "$setattr(torch.backends.cudnn, 'benchmark', True)"],
    "train": {"key": "$monai.utils.CommonKeys.IMAGE", "dtype": "$torch.float32", "kind": "$np.uint8"},
}  # fmt: skip


def test_what_usual_bundles_do_passes_and_makes_nothing(tmp_path, monkeypatch):
    root = write_files(tmp_path / "b", {"configs/train.json": json.dumps(HARMLESS)})
    assert inspect_bundle(root).warnings() == []
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    run_bundle(root)
    assert list((tmp_path / "empty").iterdir()) == []


@pytest.mark.parametrize("name", HARMLESS)
def test_a_usual_value_works_as_it_stands(name, tmp_path, monkeypatch):
    from monai.bundle import ConfigParser

    monkeypatch.chdir(tmp_path)
    ConfigParser(json.loads(json.dumps(HARMLESS))).get_parsed_content(name)


def test_arguments_are_shown_whole_and_the_limits_are_said(tmp_path, capsys):
    text = "x" * 2000 + " the end"
    config = {"net": {"_target_": "torch.nn.Linear", "in_features": text, "more": [{"_target_": "torch.nn.ReLU"}]}}
    root = write_files(tmp_path / "b", {"configs/train.json": json.dumps(config)})
    assert run(InspectOptions(Path(root), strict=True)) == 0
    shown = capsys.readouterr().out
    assert f'net#_target_: torch.nn.Linear(in_features="{text}", more=["@net#more#0"])' in shown
    assert "it cannot prove that a bundle is harmless" in shown

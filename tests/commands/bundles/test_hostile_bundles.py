"""Hostile bundles: each would run something, and none passes `inspect --strict`; harmless ones pass and run nothing."""

from __future__ import annotations

import json
import warnings
import zipfile
from pathlib import Path

import pytest
from hostile_bundles import FILES, HARMLESS, RUNNING, ZIPS, hostile_bundle, run_bundle, write_files

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

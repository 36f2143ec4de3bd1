"""What repeats a run, as it stands in its record."""

from __future__ import annotations

import json

import pytest

from monai_ext.handlers.training import provenance

RUN = "/lib/monai/bundle/__main__.py"


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (["run", "--config_file", "a.json", "--fold=2"], {"config_file": "a.json", "fold": 2}),
        (["run", "evaluating", "--resume", "--rate", "1e-3"], {"run_id": "evaluating", "resume": True, "rate": 1e-3}),
        (["run", "--raters", "[1, 2]", "--max-epochs", "3"], {"raters": [1, 2], "max_epochs": 3}),
        (["download", "name"], None),
    ],
)
def test_options_of_a_bundle_run_are_read_as_fire_reads_them(words, options):
    assert provenance.bundle_arguments([RUN, *words]) == options
    assert provenance.bundle_arguments(["/bin/pytest", *words]) is None


def test_configs_are_merged_with_the_options_and_files_that_are_gone_are_none(tmp_path):
    for name, content in (("a", {"rate": 1, "net": {"width": 2}}), ("b", {"rate": 3})):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    options = {"config_file": [str(tmp_path / "a.json"), str(tmp_path / "b.json")], "net#width": 5, "run_id": "run"}
    assert provenance.merged_config(options) == {"rate": 3, "net": {"width": 5}}
    assert provenance.merged_config({"config_file": str(tmp_path / "c.json")}) is None


def test_versions_and_machine_are_plain_values(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("SECRET", "x")
    record = json.loads(json.dumps([provenance.package_versions(), provenance.environment()]))
    assert {"monai", "torch", "python"} <= record[0].keys()
    assert record[1]["variables"]["OMP_NUM_THREADS"] == "7" and "SECRET" not in str(record)


def test_data_without_a_list_of_items_have_no_fingerprint():
    assert provenance.data_of(None) is None

"""What a run records of itself, and `python -m monai_ext reproduce`, which repeats it from that."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import sys
from pathlib import Path

import fire
import pytest
import torch
from bundle_runs import BUNDLES, run_bundle
from monai.bundle import ConfigWorkflow

from monai_ext.commands.bundles import reproduce
from monai_ext.commands.bundles.reproduce import ReproduceError, differences, outcome, plan_repetition, read_run
from monai_ext.data import write_lesion_phantoms
from monai_ext.handlers.training import provenance
from monai_ext.storage.fingerprint import END, WHOLE, fingerprint
from monai_ext.storage.records import read_record, write_record

TRAIN = str(BUNDLES / "lesion_unet" / "configs" / "train.json")
SCRIPT = "/somewhere/monai/bundle/__main__.py"


def files(folder: Path, contents: dict[str, bytes]) -> list[dict[str, str]]:
    """Items of files of these contents."""
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return [{"id": name, "image": str(folder / name)} for name in contents]


def test_a_fingerprint_counts_and_is_the_same_wherever_the_data_lie(tmp_path):
    contents = {"a/x.png": b"123", "b/y.png": b"4567"}
    here, there = (files(tmp_path / name, contents) for name in ("here", "there"))
    mark = fingerprint(here)
    assert {key: mark[key] for key in ("items", "files", "bytes")} == {"items": 2, "files": 2, "bytes": 7}
    assert fingerprint(there) == mark == fingerprint(here[::-1])
    nested = [{"raters": [item["image"] for item in here], "missing": None, "task": 1}, {}]
    assert fingerprint(nested) == mark


def test_a_fingerprint_changes_with_a_byte_a_name_and_a_missing_file(tmp_path):
    contents = {"x": b"123", "y": b"4567"}
    mark = fingerprint(files(tmp_path / "0", contents))["sha256"]
    changed = ({"x": b"124", "y": b"4567"}, {"z": b"123", "y": b"4567"}, {"x": b"123"}, {"x": b"1234", "y": b"567"})
    others = {fingerprint(files(tmp_path / str(i), c))["sha256"] for i, c in enumerate(changed, 1)}
    assert len(others | {mark}) == 5
    assert fingerprint([]) == {"items": 0, "files": 0, "bytes": 0, "sha256": fingerprint([{"id": "no file"}])["sha256"]}


def test_of_a_large_file_size_beginning_and_end_count(tmp_path):
    whole = bytearray(WHOLE + 1000)
    marks = [fingerprint(files(tmp_path / "0", {"x": bytes(whole)}))["sha256"]]
    for number, place in enumerate((0, END - 1, -1, -END), 1):
        content = bytearray(whole)
        content[place] = 1
        marks.append(fingerprint(files(tmp_path / str(number), {"x": bytes(content)}))["sha256"])
    marks.append(fingerprint(files(tmp_path / "9", {"x": bytes(whole[:-1])}))["sha256"])
    assert len(set(marks)) == 6


@pytest.mark.parametrize(
    "words",
    [
        ["--config_file", "a.json", "--lr", "1e-3", "--fold", "3"],
        ["--config_file", "['a.json', 'b.json']", "--train#trainer#max_epochs=4"],
        ["--config_file=a.json", "--resume", "true", "--shift", "-1", "--flag", "--name", "a b"],
        ["evaluate", "--config_file", "a.json", "--sizes", "[72, 96]", "--weights", "None", "--dataset-dir", "x"],
    ],
)
def test_options_are_read_as_fire_reads_them(words):
    def run(run_id=None, **options):
        return ({} if run_id is None else {"run_id": run_id}) | options

    assert provenance.bundle_arguments([SCRIPT, "run", *words]) == fire.Fire(run, command=words, serialize=lambda _: "")


def test_other_programs_have_no_bundle_arguments():
    assert provenance.bundle_arguments(["pytest", "run"]) is None
    assert provenance.bundle_arguments([SCRIPT, "ckpt_export", "--config_file", "a"]) is None
    assert provenance.bundle_arguments([]) is None


def test_the_merged_config_is_the_one_that_monai_runs(tmp_path):
    overlay = tmp_path / "overlay.json"
    overlay.write_text(
        json.dumps({"seed": 5, "train#trainer#precision": "fp32", "+train#handlers": [{"_target_": "a"}]})
    )
    options = {"config_file": [TRAIN, str(overlay)], "fold": 2, "validate#inferer": "@train#inferer"}
    merged = provenance.merged_config(options)
    chosen = {key: value for key, value in options.items() if key != "config_file"}
    parser = ConfigWorkflow(options["config_file"], workflow_type="train", logging_file=False, **chosen).parser
    assert merged == {key: value for key, value in parser.get().items() if key != "_meta_"}
    assert merged["fold"] == 2 and merged["train"]["trainer"]["precision"] == "fp32"
    assert provenance.merged_config({"config_file": str(tmp_path / "none.json")}) is None


def test_the_revision_is_that_of_the_packages_own_checkout_or_none(monkeypatch, tmp_path):
    found = provenance.git_revision()
    assert found is None or (len(found["revision"]) == 40 and isinstance(found["changed"], bool))
    monkeypatch.setattr(provenance.monai_ext, "__file__", str(tmp_path / "site-packages" / "monai_ext" / "__init__.py"))
    assert provenance.git_revision() is None  # installed: an outer repository is not ours


def test_the_environment_holds_no_variables_but_the_listed_ones(monkeypatch):
    monkeypatch.setenv("SOME_SECRET", "x")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    found = provenance.environment()
    assert found["threads"] == torch.get_num_threads() and found["variables"]["OMP_NUM_THREADS"] == "1"
    assert "SOME_SECRET" not in json.dumps(found)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with data and a run that was started, as far as it can tell, by a command typed there."""
    folder = tmp_path_factory.mktemp("project")
    write_lesion_phantoms(folder / "data", count=12, size=(32, 32))
    options = {
        "bundle_root": str(BUNDLES / "lesion_unet"),
        "dataset_dir": "data",
        "output_dir": "run",
        "spatial_size": [32, 32],
        "batch_size": 4,
        "max_epochs": 1,
        "size_stages": [[0, 1]],
        "folds": 3,
    }
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", [SCRIPT, "run", "--config_file", TRAIN, *words])
        run_bundle("lesion_unet", ["train.json"], **{k: v for k, v in options.items() if k != "bundle_root"})
    return folder


def test_a_run_records_all_that_repeats_it(trained):
    record = read_run(trained / "run")
    assert record["status"] == "finished" and record["seed"] == 0
    assert record["origin"]["folder"] == str(trained) and record["origin"]["options"]["max_epochs"] == 1
    assert record["origin"]["config"]["spatial_size"] == [32, 32]
    assert record["data"]["train"]["files"] == 16 and record["data"]["validate"]["files"] == 8
    assert record["versions"]["torch"] == importlib.metadata.version("torch")
    assert {"processor", "threads", "cuda", "variables"} <= set(record["environment"])


def test_a_run_is_repeated_to_the_same_weights(trained, capfd):
    arguments = reproduce.ReproduceOptions(trained / "run")
    assert reproduce.run(arguments) == 0
    told = capfd.readouterr().err
    assert "final weights: the same in every bit" in told and "data: the same" in told and "seed: the same" in told
    repeated = read_run(trained / "run_again")
    assert repeated["best_val_mean_dice"] == read_run(trained / "run")["best_val_mean_dice"]
    again = plan_repetition(read_run(trained / "run"), trained / "run_again")
    assert again.command[-2:] == ("--resume", "true")  # the same command continues


def test_the_plan_names_config_folder_threads_and_launcher(trained, tmp_path):
    record = read_run(trained / "run" / "run.json")
    plan = plan_repetition(record, tmp_path / "new", dataset_dir=trained / "data")
    words = list(plan.command)
    assert words[1:4] == ["-m", "monai.bundle", "run"] and plan.folder == trained
    assert words[words.index("--config_file") + 1] == str(tmp_path / "new" / "reproduced.json")
    assert words[words.index("--dataset_dir") + 1] == str(trained / "data")
    assert words[words.index("--meta_file") + 1].endswith("configs/metadata.json") and "--resume" not in words
    assert plan.variables["OMP_NUM_THREADS"] == str(record["environment"]["threads"])
    assert plan.typed().startswith(f"cd {trained} && OMP_NUM_THREADS=")
    record["environment"]["variables"]["WORLD_SIZE"] = "2"
    record["origin"]["options"]["run_id"] = "pretrain"
    words = plan_repetition(record, tmp_path / "new").command
    assert words[1:5] == ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    assert words[words.index("run") + 1] == "pretrain"


def test_what_is_other_now_is_told(trained):
    record = read_run(trained / "run")
    assert not [sentence for sentence in differences(record) if "version" in sentence or "config" in sentence]
    record["versions"]["torch"] = "1.0"
    record["environment"]["processor"] = "abacus"
    record["git"] = {"revision": "0" * 40, "changed": True}
    record["origin"]["config"]["learning_rate"] = 7
    text = "\n".join(differences(record))
    assert "version of torch was 1.0, is" in text and "environment: processor was abacus" in text
    assert "git revision was 000" in text and "changes that no revision holds" in text
    assert "differ from the recorded one, which is used: learning_rate" in text
    record["origin"]["options"]["config_file"] = "gone.json"
    assert "they are not there any more" in "\n".join(differences(record))


def test_other_weights_and_data_are_told_in_the_outcome(trained, tmp_path):
    for name in ("a", "b"):
        shutil.copytree(trained / "run", tmp_path / name)
    record = read_record(tmp_path / "b" / "run.json", dict)
    record |= {"seed": 3, "best_val_mean_dice": 0.125}
    record["settings"]["learning_rate"] = 0.5
    size, moved = len(record["cases"]["validation"]), next(iter(record["cases"]["validation"]))
    record["cases"]["training"][moved] = record["cases"]["validation"].pop(moved)
    write_record(tmp_path / "b" / "run.json", record)
    state = torch.load(tmp_path / "b" / "final.pt", weights_only=True)
    name = next(name for name, value in state.items() if value.is_floating_point())
    state[name] = state[name].clone(memory_format=torch.contiguous_format)
    state[name].view(-1)[0] += 0.5
    torch.save(state, tmp_path / "b" / "final.pt")
    told = outcome(tmp_path / "a", tmp_path / "b")
    assert "seed: 0, now 3" in told and "final weights: differ by 0.5 at most" in told
    assert any(sentence.startswith("--learning_rate: ") and sentence.endswith(", now 0.5") for sentence in told)
    assert f"validation cases: {size}, now {size - 1}, of which {size - 1} are the same" in told
    assert any(sentence.startswith("best val mean dice: 0.125 (was ") for sentence in told)


@pytest.mark.parametrize("content", ["{", "[]", '{"status": "finished"}', '{"origin": {"config": 1, "folder": "x"}}'])
def test_records_that_do_not_repeat_a_run_are_refused(content, tmp_path):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(ReproduceError, match="run.json'? (is damaged|holds no config|was written before)"):
        read_run(tmp_path)
    (tmp_path / "a.png").touch()
    with pytest.raises(FileNotFoundError, match="no run.json in '.*a.png': give the output_dir of a training"):
        read_run(tmp_path / "a.png")


def test_what_stands_in_the_way_is_told_before_anything_starts(trained, tmp_path):
    with pytest.raises(FileNotFoundError, match="no run.json in"):
        read_run(tmp_path)
    record = read_run(trained / "run")
    with pytest.raises(ReproduceError, match="holds something else: choose another --output_dir"):
        plan_repetition(record, trained / "run")
    record["origin"]["config"]["dataset_dir"] = "moved"
    with pytest.raises(FileNotFoundError, match="name them by --dataset_dir"):
        plan_repetition(record, tmp_path / "new")
    del record["origin"]["config"]["output_dir"]
    with pytest.raises(ReproduceError, match="no output_dir"):
        plan_repetition(record, tmp_path / "new")
    record["origin"]["folder"] = str(tmp_path / "gone")
    with pytest.raises(FileNotFoundError, match="its relative paths need it"):
        plan_repetition(record, tmp_path / "new")


def test_a_dry_run_writes_nothing(trained, capsys):
    before = sorted(trained.iterdir())
    target = trained / "dry"
    arguments = reproduce.ReproduceOptions(trained / "run", output_dir=target, dry_run=True)
    assert reproduce.run(arguments) == 0
    assert sorted(trained.iterdir()) == before and "monai.bundle run" in capsys.readouterr().err

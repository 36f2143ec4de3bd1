"""Short commands become bundle commands; those of the pages are run in tests/pages."""

from __future__ import annotations

import ast
import shlex
from pathlib import Path

import pytest
from bundle_runs import BUNDLES
from layout_trees import LEFT, TREES, mask
from pages import options

from monai_ext.__main__ import main
from monai_ext.commands.bundles import run_commands
from monai_ext.commands.bundles.short_runs import EvaluateOptions, evaluation_command
from monai_ext.commands.upscaling import upscale
from monai_ext.data import lesion_items
from monai_ext.storage.records import write_record

LESIONS = BUNDLES / "lesion_unet"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("data", "2017"):
        (tmp_path / name).mkdir()
    return tmp_path


def dry(capsys: pytest.CaptureFixture, *words: object) -> dict[str, str]:
    """The options of the command that a dry run prints."""
    assert main([*map(str, words), "--dry_run"]) == 0
    line = shlex.split(capsys.readouterr().out)
    assert line[:4] == ["python", "-m", "monai.bundle", "run"]
    return options(line)


def test_train_names_the_bundle_by_its_name_and_passes_settings_on(capsys):
    given = dry(capsys, "train", "lesion_unet", "--max-epochs", "3", "--data", "2017", "--fold=all")
    assert given == {
        "config_file": str(LESIONS / "configs/train.json"), "bundle_root": str(LESIONS), "dataset_dir": "./2017",
        "output_dir": "runs/lesion_unet", "max_epochs": "3", "fold": "all",
    }  # fmt: skip


def test_overlays_are_configs_of_the_bundle_or_files(capsys, here):
    (here / "mine.json").write_text('{"batch_size": 2}')
    given = dry(capsys, "train", LESIONS, "--data", "data", "--overlay", "multi_gpu", "mine.json")
    names = [str(LESIONS / f"configs/{name}.json") for name in ("train", "multi_gpu")]
    assert ast.literal_eval(given["config_file"]) == [*names, "mine.json"]
    with pytest.raises(FileNotFoundError, match="no config 'multigpu': .* has demo, demo_inference, evaluate"):
        main(["train", "lesion_unet", "--data", "data", "--overlay", "multigpu"])


def run_record(folder: Path, **chosen: object) -> None:
    """What a training by `chosen` leaves of its command."""
    options = {"config_file": str(LESIONS / "configs/train.json"), "bundle_root": str(LESIONS), **chosen}
    origin = {"folder": str(Path.cwd()), "options": options, "config": {"bundle_root": ".", "dataset_dir": "data"}}
    write_record(folder / "run.json", {"origin": origin})


def test_evaluate_takes_bundle_data_and_overlays_from_the_run(capsys, here):
    overlay = str(LESIONS / "configs/report.json")
    files = [str(LESIONS / "configs/train.json"), overlay]
    run_record(here / "runs/a", config_file=files, **{"max_epochs": 3, "validate#dataloader#num_workers": 1})
    given = dry(capsys, "evaluate", "runs/a", "--figure_ids", "[]")
    assert ast.literal_eval(given.pop("config_file")) == [*files, str(LESIONS / "configs/evaluate.json")]
    assert given == {
        "bundle_root": str(LESIONS), "dataset_dir": "data", "output_dir": "runs/a", "figure_ids": "[]",
        "validate#dataloader#num_workers": "1",
    }  # fmt: skip
    assert dry(capsys, "evaluate", "runs/a", "--data", "2017")["dataset_dir"] == "./2017"


def test_a_data_set_of_another_layout_is_evaluated_as_a_copy_beside_the_run(capsys, here):
    run_record(here / "runs/a")
    TREES["ph2"](here / "ph2")
    assert dry(capsys, "evaluate", "runs/a", "--data", "ph2")["dataset_dir"] == "runs/a/copies/ph2"
    assert not (here / "runs/a/copies").exists()
    command = evaluation_command(EvaluateOptions(Path("runs/a"), data=Path("ph2"), layout="ph2"))
    assert command[command.index("--dataset_dir") + 1] == "runs/a/copies/ph2"
    assert [item["id"] for item in lesion_items("runs/a/copies/ph2")] == ["IMD002", "IMD003"]
    raters = BUNDLES / "prob_unet"
    run_record(here / "runs/b", bundle_root=str(raters), config_file=str(raters / "configs/train.json"))
    TREES["coco"](here / "coco")
    given = dry(capsys, "evaluate", "runs/b", "--data", "coco")
    assert (given["dataset_dir"], given["evaluation_part"]) == ("runs/b/copies/coco", "Testing")


def test_layout_and_part_are_of_data_that_are_named_and_copied(capsys, here):
    run_record(here / "runs/a")
    for folder in ("images", "masks"):
        mask(here / "plain" / folder / "a.png", LEFT)
    for words, sentence in (
        (["--layout", "ph2"], "--layout and --part are of another data set: name it by --data"),
        (["--data", "plain", "--part", "test"], "--part: plain is read as it is, without parts: leave it out"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(["evaluate", "runs/a", *words])
        assert stopped.value.code == 2 and sentence in capsys.readouterr().err


def test_a_run_whose_bundle_or_data_moved_is_evaluated_with_where_they_are_now(capsys, here):
    run_record(here / "runs/a", config_file="gone/configs/train.json", bundle_root="gone")
    with pytest.raises(FileNotFoundError, match="'gone/configs/train.json' is not there any more: .* by --bundle"):
        main(["evaluate", "runs/a"])
    given = dry(capsys, "evaluate", "runs/a", "--bundle", "lesion_unet")
    assert ast.literal_eval(given["config_file"])[0] == str(LESIONS / "configs/train.json")
    (here / "data").rmdir()
    with pytest.raises(FileNotFoundError, match="the data of the run, 'data', are not there: name them by --data"):
        main(["evaluate", "runs/a", "--bundle", "lesion_unet"])
    with pytest.raises(FileNotFoundError, match="no run.json in 'data'"):
        main(["evaluate", "data"])


def test_predict_runs_the_inference_of_a_segmentation_bundle(capsys, monkeypatch):
    given = dry(capsys, "predict", "prob_unet", "data", "out", "--samples", "4")
    assert given["config_file"] == str(BUNDLES / "prob_unet/configs/inference.json")
    assert (given["dataset_dir"], given["output_dir"], given["samples"]) == ("data", "out", "4")
    ran: list[tuple[str, ...]] = []
    monkeypatch.setattr(run_commands, "run_here", lambda words: ran.append(words) or 0)
    assert main(["predict", "prob_unet", "data", "out"]) == 0
    assert f"python {shlex.join(ran[0])}" in capsys.readouterr().err


def test_predict_upscales_with_a_super_resolution_bundle(capsys, monkeypatch):
    words = ["predict", "srgan_aerial", "data", "out", "--tile", "64"]
    assert main([*words, "--dry_run"]) == 0
    assert capsys.readouterr().out.startswith("python -m monai_ext upscale data out --bundle ")
    ran: list[upscale.UpscaleOptions] = []
    monkeypatch.setattr(upscale, "run", lambda options: ran.append(options) or 0)
    assert main(words) == 0
    assert ran[0].tile == 64 and ran[0].bundle == BUNDLES / "srgan_aerial" and ran[0].paths == ("data", "out")
    assert main(["predict", "srgan_aerial", "https://t.org//a.tif?sig=hidden", "out"]) == 0
    assert ran[1].paths[0] == "https://t.org//a.tif?sig=hidden" and "hidden" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("train lesion_unet --data data --max_epoch 3", "no 'max_epoch' in train.json, did you mean --max_epochs?"),
        ("train lesion_unet --data data --dataset_dir x", "--dataset_dir is --data of this command: leave it out"),
        ("train lesion_unet --data data --resume", "--resume has no value"),
        ("predict lesion_unet data out --overlay x --output_dir y", "--output_dir is the output of this command"),
        ("predict lesion_unet data out --thresholds 0.5", "did you mean --threshold?"),
        ("predict srgan_aerial data out --threshold 0.5", "unknown arguments: --threshold 0.5"),
        ("predict srgan_aerial data out --overlay demo", "takes none"),
    ],
)
def test_wrong_use_is_one_sentence_with_status_2(words, sentence, capsys):
    with pytest.raises(SystemExit) as stop:
        main(words.split())
    printed = capsys.readouterr().err
    assert stop.value.code == 2 and sentence in printed and printed.count("\n") <= 2


def test_what_is_not_there_is_named():
    with pytest.raises(FileNotFoundError, match="there is no 'nowhere'"):
        main(["predict", "lesion_unet", "nowhere", "out"])
    with pytest.raises(FileNotFoundError, match="did you mean lesion_unet"):
        main(["predict", "lesion_nets", "data", "out"])

"""Options that no config knows are refused by name; all that MONAI or a config knows pass."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from monai_ext.runtime.bundle_options import refuse_misread_places, refuse_unknown_options

MONAI = "/somewhere/monai/bundle/__main__.py"
CONFIG = {"overlays": False, "train": {"epochs": 3}, "size": "$@side * 2", "validate#items": "$@items", "limit": "%top"}


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "inference.json"
    path.write_text(json.dumps(CONFIG))
    return path


def refuse(config, *words: str) -> None:
    refuse_unknown_options([MONAI, "run", "--config_file", str(config), *words])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--overlay", "true"), "--overlay: there is no 'overlay' in inference.json, did you mean --overlays?"),
        (("--overlay=true",), "did you mean --overlays?"),
        (
            ("--overlays", "true", "--trian#epochs", "3"),
            "--trian#epochs: .* no 'trian' in inference.json, did you mean --train?",
        ),
        (("--zzz::epochs", "3"), "no 'zzz' in inference.json: choose one of the names at its top"),
        (("--output-dri", "x"), "did you mean --output_dir?"),
    ],
)
def test_a_misspelt_option_is_named_with_the_nearest(config, words, message):
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        refuse(config, *words)


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--overlays", "true", "--train#epochs", "4", "--train::epochs", "5", "--validate#items", "[]"),
        ("--side", "3", "--items", "[]", "--top", "1"),  # referred to in the config
        ("--size", "$@mine + 1", "--mine", "--2"[1:]),  # referred to by another option
        ("--run_id", "run", "--meta_file", "m.json", "--output_dir", "x", "--tracking", "mlflow", "--run_name", "a"),
        ("--_meta_#version", "1"),
        ("--", "--overlay"),
    ],
)
def test_what_the_config_or_monai_knows_passes(config, words):
    refuse(config, *words)


def test_several_configs_know_what_one_of_them_does(config, tmp_path):
    further = tmp_path / "evaluate.yaml"
    further.write_text("threshold: 0.5\n")
    words = [MONAI, "run", "--config_file", f"['{config}', '{further}']", "--threshold", "0.4", "--overlays", "1"]
    refuse_unknown_options(words)
    with pytest.raises(ValueError, match="no 'treshold' in inference.json and evaluate.yaml, did you mean --thres"):
        refuse_unknown_options([*words, "--treshold", "1"])


def test_options_of_the_bundles_other_configs_pass_since_commands_give_all_of_them_to_each(config):
    (config.parent / "evaluate.json").write_text(json.dumps({"single_lesion": True}))
    (config.parent / "broken.json").write_text("{")
    refuse(config, "--single_lesion", "false")
    with pytest.raises(ValueError, match="no 'single_lesions' in inference.json"):
        refuse(config, "--single_lesions", "false")


def test_options_of_an_args_file_are_read_too(config, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    path = tmp_path / "elsewhere" / "args.json"
    path.write_text(json.dumps({"config_file": str(config), "overlays": True}))
    refuse_unknown_options([MONAI, "run", "--args_file", str(path)])
    path.write_text(json.dumps({"config_file": [str(config)], "overlay": True}))
    with pytest.raises(ValueError, match="did you mean --overlays"):
        refuse_unknown_options([MONAI, "run", "--args_file", str(path)])
    path = path.with_suffix(".yaml")
    path.write_text(f"config_file: {config}\noverlay: true\n")
    with pytest.raises(ValueError, match="did you mean --overlays"):
        refuse_unknown_options([MONAI, "run", "--args_file", str(path)])


@pytest.mark.parametrize(
    "arguments",
    [
        ["/somewhere/pytest", "run", "--overlay", "1"],
        [MONAI, "ckpt_export", "--overlay", "1"],
        [MONAI, "run", "--overlay", "1"],  # no config: MONAI tells
        [MONAI, "run", "--config_file", "/none.json", "--overlay", "1"],
        [""],
    ],
)
def test_other_commands_and_configs_that_cannot_be_read_are_left_to_monai(arguments):
    refuse_unknown_options(arguments)


def test_a_run_of_the_lesion_bundle_stops_at_a_misspelt_option(tmp_path):
    words = "-m monai.bundle run --config_file bundles/lesion_unet/configs/inference.json --overlay true".split()
    place = [
        "--bundle_root",
        "bundles/lesion_unet",
        "--dataset_dir",
        str(tmp_path),
        "--output_dir",
        str(tmp_path / "o"),
    ]
    done = subprocess.run([sys.executable, *words, *place], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith(
        "error: --overlay: there is no 'overlay' in inference.json, did you mean --overlays?"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2017", "--dataset_dir 2017 is read as a number, not as a name: write ./2017"),
        ("1e3", "1e3 is read as a number"),
        ("True", "True is read as a truth value, not as a name: write ./True"),
        ("1,2", "1,2 is read as a list of values"),
        ("[a]", "is read as a list of values"),
        ("@home", "@home is read as a reference of the config, not as a name: write ./@home"),
        ("%data", "%data is read as a macro"),
        ("$data", r"\\$data is read as an expression"),
        ("data#1", "MONAI reads # as :: in every text"),
        ("/abs/data#1", "name a link to it"),
    ],
)
def test_names_of_folders_that_monai_reads_otherwise_are_refused_with_the_way_to_write_them(config, text, message):
    with pytest.raises(ValueError, match=message.replace("\\\\", "\\")):
        refuse_misread_places([MONAI, "run", "--config_file", str(config), "--dataset_dir", text])
    if "#" not in text:
        refuse_misread_places([MONAI, "run", "--config_file", str(config), f"--dataset_dir=./{text}"])


def test_references_and_expressions_that_are_meant_pass_unless_a_folder_has_their_name(config, tmp_path, monkeypatch):
    words = ["--output_dir", "@top", "--ckpt_path", "$@output_dir + '/final.pt'", "--cache_dir", "None", "--top", "a#b"]
    refuse_misread_places([MONAI, "run", "--config_file", str(config), *words])
    refuse_misread_places(["prog", "run", "--dataset_dir", "2017"])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "@overlays").mkdir()
    with pytest.raises(ValueError, match="write ./@overlays"):
        refuse_misread_places([MONAI, "run", "--config_file", str(config), "--dataset_dir", "@overlays"])


def test_a_run_in_a_folder_named_by_a_number_ends_in_one_sentence(tmp_path):
    path = tmp_path / "train.json"
    path.write_text(json.dumps({"output_dir": "runs", "run": [
        {"_target_": "monai_ext.runtime.start.start_run", "output_dir": "@output_dir"}]}))  # fmt: skip
    words = (sys.executable, "-m", "monai.bundle", "run", "--config_file", str(path), "--output_dir", "2017")
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.endswith("is read as a number, not as a name: write ./2017\n")

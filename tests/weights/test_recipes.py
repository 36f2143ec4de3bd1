"""Every option of every command of a recipe exists in the configs that it names."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest
from monai.bundle import ConfigParser

from weights.__main__ import main
from weights.recipes import RECIPES
from weights.steps import Step

REPOSITORY = Path(__file__).parents[2]
STEPS = [(name, step) for name, recipe in RECIPES.items() for step in recipe(Path("data"), Path("made"), "imagenet")]


def named(step: Step) -> list[Path]:
    text = step.words[step.words.index("--config_file") + 1]
    return [REPOSITORY / path for path in (ast.literal_eval(text) if text.startswith("[") else [text])]


@pytest.mark.parametrize(("name", "step"), STEPS, ids=[f"{name}: {step.name}" for name, step in STEPS])
def test_commands_name_configs_options_and_modules_that_exist(name, step):
    if "monai.bundle" not in step.words:
        assert hasattr(importlib.import_module(step.words[1]), "main")
        return
    parser = ConfigParser()
    parser.read_config([str(path) for path in named(step)])
    options = {word[2:] for word in step.words if word.startswith("--")} - {"config_file", "standalone"}
    unknown = {option for option in options if parser.get(option) is None and option not in parser.config}
    assert not {option for option in unknown if not option.startswith("nproc_per_node")}


@pytest.mark.parametrize("name", RECIPES)
def test_each_step_uses_what_earlier_ones_make_and_the_last_ones_are_weights(name):
    steps = RECIPES[name](Path("data"), Path("made"), "imagenet")
    made: set[str] = set()
    for step in steps:
        files = {word for word in step.words if word.startswith("made") and word.endswith((".pt", ".npz"))}
        assert {file for file in files if Path(file).name == "final.pt"} <= made
        made.add(str(step.makes))
    assert "made/models/model.pt" in made and len(made) == len(steps)


def test_a_dry_run_prints_the_commands(tmp_path, capsys):
    assert main(["prob_unet", "--data_dir", str(tmp_path), "--output_dir", str(tmp_path / "out"), "--dry_run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == f"python -m weights.slices {tmp_path}/lidc-2d {tmp_path}/out/lidc"
    assert sum(line.startswith("python -m ") for line in lines) == 5 and not (tmp_path / "out").exists()


def test_data_that_are_missing_end_the_run_with_status_1(tmp_path, capfd):
    assert main(["prob_unet", "--data_dir", str(tmp_path), "--output_dir", str(tmp_path / "out")]) == 1
    assert "No such file" in capfd.readouterr().err

"""Commands on every page name files, options and settings that exist; the README's, and its Python, are run."""

from __future__ import annotations

import ast
import json
import re
import runpy
import shlex
import shutil
import sys
from pathlib import Path

import fire
import monai.bundle
import pytest
import torch

from monai_ext.__main__ import COMMANDS, examples, main
from monai_ext.data import write_lesion_phantoms, write_rater_phantoms

REPOSITORY = Path(__file__).parents[1]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "bundles").glob("*/docs/README.md"))]
FURTHER = [REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
RUN = {"monai.bundle", "score", "upscale", "fetch-tiles", "pack", "inspect", "reproduce", "examples"}  # where cheap
CHEAP = '--spatial_size "[32, 32]" --size_stages "[[0, 1]]" --batch_size 4 --max_epochs 1 --scales "[1]"'


def commands(page: Path) -> list[list[str]]:
    """The shell commands in indented or fenced blocks of `page`, continued lines joined."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    start = r"( {4}|\t)?(python -m|python examples/|torchrun) ?"
    lines = [line.strip() for line in text.splitlines() if re.match(start, line)]
    return [shlex.split(line, comments=True) for line in lines]


def options(words: list[str]) -> dict[str, str]:
    return {key[2:]: value for key, value in zip(words, words[1:], strict=False) if key.startswith("--")}


def test_pages_have_commands():
    assert all(commands(page) for page in PAGES)


def name_of(page: Path) -> str:
    return page.parents[1].name if page.parents[2].name == "bundles" else page.name


@pytest.mark.parametrize("page", PAGES + FURTHER, ids=name_of)
def test_bundle_runs_name_existing_configs_and_settings(page):
    for words in commands(page):
        if "monai.bundle" not in words:
            continue
        given = options(words)
        files = given.pop("config_file")
        paths = [REPOSITORY / name for name in (ast.literal_eval(files) if files.startswith("[") else [files])]
        assert all(path.is_file() for path in paths), files
        known = {key for path in paths for key in json.loads(path.read_text(encoding="utf-8"))}
        assert not [key for key in given if re.split("#|::", key)[0] not in known], words


@pytest.fixture
def parsed(monkeypatch) -> dict:
    """What the last of our commands was given; none of them does anything."""
    given: dict = {}
    for command in COMMANDS.values():
        module = f"monai_ext.experiments.{command.module}"
        monkeypatch.setattr(f"{module}.run", lambda args, *_: given.clear() or given.update(vars(args)) or 0)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    return given


@pytest.mark.parametrize("page", PAGES + FURTHER, ids=name_of)
def test_our_own_commands_take_the_options_given(page, parsed):
    for words in commands(page):
        if words[:3] == ["python", "-m", "monai_ext"]:
            assert main(words[3:]) == 0 and parsed["command"] == words[3]


@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_command_has_help_with_examples_that_it_understands(command, parsed, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0 and "usage" in text and f"python -m monai_ext {command} " in text.split("examples:")[1]
    for line in examples(command).replace("\\\n", " ").splitlines():
        assert main(shlex.split(line)[3:]) == 0 and parsed["command"] == command


def test_help_lists_every_command_with_an_example(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert all(examples(name) in text for name in COMMANDS)


def test_an_unknown_option_is_named(capsys):
    with pytest.raises(SystemExit):
        main(["report", "folder", "--colour", "red"])
    assert "--colour" in capsys.readouterr().err


def test_the_python_example_runs(tmp_path, monkeypatch):
    if not (REPOSITORY / "bundles" / "lesion_unet" / "models" / "model.pt").is_file():
        pytest.skip("the bundle ships no weights")
    code = re.search(r"```python\n(.*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL).group(1)
    write_lesion_phantoms(tmp_path, count=22, size=(48, 64))
    monkeypatch.chdir(REPOSITORY)
    namespace: dict = {}
    exec(compile(code.replace('"ISIC2017"', repr(str(tmp_path))), "README.md", "exec"), namespace)
    assert namespace["loss"].isfinite() and isinstance(namespace["trained"], namespace["MobileNetV2UNet"])


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A folder in which the README's placeholders are there, filled with phantoms."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("bundles", "examples"):
        (folder / name).symlink_to(REPOSITORY / name)
    write_lesion_phantoms(folder / "ISIC2017", count=22, size=(32, 40))
    (folder / "PICTURES").mkdir()
    for path in sorted((folder / "ISIC2017" / "images").iterdir())[:2]:
        shutil.copy(path, folder / "PICTURES")
    write_rater_phantoms(folder / "QUBIQ" / "kidney", count=3, size=(32, 32))
    (folder / "QUBIQ" / "kidney" / "Training").rename(folder / "QUBIQ" / "kidney" / "Validation")
    shutil.copytree(folder / "QUBIQ" / "kidney" / "Validation", folder / "predicted")
    for image in (folder / "predicted").rglob("image.nii.gz"):
        image.unlink()
    return folder


def program_of(words: list[str]) -> str:
    """What a command runs: `monai.bundle`, one of our commands, or `examples`."""
    if words[0] != "python":
        return words[0]
    if words[1] != "-m":
        return words[1].partition("/")[0]
    return words[3] if words[2] == "monai_ext" else words[2]


def has_its_input(words: list[str]) -> bool:
    """Whether the phantoms at hand stand for what the command reads."""
    given = {"monai.bundle": options(words).get("dataset_dir", ""), "upscale": words[4] if len(words) > 4 else ""}
    return Path(given.get(program_of(words), ".")).exists()


def run_as_typed(words: list[str], monkeypatch) -> None:
    """Run a command in this process as it would run in one of its own."""
    program = program_of(words)
    if program == "monai.bundle":
        wanted = shlex.split(CHEAP)
        known = {key for name in re.findall(r"[\w/]+\.json", options(words)["config_file"]) for key in read(name)}
        extra = [w for k, v in zip(wanted[::2], wanted[1::2], strict=True) if k[2:] in known for w in (k, v)]
        words = [*("None" if word == "imagenet" else word for word in words), *extra]  # no network in tests
        monkeypatch.setattr(sys, "argv", ["/x/monai/bundle/__main__.py", *words[3:]])
        fire.Fire({"run": monai.bundle.run}, command=words[3:])
    elif program == "examples":
        monkeypatch.setattr(sys, "argv", [*words[1:], "--epochs", "1"])
        runpy.run_path(words[1], run_name="__main__")
    else:
        monkeypatch.setattr(sys, "argv", ["monai_ext", *words[3:]])
        assert main(words[3:]) == 0


def read(path: str) -> dict:
    return json.loads((REPOSITORY / path).read_text(encoding="utf-8"))


def test_the_readmes_commands_run_on_phantoms(project, monkeypatch, capfd):
    monkeypatch.chdir(project)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    done = []
    for words in commands(REPOSITORY / "README.md"):
        if program_of(words) in RUN and has_its_input(words):
            run_as_typed(words, monkeypatch)
            done.append(program_of(words))
    assert done.count("monai.bundle") >= 3 and RUN <= set(done)
    assert len(list((project / "segmented" / "masks").iterdir())) == 2
    weights = torch.load(project / "runs" / "lesion" / "final.pt", weights_only=True)
    assert all(value.isfinite().all() for value in weights.values())
    assert (project / "runs" / "lesion" / "evaluation" / "cases.csv").is_file()
    assert len(list((project / "enlarged").iterdir())) == 2
    assert (project / "predicted" / "scores" / "cases.csv").is_file()
    assert (project / "dist" / "lesion_unet.zip").is_file()
    assert not (project / "runs" / "lesion_again").exists() and not (project / "tiles").exists()
    told = capfd.readouterr()
    assert "tiles at zoom 16" in told.err and "nothing reaches beyond" in told.out
    assert "squared energy distance" in told.out  # examples/in_your_own_project.py

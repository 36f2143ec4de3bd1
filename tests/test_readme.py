"""The README's commands name files, options and settings that exist, and its Python runs."""

from __future__ import annotations

import ast
import json
import re
import shlex
from pathlib import Path

import pytest

from monai_ext.__main__ import main
from monai_ext.data import write_lesion_phantoms

REPOSITORY = Path(__file__).parents[1]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "bundles").glob("*/docs/README.md"))]


def commands(page: Path) -> list[list[str]]:
    """The shell commands in indented or fenced blocks of `page`, continued lines joined."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if re.match(r"( {4}|\t)?(python -m|torchrun) ", line)]
    return [shlex.split(line, comments=True) for line in lines]


def options(words: list[str]) -> dict[str, str]:
    return {key[2:]: value for key, value in zip(words, words[1:], strict=False) if key.startswith("--")}


def test_pages_have_commands():
    assert all(commands(page) for page in PAGES)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.parent.parent.name if p.parent.name == "docs" else p.name)
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


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.parent.parent.name if p.parent.name == "docs" else p.name)
def test_our_own_commands_take_the_options_given(page, monkeypatch):
    parsed: dict = {}
    for name in ("compare", "demo", "fetch_tiles", "report", "score", "upscale"):
        monkeypatch.setattr(f"monai_ext.experiments.{name}.run", lambda args, *_: parsed.update(vars(args)) or 0)
    for words in commands(page):
        if words[:3] == ["python", "-m", "monai_ext"]:
            assert main(words[3:]) == 0 and parsed["command"] == words[3]


@pytest.mark.parametrize("command", ["demo", "compare", "report", "score", "fetch-tiles", "upscale"])
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0 and "usage" in capsys.readouterr().out


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

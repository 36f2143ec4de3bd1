"""What is installed: description, metadata, bundles as data, lower bounds of versions."""

from __future__ import annotations

import configparser
import re
import runpy

from pages import REPOSITORY
from setuptools import Distribution

SETUP = runpy.run_path(str(REPOSITORY / "setup.py"))
OF_A_TARGET = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def test_the_description_has_no_link_and_no_command_that_needs_the_repository():
    text = SETUP["long_description"]("")
    assert text.startswith("# monai_ext") and "monai_ext predict lesion_unet" in text
    assert all(target.startswith("https://") for target in OF_A_TARGET.findall(text))
    assert "![" not in text and "make test" not in text and "<!--" not in text


def test_links_of_the_description_lead_to_the_repository_where_it_has_an_address():
    text = SETUP["long_description"]("https://example.org/code")
    assert "(https://example.org/code/blob/main/bundles/lesion_unet/docs/README.md)" in text
    assert "(https://example.org/code/raw/main/docs/overview.png)" in text
    assert all(target.startswith("https://") for target in OF_A_TARGET.findall(text))


def test_authors_and_address_are_those_of_the_citation(tmp_path):
    citation = tmp_path / "CITATION.cff"
    citation.write_text(
        'authors:\n  - family-names: Curie\n    given-names: "Marie"\n  - name: A group\n'
        "repository-code: https://example.org/code\n"
    )
    assert SETUP["cited"](citation) == (["Marie Curie", "A group"], "https://example.org/code")
    names, address = SETUP["cited"](REPOSITORY / "CITATION.cff")
    assert names == ["monai_ext developers"] and address == ""


def test_a_wheel_gets_each_bundle_without_runs(tmp_path, monkeypatch):
    monkeypatch.setitem(SETUP["BuildWithBundles"].run.__globals__, "ROOT", tmp_path)
    for name in ("LICENSE", "configs/train.json", "models/model.pt", "runs/a/final.pt", "docs/.hidden"):
        path = tmp_path / "bundles" / "toy" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    monkeypatch.setattr("setuptools.command.build_py.build_py.run", lambda self: None)
    command = SETUP["BuildWithBundles"](Distribution())
    command.build_lib, command.editable_mode = str(tmp_path / "built"), False
    stale = tmp_path / "built" / "monai_ext" / "bundles" / "gone"
    stale.mkdir(parents=True)
    command.run()
    found = sorted(str(path.relative_to(stale.parent)) for path in stale.parent.rglob("*") if path.is_file())
    assert found == ["toy/LICENSE", "toy/configs/train.json", "toy/models/model.pt"] and not stale.exists()


def test_every_requirement_has_a_lowest_version_that_the_target_lowest_installs():
    config = configparser.ConfigParser(delimiters=("=",), comment_prefixes=("#",))
    text = (REPOSITORY / "setup.cfg").read_text(encoding="utf-8")
    config.read_string(text)
    wanted = [line for line in config["options"]["install_requires"].splitlines() if line]
    lowest = SETUP["lowest_versions"](text)
    assert len(lowest) == len(wanted) > 15 and f"numpy=={lowest_of('numpy', wanted)}" in lowest
    assert all(re.fullmatch(r"[\w-]+==\d+(\.\d+)+", line) for line in lowest)


def lowest_of(name: str, requirements: list[str]) -> str:
    return next(match[1] for line in requirements if (match := re.match(rf"{name}>=([\d.]+)", line)))

"""The site's pages: complete without naming anything, links that lead somewhere, docstrings where users look."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import posixpath
import re
import subprocess
import sys
from pathlib import Path

import pytest
from browser import chromium, opened

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"!?\[[^\]]*\]\(<?([^)>\s]+)>?\)")
BUNDLES = sorted(path.name for path in (ROOT / "bundles").iterdir() if (path / "configs").is_dir())


@pytest.fixture(scope="module")
def maker():
    spec = importlib.util.spec_from_file_location("docs_pages", ROOT / "docs" / "pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def made(maker) -> tuple[dict[str, str], dict[str, Path]]:
    return maker.generated_pages()


def local_links(text: str) -> list[str]:
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return [target.partition("#")[0] for target in LINK.findall(prose) if not re.match(r"[a-z]+:|#", target)]


def test_every_bundle_and_every_module_has_a_page(made):
    pages, _ = made
    assert {f"bundles/{name}.md" for name in BUNDLES} <= set(pages)
    modules = [path for path in (ROOT / "monai_ext").rglob("*.py") if not path.name.startswith("__")]
    assert {f"api/{'.'.join(path.relative_to(ROOT).with_suffix('').parts)}.md" for path in modules} <= set(pages)
    assert all(f"[{path.stem}](" in pages["api/index.md"] for path in modules)


def test_links_and_pictures_of_the_site_lead_to_its_pages(made):
    pages, pictures = made
    there = {*pages, *pictures, *(path.name for path in (ROOT / "docs").iterdir())}
    broken = {
        (name, target)
        for name, text in pages.items()
        for target in local_links(text)
        if posixpath.normpath(posixpath.join(posixpath.dirname(name), target)) not in there
    }
    assert not broken


def test_links_in_the_repositorys_pages_lead_to_files():
    sources = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")]
    sources += [
        *(ROOT / "bundles").glob("*/docs/*.md"),
        ROOT / "benchmarks" / "README.md",
        ROOT / "weights" / "README.md",
    ]
    broken = {
        (path.relative_to(ROOT).as_posix(), target)
        for path in sources
        for target in local_links(path.read_text(encoding="utf-8"))
        if not (path.parent / target).exists()
    }
    assert not broken


def test_the_gallery_shows_every_picture_of_every_card(made):
    pages, pictures = made
    assert pictures and all(f"]({name})" in pages["gallery.md"] for name in pictures)
    named = {
        f"bundles/{name}/{target}"
        for name in BUNDLES
        for target in local_links((ROOT / "bundles" / name / "docs" / "README.md").read_text(encoding="utf-8"))
        if Path(target).suffix in (".png", ".jpg")
    }
    assert named <= set(pictures)


def test_links_to_other_files_of_the_repository_become_text(maker):
    text = "[a](LICENSE) [b](https://x.org) [c](#there) ![d](bundles/x/docs/p.png) [e](CHANGELOG.md#top)"
    given = maker.with_site_links(text, "README.md", {"README.md": "index.md", "CHANGELOG.md": "changelog.md"})
    assert given == "a [b](https://x.org) [c](#there) ![d](bundles/x/p.png) [e](changelog.md#top)"


def test_public_functions_and_classes_have_docstrings():
    missing = []
    for path in sorted((ROOT / "monai_ext").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = [
            node for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        ]
        public = set(ast.literal_eval(names[0].value)) if names else set()
        missing += [
            f"{path.relative_to(ROOT)}: {node.name}"
            for node in tree.body
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name in public and not ast.get_docstring(node)
        ]
    assert not missing


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The built site, in a folder."""
    pytest.importorskip("mkdocs", reason="needs the extra 'docs'")
    pytest.importorskip("mkdocstrings", reason="needs the extra 'docs'")
    folder = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "not found" not in done.stderr
    return folder


def test_the_site_is_built_without_a_warning_of_a_missing_page(site):
    for name in ("index.html", "gallery.html", "bundles/lesion_unet.html", "api/monai_ext.metrics.distances.html"):
        assert (site / name).is_file()
    page = (site / "api/monai_ext.metrics.distances.html").read_text()
    assert "generalized_energy_distance" in page and "Source code in" in page and "<!-- source -->" not in page
    assert not re.findall(r'<(?:script|link)[^>]*"https?://[^"]*"', page)


def test_the_site_is_searched_from_a_disk(site):
    with chromium() as browser, opened(browser, site / "commands.html") as shown:
        shown.click("text=Search")
        shown.fill("#mkdocs-search-query", "hungarian iou")
        first = shown.locator("#mkdocs-search-results a").first
        assert first.inner_text() == "hungarian_iou" and first.locator("mark").count() == 2
        first.click()
        shown.wait_for_url("**/api/monai_ext.metrics.distances.html#monai_ext.metrics.distances.hungarian_iou")


def test_public_names_are_listed_by_package(maker, made):
    names = maker.public_names()
    assert names["monai_ext.metrics"]["hungarian_iou"][0] == "monai_ext.metrics.distances"
    for package, listed in names.items():
        exported = vars(importlib.import_module(package))
        assert listed and all(name in exported for name in listed)
    link = "[hungarian_iou](monai_ext.metrics.distances.md#monai_ext.metrics.distances.hungarian_iou)"
    assert f"* {link}: Mean IoU of the best assignment" in made[0]["api/index.md"]


def test_every_page_is_in_the_navigation_once(maker, made):
    entries = [entry for group in maker.navigation(made[0]) for entry in group.values()]
    listed = [name for entry in entries for name in ([entry] if isinstance(entry, str) else entry)]
    assert sorted(listed) == sorted(name for name in made[0] if not name.startswith("api/monai_ext"))


def test_what_is_checked_names_tests_that_exist():
    page, missing, folder = (ROOT / "docs" / "checks.md").read_text(), [], ""
    named = re.findall(r"`([\w/.]+)::(test_\w+)", page)
    for file, test in named:
        folder = file if file != "..." else folder
        path = ROOT / "tests" / folder
        if not path.is_file() or f"def {test}(" not in path.read_text():
            missing.append(f"{folder}::{test}")
    assert not missing and len(named) > 100

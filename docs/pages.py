"""Pages of the site that are made from what is there, so that a new bundle or module is covered without being named.

A hook of MkDocs: README, CONTRIBUTING and CHANGELOG, the card of every bundle, a gallery of their pictures, and a page
of each module from its docstrings. `generated_pages` needs no MkDocs.
"""

from __future__ import annotations

import ast
import posixpath
import re
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "monai_ext"
PICTURES = {".png", ".jpg", ".jpeg", ".gif", ".svg"}
TOP = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
MODULE_PAGE = "---\ntitle: {name}\n---\n\n::: {name}\n    options:\n      heading_level: 1\n"
REPOSITORY_FILE = re.compile(r"(LICENSE|examples/.*|benchmarks/.*|weights/.*|monai_ext/.*|bundles/[^/]+/configs/.*)")


def generated_pages(root: Path = ROOT) -> tuple[dict[str, str], dict[str, Path]]:
    """The site's generated pages, and the files that they show.

    Returns:
        Path in the site -> Markdown; path in the site -> file to copy there.
    """
    sources = {source: target for source, target in TOP.items() if (root / source).is_file()}
    sources |= {
        f"bundles/{card.parents[1].name}/docs/README.md": f"bundles/{card.parents[1].name}.md" for card in _cards(root)
    }
    sources |= {f"docs/{path.name}": path.name for path in (root / "docs").glob("*.md")}
    pictures = {
        f"bundles/{card.parents[1].name}/{path.name}": path
        for card in _cards(root)
        for path in sorted(card.parent.iterdir())
        if path.suffix.lower() in PICTURES
    }
    pages = {
        target: with_site_links((root / source).read_text(encoding="utf-8"), source, sources)
        for source, target in sources.items()
    }
    pages["gallery.md"] = gallery(pictures, _cards(root))
    modules = public_modules(root)
    pages |= {f"api/{name}.md": MODULE_PAGE.format(name=name) for name in modules}
    pages["api/index.md"] = api_index(modules)
    return pages, pictures


def _cards(root: Path) -> list[Path]:
    return sorted((root / "bundles").glob("*/docs/README.md"))


def with_site_links(text: str, source: str, pages: Mapping[str, str]) -> str:
    """Markdown whose relative links lead to the site's pages; links to other files of the repository become plain text.

    >>> with_site_links("[card](bundles/a/docs/README.md)", "README.md", {"bundles/a/docs/README.md": "bundles/a.md"})
    '[card](bundles/a.md)'
    """
    here = posixpath.dirname(pages.get(source, source))

    def replaced(match: re.Match) -> str:
        mark, label, target = match.groups()
        if re.match(r"[a-z]+:|#", target):
            return match.group()
        path, hash_sign, anchor = target.partition("#")
        there = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        if there in pages:
            return f"{mark}[{label}]({posixpath.relpath(pages[there], here or '.')}{hash_sign}{anchor})"
        if mark and posixpath.dirname(there) == "docs":
            return f"![{label}]({posixpath.relpath(posixpath.basename(there), here or '.')})"
        bundle = re.fullmatch(r"bundles/([^/]+)/docs/([^/]+)", there)
        if mark and bundle:
            return f"![{label}]({posixpath.relpath(f'bundles/{bundle[1]}/{bundle[2]}', here or '.')})"
        return label if REPOSITORY_FILE.fullmatch(there) else match.group()

    return re.sub(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)", replaced, text)


def gallery(pictures: Mapping[str, Path], cards: list[Path]) -> str:
    """A page with every picture of every bundle under the caption that its card gives it."""
    lines = ["# Gallery", "", "Pictures of the bundles' cards; each card states how its pictures were made."]
    for card in cards:
        bundle, text = card.parents[1].name, card.read_text(encoding="utf-8")
        shown = [(name, path) for name, path in pictures.items() if name.startswith(f"bundles/{bundle}/")]
        if shown:
            lines += ["", f"## [{bundle}](bundles/{bundle}.md)"]
        for name, path in shown:
            caption = re.search(rf"!\[([^\]]*)\]\({re.escape(path.name)}\)", text)
            lines += [
                "",
                f"![{caption[1] if caption else path.stem}]({name})",
                "",
                caption[1] if caption else path.stem,
            ]
    return "\n".join(lines) + "\n"


def public_modules(root: Path = ROOT) -> dict[str, str]:
    """Dotted names of the modules that have a docstring, packages apart, sorted -> the docstring's first paragraph."""
    found = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        if path.name.startswith("_"):
            continue
        if text := ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))):
            name = ".".join(path.relative_to(root).with_suffix("").parts)
            found[name] = " ".join(text.split("\n\n")[0].split())
    return found


def api_index(modules: Mapping[str, str]) -> str:
    """A page that lists the modules by package, each with the first paragraph of its docstring."""
    lines = ["# Modules"]
    package = None
    for name in sorted(modules, key=lambda name: (name.count(".") > 1, name)):  # those of no package first
        parent, _, short = name.rpartition(".")
        if parent != package:
            package = parent
            lines += ["", f"## {package}", ""]
        lines.append(f"* [{short}]({name}.md): {modules[name]}")
    return "\n".join(lines) + "\n"


def on_files(files: object, *, config: object) -> object:
    """MkDocs asks here for the list of files: ours are added."""
    from mkdocs.structure.files import File

    pages, pictures = generated_pages()
    for name, text in pages.items():
        if (written := files.get_file_from_path(name)) is not None:  # of docs/, with the links of the repository
            files.remove(written)
        files.append(File.generated(config, name, content=text))
    for name, path in pictures.items():
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files

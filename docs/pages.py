"""Pages of the site that are made from what is there, so that a new bundle or module is covered without being named.

A hook of MkDocs: README, CONTRIBUTING and CHANGELOG, the card of every bundle, a gallery of their pictures, a page of
each module from its docstrings, an index of the public names, navigation by groups, and a search that works from a
disk. `generated_pages` needs no MkDocs.
"""

from __future__ import annotations

import ast
import json
import posixpath
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "monai_ext"
PICTURES = {".png", ".jpg", ".jpeg", ".gif", ".svg"}
TOP = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
MODULE_PAGE = "---\ntitle: {name}\n---\n\n::: {name}\n    options:\n      heading_level: 1\n"
PUBLIC = ("data", "networks", "losses", "metrics", "transforms", "inferers", "engines", "handlers")
GROUPS = {  # of the navigation; pages that are not named here are guides
    "Bundles": ("gallery.md", "bundles.md", "bundles/"),
    "Reference": ("commands.md", "glossary.md", "checks.md", "structure.md", "api/index.md"),
    "Project": ("contributing.md", "changelog.md"),
}
SOURCE = re.compile(r'<details class="mkdocstrings-source">.*?</details>', re.DOTALL)
CODE_COLOURS = {"light": "default", "dark": "github-dark"}
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
    pages["api/index.md"] = api_index(modules, public_names(root))
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


def public_names(root: Path = ROOT) -> dict[str, dict[str, tuple[str, str]]]:
    """Package -> name that it exports, if a function or class -> its module and the first line of its docstring."""
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for package in PUBLIC:
        start = ast.parse((root / PACKAGE / package / "__init__.py").read_text(encoding="utf-8"))
        imports = [node for node in start.body if isinstance(node, ast.ImportFrom) and node.module]
        names = {}
        for module, taken in ((str(node.module), {alias.name for alias in node.names}) for node in imports):
            path = (root / Path(*module.split("."))).with_suffix(".py")
            if not path.is_file():
                continue
            body = ast.parse(path.read_text(encoding="utf-8")).body
            exported = [name for node in body if _sets_exports(node) for name in ast.literal_eval(node.value)]
            exported = [name for name in exported if {name, "*"} & taken]
            for node in body:
                if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name in exported:
                    text = ast.get_docstring(node) or ""
                    names[node.name] = module, " ".join(text.split("\n\n")[0].split())
        if names:
            found[f"{PACKAGE}.{package}"] = dict(sorted(names.items()))
    return found


def _sets_exports(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"


def api_index(modules: Mapping[str, str], names: Mapping[str, Mapping[str, tuple[str, str]]]) -> str:
    """A page that lists public names and modules by package, each with the first paragraph of its docstring."""
    lines = ["# API", "", "Names to import from the packages, then all modules; commands are in `monai_ext.commands`."]
    for package, entries in names.items():
        lines += ["", f"## from {package} import", ""]
        lines += [f"* [{name}]({module}.md#{module}.{name}): {text}" for name, (module, text) in entries.items()]
    lines += ["", "# Modules"]
    package = None
    for name in sorted(modules, key=lambda name: (name.count(".") > 1, name)):  # those of no package first
        parent, _, short = name.rpartition(".")
        if parent != package:
            package = parent
            lines += ["", f"## {package}", ""]
        lines.append(f"* [{short}]({name}.md): {modules[name]}")
    return "\n".join(lines) + "\n"


def navigation(pages: Iterable[str]) -> list:
    """All pages but those of modules, by groups."""
    left = sorted(name for name in pages if name == "api/index.md" or not name.startswith("api/"))
    left.remove("index.md")
    groups = {}
    for group, parts in GROUPS.items():
        groups[group] = [name for part in parts for name in left if name == part or part.endswith("/") and part in name]
        left = [name for name in left if name not in groups[group]]
    return [{"Start": "index.md"}, *({group: names} for group, names in ({"Guides": left} | groups).items())]


def on_files(files: Any, *, config: Any) -> Any:
    """Hook on the list of files: adds generated pages, their navigation, pictures, and the colours of code."""
    from mkdocs.structure.files import File
    from pygments.formatters import HtmlFormatter

    pages, pictures = generated_pages()
    config.nav = navigation(pages)
    for name, text in pages.items():
        if (written := files.get_file_from_path(name)) is not None:  # of docs/, with the links of the repository
            files.remove(written)
        files.append(File.generated(config, name, content=text))
    for name, path in pictures.items():
        files.append(File.generated(config, name, abs_src_path=str(path)))
    for mode, style in CODE_COLOURS.items():
        rules = HtmlFormatter(style=style).get_style_defs(".highlight")
        files.append(File.generated(config, f"code_{mode}.css", content=rules))
    return files


def on_page_content(html: str, *, page: Any, **_: Any) -> str:
    """Leaves sources out of what is searched: they come back in `on_post_page`."""
    page.meta["sources"] = SOURCE.findall(html)
    return SOURCE.sub("<!-- source -->", html)


def on_post_page(output: str, *, page: Any, **_: Any) -> str:
    """The page with its sources, and with the colours of code, between which the theme switches."""
    sources = iter(page.meta.get("sources", ()))
    output = re.sub("<!-- source -->", lambda _: next(sources), output)
    up = "../" * page.url.count("/")
    links = (f'<link id="hljs-{mode}" rel="stylesheet" href="{up}code_{mode}.css" disabled>' for mode in CODE_COLOURS)
    return output.replace("</head>", "\n".join(links) + "\n</head>", 1)


def on_post_build(config: Any) -> None:
    """Replaces a search that fetches its index, which browsers refuse from a disk, by one that loads it as a script."""
    folder = Path(config.site_dir) / "search"
    documents = json.loads((folder / "search_index.json").read_text(encoding="utf-8"))["docs"]
    (folder / "documents.js").write_text(f"const DOCUMENTS = {json.dumps(documents)};\n", encoding="utf-8")
    (folder / "main.js").write_text((ROOT / "docs" / "search.js").read_text(encoding="utf-8"), encoding="utf-8")
    for name in ("lunr.js", "worker.js", "search_index.json"):
        (folder / name).unlink()

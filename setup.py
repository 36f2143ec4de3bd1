"""What setup.cfg cannot state: the bundles as data of the package, authors of CITATION.cff, links of the description.

`python setup.py lowest_versions` prints the lowest versions that setup.cfg allows, as constraints for pip.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
OWN = ("LICENSE", "configs", "docs", "models")  # of a bundle's folder; runs and predictions stay out
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?![a-z]+:|#)([^)\s]+)\)")  # relative
FIELD = r'^\s*(?:- )?{}: "?([^"\n]+)"?$'


class BuildWithBundles(build_py):
    """Copies `bundles/NAME` to `monai_ext/bundles/NAME`; an editable install finds them beside the package."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib, "monai_ext", "bundles")
        shutil.rmtree(target, ignore_errors=True)  # of an earlier build
        for licence in sorted(ROOT.glob("bundles/*/LICENSE")):
            for path in (path for name in OWN for path in (licence.parent / name, *(licence.parent / name).rglob("*"))):
                if path.is_file() and not path.name.startswith("."):
                    place = target / path.relative_to(ROOT / "bundles")
                    place.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path, place)


def cited(citation: Path) -> tuple[list[str], str]:
    """The authors of a CITATION.cff, and the address of the repository, "" where it names none."""
    text = citation.read_text(encoding="utf-8")
    people = re.split(r"^\s*- ", text.partition("authors:")[2], flags=re.MULTILINE)[1:]
    names = [" ".join(_fields(person, "given-names", "family-names", "name")) for person in people]
    return names, "".join(_fields(text, "repository-code"))


def _fields(text: str, *names: str) -> list[str]:
    found = (re.search(FIELD.format(name), text, flags=re.MULTILINE) for name in names)
    return [match[1].strip() for match in found if match]


def long_description(address: str) -> str:
    """README.md for a package index, where relative links are dead: they lead to the repository, or are left out.

    What needs the repository stands between comments, and is left out with them.
    """
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"<!-- repository -->.*?<!-- /repository -->\n", "", text, flags=re.DOTALL)

    def replaced(match: re.Match) -> str:
        mark, label, target = match.groups()
        if not address:
            return "" if mark else label
        return f"{mark}[{label}]({address}/{'raw' if mark else 'blob'}/main/{target})"

    return LINK.sub(replaced, text)


def lowest_versions(config: str) -> list[str]:
    """`name==version` of the lower bounds in a setup.cfg's install_requires."""
    text = config.partition("install_requires =")[2].partition("\n[")[0]
    return [f"{name}=={version}" for name, version in re.findall(r"^ +([\w-]+)>=([\d.]+)", text, flags=re.MULTILINE)]


if __name__ == "__main__":
    if sys.argv[1:] == ["lowest_versions"]:
        sys.stdout.write("\n".join(lowest_versions((ROOT / "setup.cfg").read_text(encoding="utf-8"))) + "\n")
        sys.exit()
    AUTHORS, ADDRESS = cited(ROOT / "CITATION.cff")
    setup(
        author=", ".join(AUTHORS),
        project_urls={"Source": ADDRESS} if ADDRESS else {},
        cmdclass={"build_py": BuildWithBundles},
        long_description=long_description(ADDRESS),
        long_description_content_type="text/markdown",
    )

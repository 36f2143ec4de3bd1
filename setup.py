"""What setup.cfg cannot state: the bundles as data of the package, and a README without links that would be dead."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
OWN = ("LICENSE", "configs", "docs", "models")  # of a bundle's folder; runs and predictions stay out
LINK = re.compile(r"!?\[([^\]]*)\]\((?![a-z]+:|#)[^)\s]+\)")  # relative


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


def long_description() -> str:
    """README.md without pictures and links that lead to other files of the repository: there they would be dead.

    Commands that need the repository are left out with them.
    """
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"<!-- repository -->.*?<!-- /repository -->\n", "", text, flags=re.DOTALL)
    text = re.sub(r"^!\[[^\]]*\]\([^)]*\)\n", "", text, flags=re.MULTILINE)
    return LINK.sub(r"\1", text)


setup(
    cmdclass={"build_py": BuildWithBundles},
    long_description=long_description(),
    long_description_content_type="text/markdown",
)

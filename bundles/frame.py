"""What all bundles have alike stands in `bundles/frame` and is written into each of them: `python bundles/frame.py`.

`multi_gpu.json` and `logging.conf` are copied. In a `metadata.json` the fields of `frame/metadata.json` are set, and
all versions to those of `constraints.txt`; which packages a bundle requires is its own choice.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

BUNDLES = Path(__file__).resolve().parent
FRAME = BUNDLES / "frame"
COPIED = ("multi_gpu.json", "logging.conf")
VERSIONS = {"monai_version": "monai", "pytorch_version": "torch", "numpy_version": "numpy"}


def bundle_folders() -> list[Path]:
    """All bundles."""
    return sorted(path.parent for path in BUNDLES.glob("*/configs"))


def pinned_versions(constraints: str) -> dict[str, str]:
    """Name in lower case -> version of the lines of `constraints` that hold for the newest Python.

    >>> pinned_versions('NumPy==2.0 ; python_version < "3.11"' + chr(10) + 'NumPy==2.4 ; python_version >= "3.11"')
    {'numpy': '2.4'}
    """
    lines = [line.split(";")[0] for line in constraints.splitlines() if '< "3.11"' not in line]
    return {name.strip().lower(): version.strip() for name, _, version in (line.partition("==") for line in lines)}


def framed_metadata(text: str) -> str:
    """The text of a `metadata.json` with the frame's fields, each of which it must have on a line of its own.

    Raises:
        ValueError: it lacks one.
    """
    own = re.search(r'__version__ = "(.+)"', (BUNDLES.parent / "monai_ext" / "__init__.py").read_text(encoding="utf-8"))
    versions = pinned_versions((BUNDLES.parent / "constraints.txt").read_text(encoding="utf-8"))
    versions |= {"monai_ext": own[1]} if own else {}
    fields = json.loads((FRAME / "metadata.json").read_text(encoding="utf-8"))
    fields |= {field: versions[package] for field, package in VERSIONS.items()}
    required = json.loads(text).get("required_packages_version", {})
    fields["required_packages_version"] = {name: versions.get(name.lower(), required[name]) for name in required}
    for name, value in fields.items():
        text, count = re.subn(rf'^    "{name}": .*?(,?)$', rf'    "{name}": {json.dumps(value)}\1', text, flags=re.M)
        if count != 1:
            raise ValueError(f"metadata.json has no line for {name}: add one, with any value.")
    return text


def main() -> None:
    """Write the frame into every bundle."""
    for folder in bundle_folders():
        for name in COPIED:
            shutil.copy(FRAME / name, folder / "configs" / name)
        path = folder / "configs" / "metadata.json"
        path.write_text(framed_metadata(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()

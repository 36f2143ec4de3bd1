"""Results of a benchmark as Markdown tables and as one JSON record."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from monai_ext.storage.files import write_text

PACKAGES = ("monai_ext", "monai", "torch", "pytorch-ignite", "numpy", "pillow")


@dataclass(frozen=True)
class Table:
    """Cells as text, with a caption: what was measured and how often."""

    caption: str
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __str__(self) -> str:
        lines = [self.headers, ["---"] + ["---:"] * (len(self.headers) - 1), *self.rows]
        cells = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return f"{self.caption}\n\n{cells}" if self.caption else cells


@dataclass(frozen=True)
class Result:
    """Result of one benchmark.

    Attributes:
        title: what was measured.
        tables: for people.
        values: numbers by name, for the goals and for the record.
        notes: what was left out, and why.
    """

    title: str
    tables: Sequence[Table]
    values: dict[str, float]
    notes: Sequence[str] = field(default_factory=tuple)

    def __str__(self) -> str:
        return "\n\n".join([f"## {self.title}", *map(str, self.tables), *(f"*{note}*" for note in self.notes)])


def machine(device: torch.device) -> dict[str, str | int | None]:
    """What a number is worth nothing without."""
    cuda = device.type == "cuda"
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if cuda else device.type,
        "cuda": torch.version.cuda if cuda else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
    }


def load() -> str:
    """What else kept the machine busy in the last minute, in words."""
    return f"a load of {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "an unknown load"


def write_record(path: Path, machine: dict, settings: dict, results: dict[str, Result], goals: Sequence[dict]) -> None:
    """Everything in one JSON file."""
    record = {
        "machine": machine,
        "settings": settings,
        "goals": list(goals),
        "results": {name: asdict(result) for name, result in results.items()},
    }
    write_text(path, json.dumps(record, indent=1) + "\n")


def fill(path: Path, name: str, text: str) -> None:
    """Put `text` between the lines `<!-- begin name -->` and `<!-- end name -->` of a Markdown file.

    Raises:
        ValueError: the file has no such lines.
    """
    before, _, after = _place(path, name)
    write_text(path, f"{before}{text}\n{after}")


def sections_of(path: Path, name: str) -> dict[str, str]:
    """The sections in the place `name` of a Markdown file; each begins with a line `<!-- section SECTION -->`."""
    parts = re.split(r"^<!-- section (\S+) -->$", _place(path, name)[1], flags=re.MULTILINE)
    return {section: text.strip() for section, text in zip(parts[1::2], parts[2::2], strict=True)}


def joined(sections: Mapping[str, str]) -> str:
    """What `sections_of` takes apart."""
    return "\n\n".join(f"<!-- section {section} -->\n{text}" for section, text in sections.items())


def _place(path: Path, name: str) -> tuple[str, str, str]:
    """A page up to the place `name`, the place, and the rest."""
    begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
    page = path.read_text(encoding="utf-8")
    if begin not in page or end not in page:
        raise ValueError(f"{path} has no place for the tables: add the lines '{begin.strip()}' and '{end}'.")
    before, rest = page.split(begin, 1)
    between, after = rest.split(end, 1)
    return before + begin, between, end + after


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None

"""Descriptions of a one-LR-many-HR data set: a data card for people, Croissant metadata for machines.

Croissant: https://docs.mlcommons.org/croissant/docs/croissant-spec.html, version 1.0.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import msgspec

from monai_ext.data.many_hr.format import RECORD_FILE, TARGET_FILE, Index, RecordLine, TargetLine, file_entry

__all__ = ["CARD_FILE", "CROISSANT_FILE", "Credit", "croissant", "data_card"]

CARD_FILE, CROISSANT_FILE = "README.md", "croissant.json"
ENCODINGS = {".npy": "application/x-npy", ".jsonl": "application/jsonlines", ".json": "application/json"}
EXPLAINED = {
    "original": "the tile itself",
    "texture": "the tile, its hidden detail exchanged in soft regions for that of patches of other tiles whose "
    "low-resolution sides agree",
    "mined": "a mosaic of whole patches of other tiles whose low-resolution sides nearly equal it",
    "sampled": "samples of a network",
    "capture": "the same ground at another date, as it is: it agrees only nearly, filter by `lr_psnr`",
}
TYPES = {"string": "sc:Text", "integer": "sc:Integer", "number": "sc:Float"}  # JSON Schema's -> Croissant's
SNIPPET = """import json
import numpy as np

folder = "."
records = [json.loads(line) for line in open(f"{folder}/records.jsonl")]
M = np.load(f"{folder}/operator.npy")
record = records[0]
stem = f"{folder}/shards/{record['shard']:05d}"
low_res = np.load(f"{stem}.low_res.npy", mmap_mode="r")[record["low_res_row"]]  # (C, h, w), uint8
first = record["high_res_row"]
high_res = np.load(f"{stem}.high_res.npy", mmap_mode="r")[first : first + record["answers"]]  # (K, C, H, W)
reduced = M @ high_res @ M.T
assert (reduced.clip(0, 255).round() == low_res).mean() > 0.999
"""


class Credit(NamedTuple):
    """Origin and licence; what is None is left out.

    Attributes:
        name: of the data set.
        licence: of the tiles, its name or address.
        creator: whom to credit.
        url: where the data set is published.
        published: date, YYYY-MM-DD.
    """

    name: str = "one-lr-many-hr"
    licence: str | None = None
    creator: str | None = None
    url: str | None = None
    published: str | None = None


def data_card(index: Index, records: Sequence[RecordLine], targets: Sequence[TargetLine]) -> str:
    """README.md of a data set: what is in it, how exactly its images agree, how to read it.

    Args:
        index: without files.
        records, targets: lines of the tables.
    """
    low, high = ("x".join(map(str, shape[1:])) for shape in (index.low_res_shape, index.high_res_shape))
    parts = ", ".join(f"{count:,} {part}" for part, count in index.parts.items())
    distances = [_nearest(record) for record in records]
    credit = index.credit
    stated = [f"{name}: {credit[key]}" for key, name in (("licence", "Licence"), ("creator", "Credit")) if credit[key]]
    return "\n".join(
        [
            f"# {credit['name']}",
            "",
            f"{index.records:,} low-resolution images ({low}), each with {index.settings['answers']} "
            f"high-resolution ones ({high}) that all reduce to it: {index.targets:,} images in all, 8 bits, "
            f"{index.low_res_shape[0]} bands. Parts, by place: {parts}. Nothing is borrowed across parts.",
            "",
            f"The operator is `{index.operator}`: M x M^T with M in operator.npy, cut to 0 ... 255 and rounded.",
            "",
            *(stated or ["Licence and credit: those of the tiles; none was stated for this build."]),
            "",
            "## Kinds of targets, and how well they agree",
            "",
            "LR-PSNR and largest gap are of the reduced image before rounding; an image that differs by the rounding "
            "alone has about 59 dB.",
            "",
            "| kind | images | LR-PSNR median, lowest (dB) | largest gap (levels) | LR pixels that differ | borrowed |",
            "|---|---|---|---|---|---|",
            *(_kind_row(kind, [t for t in targets if t.kind == kind]) for kind in index.kinds),
            "",
            *(f"* **{kind}**: {EXPLAINED[kind]}." for kind in index.kinds),
            "",
            "Root mean square distance of the two exact targets of a record that are most alike: "
            f"{median(distances):.2f} levels in the median, {min(distances):.2f} at least.",
            "",
            "## Reading it with numpy alone",
            "",
            "```python",
            SNIPPET.rstrip(),
            "```",
            "",
            "`index.json` lists every file with its sha256; `records.jsonl` and `answers.jsonl` are the tables, "
            "explained field by field in `croissant.json`.",
            "",
            "## Limits",
            "",
            "* Borrowed detail is plausible, not true: targets span what the collection shows, no more, and keep the "
            "original where no patch agrees.",
            "* The original was compressed as its tile was; JPEG's traces are part of the detail.",
            "* Captures differ by season, light and what was built: they are no exact targets.",
            "",
        ]
    )


def croissant(folder: Path, index: Index, names: Sequence[str]) -> str:
    """croissant.json of a data set: its files with checksums, and the fields of both tables."""
    credit = index.credit
    stated = {
        "license": credit["licence"],
        "creator": credit["creator"] and {"@type": "sc:Organization", "name": credit["creator"]},
        "url": credit["url"],
        "datePublished": credit["published"],
    }
    described = {
        "@context": _context(),
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": credit["name"],
        "description": f"{index.records} low-resolution images, each with {index.settings['answers']} "
        f"high-resolution images that reduce to it by {index.operator}.",
        **{key: value for key, value in stated.items() if value},
        "distribution": [_file_object(folder, name) for name in sorted(names)],
        "recordSet": [
            _record_set("records", RECORD_FILE, RecordLine),
            _record_set("answers", TARGET_FILE, TargetLine),
        ],
    }
    return json.dumps(described, indent=1) + "\n"


def _nearest(record: RecordLine) -> float:
    """Least distance of two targets of a record that agree exactly."""
    count = record.targets + record.captures
    pairs = ((i, j) for i in range(count) for j in range(i + 1, count))
    return min(d for d, (_, j) in zip(record.distance_rms, pairs, strict=True) if j < record.targets)


def _kind_row(kind: str, targets: Sequence[TargetLine]) -> str:
    psnr = [target.lr_psnr for target in targets]
    return (
        f"| {kind} | {len(targets):,} | {median(psnr):.1f}, {min(psnr):.1f} | "
        f"{max(target.lr_max for target in targets):.2f} | {sum(target.lr_differing for target in targets):,} | "
        f"{sum(target.borrowed for target in targets) / len(targets):.0%} |"
    )


def _file_object(folder: Path, name: str) -> dict:
    entry = file_entry(folder / name)
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "contentUrl": name,
        "contentSize": f"{entry.bytes} B",
        "encodingFormat": ENCODINGS[Path(name).suffix],
        "sha256": entry.sha256,
    }


def _record_set(name: str, file: str, line: type[msgspec.Struct]) -> dict:
    """A table by the JSON Schema of its lines."""
    fields = msgspec.json.schema(line)["$defs"][line.__name__]["properties"]
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "field": [_field(f"{name}/{column}", column, about, file) for column, about in fields.items()],
    }


def _field(name: str, column: str, about: Mapping[str, Any], file: str) -> dict:
    (kind,) = (each for each in about.get("anyOf", [about]) if each["type"] != "null")
    return {
        "@type": "cr:Field",
        "@id": name,
        "name": column,
        "description": about["description"],
        "dataType": TYPES[kind.get("items", kind)["type"]],
        **({"repeated": True} if "items" in kind else {}),
        "source": {"fileObject": {"@id": file}, "extract": {"column": column}},
    }


def _context() -> dict:
    """The vocabulary that the specification prescribes."""
    plain = (
        "citeAs", "column", "extract", "field", "fileProperty", "fileObject", "fileSet", "format", "includes",
        "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex",
        "repeated", "replace", "separator", "source", "subField", "transform",
    )  # fmt: skip
    return {
        "@language": "en",
        "@vocab": "https://schema.org/",
        "sc": "https://schema.org/",
        "cr": "http://mlcommons.org/croissant/",
        "rai": "http://mlcommons.org/croissant/RAI/",
        "dct": "http://purl.org/dc/terms/",
        "conformsTo": "dct:conformsTo",
        "data": {"@id": "cr:data", "@type": "@json"},
        "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
        "examples": {"@id": "cr:examples", "@type": "@json"},
        **{name: f"cr:{name}" for name in plain},
    }

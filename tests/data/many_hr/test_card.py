"""Descriptions of a data set, for people and machines."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from many_hr_sets import read_lines

DOCUMENT = Path(__file__).parents[3] / "docs" / "many_hr.md"


def test_the_card_and_the_document_read_it_with_numpy_alone(built):
    for page in (built / "README.md", DOCUMENT):
        code = re.search(r"```python\n(import json\n.*?)```", page.read_text(encoding="utf-8"), re.DOTALL).group(1)
        assert "monai" not in code and "torch" not in code
        namespace: dict = {}
        exec(compile(code.replace('folder = "."', f"folder = {str(built)!r}"), str(page), "exec"), namespace)
        assert namespace["high_res"].shape == (4, 3, 64, 64)


def test_the_documents_data_sets_are_read(built):
    code = re.search(r"```python\n(from monai_ext.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL).group(1)
    namespace: dict = {}
    code = code.replace('"many_hr"', repr(str(built))).replace("targets=8", "targets=4")
    exec(compile(code, str(DOCUMENT), "exec"), namespace)
    assert namespace["records"][0]["label"].shape == (4, 3, 64, 64) and len(namespace["pairs"]) > 0


def test_croissant_names_every_array_with_its_checksum_and_columns_that_exist(built):
    described = json.loads((built / "croissant.json").read_text())
    assert described["conformsTo"].endswith("croissant/1.0") and described["@type"] == "sc:Dataset"
    objects = {entry["@id"]: entry for entry in described["distribution"]}
    for path in built.glob("shards/*.npy"):
        name = path.relative_to(built).as_posix()
        assert objects[name]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    for record_set in described["recordSet"]:
        (table,) = {field["source"]["fileObject"]["@id"] for field in record_set["field"]}
        columns = {field["source"]["extract"]["column"] for field in record_set["field"]}
        assert columns == set().union(*read_lines(built / table)), table
        for field in record_set["field"]:
            line = read_lines(built / field["source"]["fileObject"]["@id"])[0]
            assert field["source"]["fileObject"]["@id"] in objects and field["source"]["extract"]["column"] in line

"""Files of torch.save: names that they would import are found without reading them."""

from __future__ import annotations

import io
import os
import pickle
import zipfile

import pytest
import torch

from monai_ext.storage.tensor_files import read_tensors, unsafe_globals


class Hostile:
    def __reduce__(self):
        return os.system, ("true",)


def saved(content: object, **options) -> io.BytesIO:
    file = io.BytesIO()
    torch.save(content, file, **options)
    file.seek(0)
    return file


def test_weights_import_nothing_beyond_tensors_and_plain_values(tmp_path):
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    content = {"network": network.state_dict(), "epoch": 3, "name": "a", "half": torch.ones(2).bfloat16()}
    torch.save(content, tmp_path / "model.pt")
    assert unsafe_globals(tmp_path / "model.pt") == [] == unsafe_globals(saved(content))
    assert read_tensors(tmp_path / "model.pt", named="model.pt")["epoch"] == 3


def test_functions_and_classes_are_named():
    assert unsafe_globals(saved({"a": Hostile(), "b": torch.ones(1)})) == [f"{os.system.__module__}.system"]
    assert unsafe_globals(saved(torch.nn.Linear(1, 1)))[-1] == "torch.nn.modules.linear.Linear"


def zipped(**records: bytes) -> io.BytesIO:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in records.items():
            archive.writestr(f"archive/{name}.pkl", content)
    file.seek(0)
    return file


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: io.BytesIO(pickle.dumps({"a": 1})), "no zip of torch.save, and a bare pickle can run any program"),
        (lambda: saved({"a": 1}, _use_new_zipfile_serialization=False), "no zip of torch.save"),
        (lambda: io.BytesIO(pickle.dumps(Hostile()) + saved({"a": 1}).getvalue()), "no zip of torch.save"),
        (lambda: zipped(data=b"", constants=b""), "TorchScript, which has others, is a program"),
        (lambda: zipped(other=b""), "one pickle, data.pkl"),
        (lambda: zipped(data=b"\x80\x02cos\nsystem\n"), "cannot be looked into"),
        (lambda: io.BytesIO(b""), "no zip"),
    ],
)
def test_other_pickles_and_damaged_files_are_refused(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        unsafe_globals(make())


def test_torchscript_is_refused(tmp_path):
    torch.jit.script(torch.nn.Linear(1, 1)).save(tmp_path / "model.ts")
    with pytest.raises(ValueError, match="is a program"):
        unsafe_globals(tmp_path / "model.ts")

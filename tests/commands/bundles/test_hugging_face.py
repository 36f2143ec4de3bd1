"""`pack --hugging_face`: the card with the hub's header, links from the root, and the same weights as safetensors."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load

from monai_ext.commands.bundles import pack
from monai_ext.commands.bundles.hugging_face import card_with_header, repository_files
from monai_ext.commands.bundles.pack import PackOptions

BUNDLES = Path(__file__).parents[3] / "bundles"


def files(name: str) -> dict[str, Path]:
    names = ("docs/README.md", "configs/metadata.json", "LICENSE")
    return {path: BUNDLES / name / path for path in names}


@pytest.mark.parametrize(("name", "task"), [("srgan_aerial", "image-to-image"), ("lesion_unet", "image-segmentation")])
def test_the_header_names_licence_library_and_task(name, task):
    _, header, card = card_with_header(name, files(name)).split("---\n", 2)
    entries = dict(line.split(": ", 1) for line in header.splitlines())
    assert {key: json.loads(value) for key, value in entries.items()} == {
        "license": "apache-2.0", "library_name": "monai", "pipeline_tag": task, "tags": ["monai", "pytorch", name],
    }  # fmt: skip
    assert card.strip().startswith(f"# {name}: ")


def test_links_of_the_card_hold_from_the_root_and_those_that_leave_the_bundle_become_text(tmp_path):
    own = files("lesion_unet") | {"docs/README.md": tmp_path / "card.md", "LICENSE": tmp_path / "licence"}
    own["docs/README.md"].write_text(
        "![a](b.jpg) [c](../configs/d.json) [e](../../f/README.md) [g](https://h.org/i) [j](#k)\n"
    )
    own["LICENSE"].write_text("All rights reserved")
    text = card_with_header("lesion_unet", own)
    assert text.endswith("\n![a](docs/b.jpg) [c](configs/d.json) e [g](https://h.org/i) [j](#k)\n")
    assert 'license: "other"' in text


def test_the_zip_is_the_bundle_with_card_and_safetensors_at_their_places(tmp_path):
    assert pack.run(PackOptions((BUNDLES / "srgan_aerial",), tmp_path, hugging_face=True)) == 0
    with zipfile.ZipFile(tmp_path / "srgan_aerial-huggingface.zip") as archive:
        names = set(archive.namelist())
        state = load(archive.read("srgan_aerial/models/model.safetensors"))
    assert {"srgan_aerial/README.md", "srgan_aerial/docs/README.md", "srgan_aerial/configs/inference.json"} <= names
    expected = torch.load(BUNDLES / "srgan_aerial" / "models" / "model.pt", weights_only=True)
    assert state.keys() == expected.keys() and all(torch.equal(state[key], value) for key, value in expected.items())
    weights = {name for name in names if name.endswith(".pt")}
    assert {name.replace(".pt", ".safetensors") for name in weights} <= names
    assert "srgan_aerial-huggingface.zip" in (tmp_path / "SHA256SUMS").read_text()


def test_weights_that_are_no_state_dict_are_refused(tmp_path):
    torch.save({"network": {"a": torch.ones(1)}}, tmp_path / "last.pt")
    with pytest.raises(ValueError, match="no state dict"):
        repository_files("lesion_unet", files("lesion_unet") | {"models/last.pt": tmp_path / "last.pt"})

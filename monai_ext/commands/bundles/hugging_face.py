"""What a Hugging Face repository has beside a bundle's files: the card with its metadata header, and safetensors."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["card_with_header", "repository_files"]

CARD, METADATA, LICENCE = "docs/README.md", "configs/metadata.json", "LICENSE"
LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<target>[^)\s:#]+)\)")  # of a file, not of an address or a heading


def repository_files(name: str, files: Mapping[str, Path]) -> dict[str, bytes]:
    """README.md, and a .safetensors beside each .pt, of the bundle `name` with these files (path in it -> source).

    Raises:
        ValueError: weights that are no state dict.
    """
    made = {"README.md": card_with_header(name, files).encode()}
    for path, source in files.items():
        if path.endswith(".pt"):
            made[path.removesuffix(".pt") + ".safetensors"] = _as_safetensors(source)
    return made


def card_with_header(name: str, files: Mapping[str, Path]) -> str:
    """The card with the header that the hub reads, and links that hold from the repository's root."""
    metadata = json.loads(files[METADATA].read_text(encoding="utf-8"))
    licence = files[LICENCE].read_text(encoding="utf-8").split()[:4]
    output = next(iter(metadata["network_data_format"]["outputs"].values()))
    header: dict[str, Any] = {
        "license": "apache-2.0" if licence == ["Apache", "License", "Version", "2.0,"] else "other",
        "library_name": "monai",
        "pipeline_tag": "image-segmentation" if output.get("format") == "segmentation" else "image-to-image",
        "tags": ["monai", "pytorch", name],
    }
    lines = "".join(f"{key}: {json.dumps(value)}\n" for key, value in header.items())  # JSON is YAML
    return f"---\n{lines}---\n\n{LINK.sub(_from_root, files[CARD].read_text(encoding='utf-8'))}"


def _from_root(link: re.Match[str]) -> str:
    target = posixpath.normpath(posixpath.join(posixpath.dirname(CARD), link["target"]))
    return link["text"] if target.startswith("../") else f"[{link['text']}]({target})"


def _as_safetensors(source: Path) -> bytes:
    import torch  # here, since --help can spare it
    from safetensors.torch import save

    from monai_ext.storage.tensor_files import read_tensors

    state = read_tensors(source, named=f"the file '{source}'")
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError(f"{source} is no state dict, and safetensors hold tensors by name: save the state dict alone.")
    return save({key: value.clone().contiguous() for key, value in state.items()}, {"format": "pt"})

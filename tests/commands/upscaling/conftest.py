"""A bundle with a small network, for tests of commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from upscaling_toys import repeating


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    definition = "$torch.nn.Sequential(torch.nn.Conv2d(3, 12, 3, padding=1, bias=False), torch.nn.PixelShuffle(2))"
    config = {"imports": ["$import torch"], "network_def": definition}
    (folder / "configs" / "inference.json").write_text(json.dumps(config))
    torch.save(repeating().state_dict(), folder / "models" / "model.pt")
    return folder

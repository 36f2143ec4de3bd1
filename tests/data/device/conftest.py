"""Arrays in files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from arrays import ReadArrays


@pytest.fixture(autouse=True)
def no_calls_yet() -> None:
    ReadArrays.calls.clear()


@pytest.fixture
def write_items(tmp_path: Path):
    """Writes `count` images, whose first pixel is their index, and returns the items."""

    def write(count: int, sizes: list[tuple[int, int]] | None = None) -> list[dict]:
        rng, items = np.random.default_rng(0), []
        for i in range(count):
            image = rng.integers(0, 256, (3, *(sizes or [(6, 8)])[i % len(sizes or [1])]), dtype=np.uint8)
            image[0, 0, 0] = i
            np.save(tmp_path / f"{i}.npy", image)
            items.append({"id": f"case{i}", "image": str(tmp_path / f"{i}.npy")})
        return items

    return write

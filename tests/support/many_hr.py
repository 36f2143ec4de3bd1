"""Images and the operator of a one-LR-many-HR data set."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from monai_ext.data.many_hr.build import build_many_hr
from monai_ext.data.many_hr.measures import operator_matrix
from monai_ext.data.many_hr.plan import ManyHrSettings
from monai_ext.data.tiles.listing import tile_items
from monai_ext.phantoms.aerial import write_aerial_phantoms
from monai_ext.transforms.degradation import Degradation

DEGRADATION = Degradation(4)
MATRIX = operator_matrix(DEGRADATION, 64)
SETTINGS = ManyHrSettings(
    targets=4, size=64, patches=400, candidates=6, captures=2, shard_records=4, test_fraction=0.25,
    validation_fraction=0.0, agreement=12.0,
)  # fmt: skip


def noise(*shape, seed=0):
    return torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def smooth(count, size=64, seed=0):
    """Coloured clouds, uint8 (count, 3, size, size)."""
    field = torch.randn(count, 3, size // 8, size // 8, generator=torch.Generator().manual_seed(seed))
    fine = torch.nn.functional.interpolate(field, (size, size), mode="bicubic", align_corners=False)
    grain = torch.randn(fine.shape, generator=torch.Generator().manual_seed(seed + 1))
    return (128 + 25 * fine + 6 * grain).clamp(0, 255).to(torch.uint8)


def write_tiles(folder):
    """Eight phantoms of 64 pixels; two of them show one place at two dates, one is a chessboard in black and white."""
    write_aerial_phantoms(folder, count=7, size=(64, 64))
    pixels = np.asarray(Image.open(folder / "phantom_0000.png")).astype(int)
    Image.fromarray((pixels * 0.9 + 12).astype(np.uint8)).save(folder / "2019_phantom_0000.png")
    rows, columns = np.indices((64, 64)) // 12
    stark = ((rows + columns) % 2 * 255).astype(np.uint8)
    Image.fromarray(stark).convert("RGB").save(folder / "phantom_0006.png")
    (folder / "manifest.csv").write_text(
        "file,place\n" + "".join(f"{f.name},{f.name[-8:-4]}\n" for f in sorted(folder.glob("*.png")))
    )
    return folder


def build(tiles, output, records=10, settings=SETTINGS, **options):
    options = {"degradation": DEGRADATION, "records": records, "settings": settings} | options
    return build_many_hr(tile_items(tiles), output, **options)


def contents(folder):
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}

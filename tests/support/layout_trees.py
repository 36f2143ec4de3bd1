"""Small data sets in the layouts of others: a picture of 6 rows and 8 columns, and masks that are known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (6, 8)
LEFT, WIDE = (np.zeros(SIZE, np.uint8) for _ in range(2))
LEFT[1:4, 1:3] = 1
WIDE[1:5, 1:6] = 1
SQUARE = [1, 1, 3, 1, 3, 4, 1, 4]  # LEFT as a polygon: x and y of its corners


def picture(path: Path, *, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(1, 250, (*SIZE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def mask(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels * 255).save(path)


def rater_folders(root: Path) -> None:
    for name in ("a", "b"):
        picture(root / f"images/{name}.png")
        mask(root / f"anna/{name}.png", LEFT)
    mask(root / "ben/b.png", WIDE)


def rater_suffixes(root: Path) -> None:
    for name in ("a", "b"):
        picture(root / f"{name}.png")
        mask(root / f"{name}_rater1.png", LEFT)
        mask(root / f"{name}_rater2.png", WIDE)


def parts(root: Path) -> None:
    for part, name in (("train", "a"), ("val", "b"), ("test", "c")):
        picture(root / part / f"images/{name}.jpg")
        mask(root / part / f"masks/{name}_mask.png", LEFT)


def ph2(root: Path) -> None:
    for name in ("IMD002", "IMD003"):
        folder = root / "PH2 Dataset images" / name
        picture(folder / f"{name}_Dermoscopic_Image/{name}.bmp")
        mask(folder / f"{name}_lesion/{name}_lesion.bmp", LEFT)


def ham10000(root: Path) -> None:
    for number, name in enumerate(("ISIC_0024306", "ISIC_0024307", "ISIC_0024308")):
        picture(root / f"HAM10000_images_part_{number % 2 + 1}/{name}.jpg", seed=number)
        mask(root / f"HAM10000_segmentations_lesion_tschandl/{name}_segmentation.png", LEFT)
    rows = "lesion_id,image_id\nHAM_1,ISIC_0024306\nHAM_1,ISIC_0024307\nHAM_2,ISIC_0024308\n"
    (root / "HAM10000_metadata.csv").write_text(rows)


def npz(root: Path) -> None:
    root.mkdir()
    images = np.random.default_rng(0).integers(0, 255, (2, *SIZE), dtype=np.uint8)
    np.savez(root / "train.npz", images=images, masks=np.stack([[LEFT, WIDE]] * 2), patient=np.array([7, 9]))
    np.savez(root / "test.npz", images=images[:1], reader_bits=(LEFT + 2 * WIDE)[None], patient=np.array([3]))


def coco(root: Path) -> None:
    for name in ("a", "b"):
        picture(root / f"pictures/{name}.png")
    runs = np.flatnonzero(np.diff(np.pad(WIDE.T.ravel(), 1)))
    counts = np.diff(np.concatenate([[0], runs, [WIDE.size]])).tolist()
    content = {
        "images": [{"id": 5, "file_name": "a.png"}, {"id": 6, "file_name": "pictures/b.png"}],
        "categories": [{"id": 1, "name": "cell"}],
        "annotations": [
            {"image_id": 5, "category_id": 1, "segmentation": [SQUARE], "annotator": "anna"},
            {"image_id": 5, "category_id": 1, "segmentation": {"size": list(SIZE), "counts": counts},
             "attributes": {"annotator": "ben"}},
            {"image_id": 6, "category_id": 1, "segmentation": [SQUARE], "annotator": "anna"},
        ],
    }  # fmt: skip
    (root / "annotations.json").write_text(json.dumps(content))


def labelme(root: Path) -> None:
    picture(root / "a.png")
    corners = np.reshape(SQUARE, (-1, 2)).tolist()
    for who, shape in (
        ("anna", {"label": "cell", "points": corners, "shape_type": "polygon"}),
        ("ben", {"label": "cell", "points": [[1, 1], [6, 5]], "shape_type": "rectangle"}),
    ):
        content = {"imagePath": "..\\a.png", "imageHeight": SIZE[0], "imageWidth": SIZE[1], "shapes": [shape]}
        (root / who).mkdir()
        (root / who / "a.json").write_text(json.dumps(content))


def monai_label(root: Path) -> None:
    picture(root / "a.png")
    mask(root / "labels/final/a.png", LEFT)
    mask(root / "labels/original/a.png", WIDE)


TREES = {
    "rater_folders": rater_folders, "rater_suffixes": rater_suffixes, "parts": parts, "ph2": ph2, "ham10000": ham10000,
    "npz": npz, "coco": coco, "labelme": labelme, "monai_label": monai_label,
}  # fmt: skip

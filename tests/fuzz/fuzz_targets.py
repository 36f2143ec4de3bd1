"""Every kind of file that the package reads: a whole one of it, what reads it, and how it is mutated."""

from __future__ import annotations

import gzip
import importlib.util
import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import torch
from dicom_series import write_slice
from mutations import (
    Mutator,
    mutate_bytes,
    mutate_csv,
    mutate_decoded_header,
    mutate_gzipped,
    mutate_head,
    mutate_json,
    mutate_png_chunk,
    mutate_zip_record,
)
from PIL import Image

from monai_ext.commands.comparison import compare, figures, runs
from monai_ext.commands.comparison.results import METRICS, read_results
from monai_ext.data import near_duplicates
from monai_ext.data.device.cache_file import read_decoded, write_decoded
from monai_ext.data.device.decoded_set import DecodedSet
from monai_ext.data.raters.cases import read_rater_case
from monai_ext.data.raters.decoding import DecodeRaters
from monai_ext.data.raters.images import rater_image_items
from monai_ext.data.raters.masks import read_rater_mask
from monai_ext.data.raters.predictions import PredictionKinds
from monai_ext.data.raters.writer import RaterWriter
from monai_ext.data.tiles import fetch as tile_fetch
from monai_ext.data.tiles.grid import TileArea, TileSource
from monai_ext.data.tiles.images import read_tile
from monai_ext.data.tiles.listing import tile_items
from monai_ext.handlers.training.checkpoints import STATE_KEYS, _load_state
from monai_ext.handlers.training.weights import load_checkpoint, load_weights
from monai_ext.networks.backbones import read_weights
from monai_ext.raster import gdal as raster_gdal
from monai_ext.raster.images import image_size, read_image
from monai_ext.raster.masks import read_mask
from monai_ext.raster.nifti import read_nifti
from monai_ext.raster.opening import open_raster, written_by
from monai_ext.raster.partial_rows import PartialRows

SIZE = (20, 28)


class Target(NamedTuple):
    """A file to mutate, what it holds when whole, and what reads it."""

    path: Path
    seeds: Sequence[bytes]
    calls: Sequence[Callable[[], object]]
    mutators: Sequence[Mutator]


def pictures(folder: Path, suffix: str, seeds: Sequence[bytes], *further: Mutator) -> Target:
    path = folder / f"a{suffix}"
    truth = folder / "truth.png"
    if suffix == ".png":
        Image.fromarray(np.eye(*SIZE, dtype=np.uint8) * 255).save(truth)
    kinds = PredictionKinds(True, (1,), ())
    item = {"id": "a", "case": "a", "task": 1, "image": str(path), "label": [str(truth)], "raters": [1]}

    def damaged() -> None:  # it lists damaged tiles instead of raising
        tile_fetch._look_for(folder / "a")

    def rows() -> list[np.ndarray]:
        with closing(open_raster(path)) as raster:
            height = min(raster.info.size[0], 4096)
            return [np.array(raster.rows(top, min(top + 8, height))) for top in range(0, height, 8)]

    calls = [
        lambda: image_size(path),
        lambda: read_image(path),
        lambda: read_image(path, spatial_size=(8, 8), draft=True),
        lambda: read_mask(path, spatial_size=(8, 8)),
        lambda: read_tile(path),
        lambda: written_by(path),
        damaged,
        lambda: figures._picture(path, "L"),
        rows,
    ]
    if suffix == ".png":
        calls += [
            lambda: read_rater_case(item, {("probability", 0): (path,), ("seg", 1): (path,)}, kinds),
            lambda: read_rater_case(item | {"label": [str(path)]}, None, kinds),
        ]
    return Target(path, seeds, calls, (mutate_bytes, mutate_head, *further))


def saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    content = io.BytesIO()
    picture.save(content, kind, **options)
    return content.getvalue()


def picture_targets(folder: Path) -> Iterator[Target]:
    rng = np.random.default_rng(0)
    colour = Image.fromarray(rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8))
    grey, wide = colour.convert("L"), Image.fromarray(rng.integers(0, 65536, SIZE, dtype=np.uint16))
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    jpegs = [saved(colour, "JPEG", exif=exif), saved(grey, "JPEG", progressive=True, dpi=(72, 72)),
             saved(colour.convert("CMYK"), "JPEG", comment=b"monai_ext_upscale=ab")]  # fmt: skip
    pngs = [saved(colour, "PNG"), saved(wide, "PNG"), saved(colour.convert("P"), "PNG", transparency=3),
            saved(grey.convert("1"), "PNG"), saved(colour.convert("RGBA"), "PNG", exif=exif)]  # fmt: skip
    tiffs = [saved(colour, "TIFF"), saved(wide, "TIFF"), saved(colour, "TIFF", compression="tiff_lzw"),
             saved(colour, "TIFF", compression="tiff_adobe_deflate", exif=exif),
             saved(Image.fromarray(rng.random(SIZE, dtype=np.float32)), "TIFF")]  # fmt: skip
    yield pictures(folder, ".jpg", jpegs)
    yield pictures(folder, ".png", pngs, mutate_png_chunk, mutate_png_chunk)
    yield pictures(folder, ".tif", [*tiffs, *geotiffs(folder)])
    yield pictures(folder, ".webp", [saved(colour, "WEBP"), saved(colour.convert("RGBA"), "WEBP", lossless=True)])
    yield pictures(folder, ".gif", [saved(colour.convert("P"), "GIF"), saved(grey, "GIF")])
    yield pictures(folder, ".bmp", [saved(colour, "BMP"), saved(grey, "BMP"), saved(grey.convert("1"), "BMP")])
    yield pictures(folder, ".ppm", [saved(colour, "PPM"), saved(grey, "PPM")])
    yield pictures(folder, ".tga", [saved(colour, "TGA"), saved(colour, "TGA", compression="tga_rle")])


def geotiffs(folder: Path) -> list[bytes]:
    if not raster_gdal.available():
        return []
    import rasterio

    seeds, path = [], folder / "geo.tif"
    place = {"crs": "EPSG:32618", "transform": rasterio.Affine(0.5, 0, 4e5, 0, -0.5, 4.3e6), "nodata": 0}
    kinds = (
        ("uint8", 4, {"compress": "deflate", "tiled": True, "blockxsize": 16, "blockysize": 16}),
        ("uint16", 2, {"compress": "lzw"}),
        ("float32", 1, {}),
    )
    for dtype, count, options in kinds:
        shape = {"driver": "GTiff", "height": SIZE[0], "width": SIZE[1], "count": count, "dtype": dtype}
        with rasterio.open(path, "w", **shape, **place, **options) as dataset:
            dataset.write(np.arange(count * SIZE[0] * SIZE[1]).reshape(count, *SIZE).astype(dtype))
        seeds.append(path.read_bytes())
    path.unlink()
    return seeds


def nifti_targets(folder: Path) -> Iterator[Target]:
    rng = np.random.default_rng(1)
    arrays = [
        (rng.random(SIZE) > 0.5).astype(np.uint8),
        rng.integers(-1000, 1000, (*SIZE, 3)).astype(np.int16),
        rng.random((*SIZE, 1)).astype(np.float32),
    ]
    images = [nib.Nifti1Image(array, np.eye(4)) for array in arrays]
    images[1].header.set_slope_inter(0.5, 3)
    images.append(nib.Nifti2Image(arrays[0], np.eye(4)))
    mask = folder / "mask.nii"
    nib.save(images[0], mask)
    for suffix, mutators in (
        (".nii", (mutate_bytes, mutate_head, mutate_head)),
        (".nii.gz", (mutate_bytes, mutate_gzipped, mutate_gzipped, mutate_gzipped)),
    ):
        path = folder / f"image{suffix}"
        seeds = [image.to_bytes() for image in images]
        if suffix.endswith(".gz"):
            seeds = [gzip.compress(seed, compresslevel=1, mtime=0) for seed in seeds]
        item = {"id": "a", "case": "a", "image": str(path), "label": [str(mask), None], "raters": [1, 2], "task": 1}
        files = {("probability", 0): (path,), ("seg", 1): (path,)}
        writer = RaterWriter(folder / "written")
        yield Target(
            path,
            seeds,
            [
                lambda path=path: read_nifti(path),
                lambda path=path: read_nifti(path, slice_index=0),
                lambda path=path: read_rater_mask(path),
                lambda item=item: DecodeRaters(spatial_size=(8, 8), normalise="minmax")(item),
                lambda item=item: DecodeRaters(dtype=torch.int16)(item | {"label": [item["image"]], "slice": 0}),
                lambda item=item, files=files: read_rater_case(item, files, PredictionKinds(True, (1,), ())),
                lambda item=item, writer=writer: writer.write_masks(item, torch.zeros(2, *SIZE)),
            ],
            mutators,
        )


def dicom_targets(folder: Path) -> Iterator[Target]:
    if importlib.util.find_spec("pydicom") is None:
        return
    rng, path = np.random.default_rng(2), folder / "image.dcm"
    seeds = []
    for pixels in (rng.integers(-1000, 1000, SIZE, dtype=np.int16), rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)):
        seeds.append(write_slice(path, pixels, RescaleIntercept=-1024).read_bytes())
    item = {"id": "a", "case": "a", "image": str(path), "task": 1}
    calls = [
        lambda: read_nifti(path),
        lambda: read_nifti(path.parent),
        lambda: rater_image_items(path.parent),
        lambda: DecodeRaters(spatial_dims=3, spacing=(9, 9, 9), channel_axis=2)(item),
    ]
    yield Target(path, seeds, calls, (mutate_bytes, mutate_head, mutate_head))


def checkpoint_targets(folder: Path) -> Iterator[Target]:
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    optimizer = torch.optim.Adam(network.parameters())
    state = dict.fromkeys(STATE_KEYS, 0) | {"objects": {"network": network.state_dict(), "o": optimizer.state_dict()}}
    seeds = []
    for content, options in (
        (network.state_dict(), {}),
        (state, {}),
        (network.state_dict(), {"_use_new_zipfile_serialization": False}),
    ):
        packed = io.BytesIO()
        torch.save(content, packed, **options)
        seeds.append(packed.getvalue())
    path = folder / "last.pt"
    calls = [lambda: load_checkpoint(path), lambda: _load_state(path), lambda: load_weights(network, path)]
    calls.append(lambda: read_weights(path))
    yield Target(path, seeds, calls, (mutate_bytes, mutate_bytes, mutate_zip_record))


def cache_targets(folder: Path) -> Iterator[Target]:
    tensors = {"image": torch.zeros(3, 2, 4, 4, dtype=torch.uint8), "label": torch.ones(3, 1, 4, 4)}
    other = {"image": torch.zeros(1, 2, 5, 4, dtype=torch.uint8), "label": torch.ones(1, 1, 5, 4)}
    path = folder / "decoded-0.safetensors"
    write_decoded(path, "print", DecodedSet(list("abcd"), [0, 1, 2, 4], [tensors, other], [[0, 1, 3], [2]]))

    def every_tensor() -> object:
        decoded = read_decoded(path, "print")
        groups = [{key: tensor.clone() for key, tensor in group.items()} for group in decoded.groups]  # not mapped
        return [decoded.ids, decoded.kept, groups, decoded.members]

    yield Target(path, [path.read_bytes()], [every_tensor], (mutate_bytes, mutate_head, *[mutate_decoded_header] * 3))
    kept = folder / "folds-0.npz"
    np.savez(kept, groups=np.array([0, 0, 1, 2]), areas=np.array([0.1, 0.2, np.nan, 0.4]))
    yield Target(kept, [kept.read_bytes()], [lambda: near_duplicates._load(kept, 4)], (mutate_bytes, mutate_zip_record))


def comparison_targets(folder: Path) -> Iterator[Target]:
    out = folder / "out"
    settings = {"folds": 2, "dataset": {"cases": 4, "ids_sha256": "0"}, "configs": {"train.json": {"lr": 0.1}}}
    for loss in ("bce", "dice"):
        for fold in range(2):
            run = out / loss / f"fold{fold}_seed0"
            (run / "evaluation").mkdir(parents=True)
            head = ",".join(["id", *METRICS, "group", "image_path", "label_path"])
            line = ",".join(["0.5"] * len(METRICS))
            lines = [f"case{case},{line},g{case % 3},image.png,mask.png" for case in range(fold, 8, 2)]
            (run / "evaluation" / "cases.csv").write_text("\n".join([head, *lines]) + "\n")
            (run / "epochs.csv").write_text("epoch,train_loss,val_mean_dice,seconds\n1,0.5,0.5,3\n2,0.4,,3\n")
            record = {"loss": loss, "fold": fold, "seed": 0, "seconds": 1.5, "versions": {"torch": "2"}}
            (run / "finished.json").write_text(json.dumps(record))
            (run / "started.json").write_text(json.dumps({"settings": settings, "versions": {}}))
    (out / "plan.json").write_text(json.dumps({"losses": ["bce", "dice"], "folds": 2, "seeds": [0], "command": "x"}))
    record = {"setting": "lr", "values": ["1", "2"], "dice": {"bce": [0.5, 0.6]}, "chosen": {"bce": "2"}}
    (out / "search.json").write_text(json.dumps(record))
    (out / "completed.json").write_text("1")
    chosen = out / "bce" / "fold0_seed0"
    read = [lambda: read_results(out)]
    check = [lambda: compare._check_settings(out, lambda _: settings)]
    done = [lambda: runs._completed(out / "completed.json", 2)]
    for path, calls in (
        (chosen / "finished.json", read),
        (out / "plan.json", read),
        (out / "search.json", read),
        (chosen / "started.json", check),
        (out / "completed.json", done),
    ):
        yield Target(path, [path.read_bytes()], calls, (mutate_bytes, mutate_json, mutate_json))
    for path in (chosen / "evaluation" / "cases.csv", chosen / "epochs.csv"):
        yield Target(path, [path.read_bytes()], read, (mutate_bytes, mutate_csv, mutate_csv))


def tile_targets(folder: Path) -> Iterator[Target]:
    for name in ("a.png", "b.png"):
        (folder / "tiles").mkdir(exist_ok=True)
        Image.new("L", (4, 4)).save(folder / "tiles" / name)
    path = folder / "tiles" / "manifest.csv"
    seed = b"file,place\na.png,here\nb.png,there\n"
    yield Target(path, [seed], [lambda: tile_items(folder / "tiles")], (mutate_bytes, mutate_csv))
    (folder / "area" / "1" / "0").mkdir(parents=True)
    (folder / "area" / "1" / "0" / "0.png").touch()
    source, area = TileSource("https://tiles.org/{z}/{x}/{y}.png"), TileArea(1, 2, 3, 4, zoom=3)
    record = {"source": source.public_template, "bbox": [1, 2, 3, 4], "zoom": 2, "attribution": None}
    path = folder / "area" / tile_fetch.ATTRIBUTION_FILE
    calls = [lambda: tile_fetch._records(folder / "area", source, area)]
    yield Target(path, [json.dumps({"areas": [record]}).encode()], calls, (mutate_bytes, mutate_json, mutate_json))
    target = folder / "rows.png"
    shape = {"planes": 3, "width": 4, "dtype": np.uint8, "fingerprint": "work"}
    with PartialRows(target, **shape) as rows:
        rows.append(np.zeros((3, 2, 4), np.uint8))
    path = folder / ".rows.png.partial.json"
    kept = (folder / ".rows.png.partial").read_bytes()

    def go_on() -> None:
        (folder / ".rows.png.partial").write_bytes(kept)
        rows = PartialRows(target, **shape, resume=True)
        assert 0 <= rows.rows <= 2
        rows._file.close()

    yield Target(path, [path.read_bytes()], [go_on], (mutate_bytes, mutate_json, mutate_json))

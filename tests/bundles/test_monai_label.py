"""The segmentation bundles under the calls that a MONAI Label server makes."""

from __future__ import annotations

import json
import shutil
import sys
import types
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.bundle import ConfigParser
from monai_label_calls import InferTask, train
from PIL import Image

from monai_ext.handlers.training.served import KEPT
from monai_ext.phantoms.lesions import write_lesion_phantoms
from monai_ext.phantoms.raters import write_rater_phantoms
from monai_ext.runtime.errors import explain

BUNDLES = Path(__file__).parents[2] / "bundles"
SEGMENTATION = ("lesion_unet", "prob_unet", "qubiq_holistic")


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms")
    write_lesion_phantoms(folder / "lesion_unet", count=6, size=(48, 64))
    write_rater_phantoms(folder / "prob_unet", count=6, size=(64, 48))
    return folder


@pytest.fixture
def app(tmp_path, monkeypatch) -> Path:
    """The folder of models of a server, in whose process the bundles are run."""
    monkeypatch.setitem(sys.modules, "monailabel", types.ModuleType("monailabel"))
    for name in SEGMENTATION:
        shutil.copytree(BUNDLES / name, tmp_path / name)
    return tmp_path


def pairs_of(bundle: str, phantoms: Path) -> list[dict[str, str]]:
    if bundle == "lesion_unet":
        images = sorted((phantoms / bundle / "images").iterdir())
        masks = sorted((phantoms / bundle / "masks").iterdir())
    else:
        cases = sorted((phantoms / "prob_unet/Training").glob("case*"))
        images = [case / "image.nii.gz" for case in cases]
        masks = [case / "task01_seg01.nii.gz" for case in cases]
    return [{"image": str(image), "label": str(mask)} for image, mask in zip(images, masks, strict=True)]


@pytest.mark.parametrize("bundle", SEGMENTATION)
def test_monai_label_finds_what_its_bundle_tasks_read(bundle):
    parsers = {kind: ConfigParser(read(BUNDLES / bundle / f"configs/{kind}.json")) for kind in ("train", "inference")}
    keys = "bundle_root device network network_def train#trainer#max_epochs train#dataset#data train#handlers"
    assert not [key for key in [*keys.split(), "validate#dataset#data"] if key not in parsers["train"]]
    assert all(isinstance(each, dict) and each.get("_target_") for each in parsers["train"]["train#handlers"])
    wanted = ("network_def", "preprocessing", "postprocessing", "inferer", "device")
    assert not [key for key in wanted if key not in parsers["inference"]]
    for key in ("preprocessing", "postprocessing"):  # their transforms are taken out one by one
        assert parsers["inference"][key]["_target_"] == "monai.transforms.Compose"


@pytest.mark.parametrize("bundle", SEGMENTATION)
def test_a_picture_and_a_volume_file_give_the_same_label_map_where_the_image_lies(bundle, app, phantoms, tmp_path):
    task = InferTask(app / bundle)
    assert list(task.labels.values()) == [1] and "background" not in task.labels
    first = Path(pairs_of(bundle, phantoms)[0]["image"])
    if bundle == "lesion_unet":
        pixels = np.asarray(Image.open(first).convert("RGB"))
    else:
        voxels = np.asarray(nib.load(first).dataobj, dtype=float).squeeze().T
        pixels = np.round(255 * (voxels - voxels.min()) / np.ptp(voxels)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    affine = np.array([[0, -2.0, 0, 5], [3, 0, 0, 6], [0, 0, 1, 7], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(np.swapaxes(pixels, 0, 1)[:, :, None], affine), tmp_path / "a.nii.gz")

    picture, nowhere = task(tmp_path / "a.png")
    volume, place = task(tmp_path / "a.nii.gz")
    assert picture.shape == pixels.shape[:2] and picture.dtype == np.uint8 and nowhere is None
    assert set(np.unique(picture)) == {0, 1}
    assert volume.shape == (1, *pixels.shape[:2]) and np.array_equal(place, affine)
    assert np.mean(volume[0] == picture) > 0.97  # views turn, and sums of floats have an order


@pytest.mark.parametrize("bundle", ["lesion_unet", "prob_unet"])
def test_training_twice_serves_what_was_learnt(bundle, app, phantoms):
    root, hook = app / bundle, sys.excepthook
    shipped = (root / "models/model.pt").read_bytes()
    seen = {shipped}
    for number in (1, 2):
        train(root, pairs_of(bundle, phantoms), max_epochs=1, spatial_size=[32, 32])
        seen.add((root / "models/model.pt").read_bytes())
        records = [read(path) for path in root.glob("runs/*/run.json")]
        assert [record["status"] for record in records] == ["finished"] * number
        assert all(record["data"]["train"]["items"] == 5 for record in records)  # fewer than a batch
    assert len(seen) == 3 and (root / "models" / KEPT).read_bytes() == shipped
    assert sys.excepthook is hook  # the server's own
    InferTask(root)(Path(pairs_of(bundle, phantoms)[0]["image"]))


def test_one_mask_of_each_image_is_refused_where_each_rater_has_a_head(app, phantoms):
    with pytest.raises(RuntimeError, match="Failed to evaluate") as caught:
        train(app / "qubiq_holistic", pairs_of("qubiq_holistic", phantoms), max_epochs=1, spatial_size=[32, 32])
    assert "MONAI Label keeps one mask of each image" in str(explain(caught.value))

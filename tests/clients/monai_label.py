"""A MONAI Label server with each segmentation bundle, on this machine: inference over HTTP, training twice, inference.

`make monai_label` runs it in an environment of its own (MONAI Label needs torchvision, several GB). It is no part of
`make test`, in which `tests/support/monai_label_calls.py` makes the calls that the server makes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

import nibabel as nib
import numpy as np
import requests
import SimpleITK as sitk
import torch
from PIL import Image

from monai_ext.phantoms.lesions import write_lesion_phantoms
from monai_ext.phantoms.raters import write_rater_phantoms

ROOT = Path(__file__).parents[2]
BUNDLES = ("lesion_unet", "prob_unet", "qubiq_holistic")
START_S, ANSWER_S = 180, 900


class Server:
    """MONAI Label's bundle app with one of our bundles."""

    def __init__(self, bundle: str, folder: Path, port: int):
        self.bundle, self.folder, self.address = bundle, folder, f"http://127.0.0.1:{port}"
        app = Path(sys.prefix) / "monailabel/sample-apps/monaibundle"
        shutil.copytree(app, folder / "app")
        shutil.copytree(ROOT / "bundles" / bundle, folder / "app/model" / bundle)
        self.models = folder / "app/model" / bundle / "models"
        options = {"models": bundle, "zoo_source": "local", "sam2": "false"}
        command = [sys.executable, "-m", "monailabel.main", "start_server", "--app", folder / "app", "--studies",
                   folder / "studies", "--host", "127.0.0.1", "--port", str(port),
                   *(word for name, value in options.items() for word in ("--conf", name, value))]  # fmt: skip
        self.log = (folder / "server.log").open("w")
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(command, env=environment, stdout=self.log, stderr=self.log, cwd=folder)

    def __enter__(self) -> Server:
        end = time.monotonic() + START_S
        while True:
            try:
                self.info = requests.get(f"{self.address}/info/", timeout=10).json()
                return self
            except requests.RequestException:
                if self.process.poll() is not None or time.monotonic() > end:
                    self.__exit__()
                    raise SystemExit(f"the server did not start: see {self.log.name}") from None
                time.sleep(1)

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait()
        self.log.close()

    def infer(self, picture: Path) -> Path:
        """The label map that the server answers with, as NIfTI."""
        with picture.open("rb") as file:
            answer = requests.post(
                f"{self.address}/infer/{self.bundle}?output=image",
                files={
                    "params": (None, json.dumps({"device": "cpu", "result_extension": ".nii.gz"}), "application/json"),
                    "file": (picture.name, file),
                },
                timeout=ANSWER_S,
            )
        assert answer.status_code == 200, f"{picture.name}: HTTP {answer.status_code}, see {self.log.name}"
        place = self.folder / f"answer_{picture.name}.nii.gz"
        place.write_bytes(answer.content)
        return place

    def train(self) -> requests.Response:
        wanted = {"device": "cpu", "max_epochs": 1, "val_split": 0.25}
        return requests.post(f"{self.address}/train/{self.bundle}?run_sync=true", json=wanted, timeout=ANSWER_S)

    def has_logged(self, text: str) -> bool:
        """Whether the text is in the log within ten seconds: it is written after the answer."""
        for _ in range(20):
            if text in Path(self.log.name).read_text(encoding="utf-8"):
                return True
            time.sleep(0.5)
        return False

    def finished(self, runs: int) -> None:
        """Wait until so many runs have ended; a server answers before its training has."""
        end = time.monotonic() + ANSWER_S
        while time.monotonic() < end:
            records = [json.loads(path.read_text()) for path in self.models.parent.glob("runs/*/run.json")]
            if sum(record["status"] == "finished" for record in records) == runs:
                return
            time.sleep(1)
        raise AssertionError(f"no {runs} runs are finished: see {self.log.name}")


def studies_of(bundle: str, folder: Path) -> list[Path]:
    """Eight pictures with a label each in a new data store, and the first of them in four formats."""
    store, data = folder / "studies", folder / "data"
    labels = store / "labels/final"
    labels.mkdir(parents=True)
    if bundle == "lesion_unet":
        write_lesion_phantoms(data, count=8)
        pictures = sorted((data / "images").glob("*.*"))
        for picture in pictures:
            mask = next((data / "masks").glob(f"{picture.stem}*"))
            shutil.copy(picture, store)
            shutil.copy(mask, labels / f"{picture.stem}{mask.suffix}")
        pixels = np.asarray(Image.open(pictures[0]).convert("RGB"))
    else:
        write_rater_phantoms(data, count=8)
        cases = sorted((data / "Training").glob("case*"))
        for case in cases:
            shutil.copy(case / "image.nii.gz", store / f"{case.name}.nii.gz")
            shutil.copy(case / "task01_seg01.nii.gz", labels / f"{case.name}.nii.gz")
        stored = np.asarray(nib.load(cases[0] / "image.nii.gz").dataobj, dtype=float).squeeze()
        pixels = np.round(255 * (stored - stored.min()) / np.ptp(stored)).astype(np.uint8).T
    return in_formats(pixels, folder)


def in_formats(pixels: np.ndarray, folder: Path) -> list[Path]:
    """The pixels (H, W[, 3]) as .png, .jpg, .nii.gz and .nrrd, these two turned and away from the origin."""
    volume = sitk.GetImageFromArray(pixels[None], isVector=pixels.ndim == 3)
    volume.SetSpacing((0.5, 0.25, 2.0))
    volume.SetOrigin((3.0, -4.0, 5.0))
    volume.SetDirection((-1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, -1.0))
    paths = [folder / f"picture{suffix}" for suffix in (".png", ".jpg", ".nii.gz", ".nrrd")]
    Image.fromarray(pixels).save(paths[0])
    Image.fromarray(pixels).save(paths[1], quality=98)
    sitk.WriteImage(volume, str(paths[3]))
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.array(
        [[-0.5, 0, 0, 3.0], [0, 0.25, 0, -4.0], [0, 0, -2.0, 5.0], [0, 0, 0, 1]]
    )
    columns_first = np.swapaxes(pixels, 0, 1)[:, :, None]
    nib.save(nib.Nifti1Image(columns_first, affine), paths[2])
    return paths


def check(bundle: str, folder: Path, port: int) -> list[str]:
    """Everything in turn; returns lines of a table."""
    pictures = studies_of(bundle, folder)
    lines = []
    with Server(bundle, folder, port) as server:
        labels = server.info["models"][bundle]["labels"]
        assert list(labels.values()) == [1], labels
        lines.append(f"/info: labels {labels}")
        masks = {}
        for picture in pictures:
            mask = sitk.ReadImage(str(server.infer(picture)))
            values = sitk.GetArrayFromImage(mask).squeeze()
            assert set(np.unique(values)) <= {0, 1} and 0 < values.mean() < 0.9, (picture, values.mean())
            masks[picture.suffix] = values
            if picture.suffix == ".nrrd":
                image = sitk.ReadImage(str(picture))
                for place in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
                    assert np.allclose(getattr(mask, place)(), getattr(image, place)()), place
            same = np.mean(values == masks[".png"])
            assert values.shape == masks[".png"].shape and same > 0.98, (picture, same)
            lines.append(f"{picture.name}: foreground {values.mean():.1%}, {same:.2%} of the pixels as of the PNG")
        if bundle == "qubiq_holistic":
            answer = server.train()
            assert answer.status_code == 500 and server.has_logged("keeps one mask of each image"), server.log.name
            return [*lines, "training: refused with a sentence, since there is one mask of each image"]
        seen = {digest(server.models / "model.pt")}
        for runs in (1, 2):
            assert server.train().status_code == 200, f"see {server.log.name}"
            server.finished(runs)
            seen.add(digest(server.models / "model.pt"))
            assert len(seen) == runs + 1, "the weights are those of before"
            values = sitk.GetArrayFromImage(sitk.ReadImage(str(server.infer(pictures[0])))).squeeze()
            changed = np.mean(values != masks[".png"])
            lines.append(f"training {runs}: weights served, {changed:.2%} of the pixels changed")
    return lines


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundles", nargs="*", default=BUNDLES)
    parser.add_argument("--port", type=int, default=8123)
    options = parser.parse_args()
    print(f"monailabel {metadata.version('monailabel')}, torch {torch.__version__}, Python {sys.version.split()[0]}")
    for bundle in options.bundles or BUNDLES:
        folder = Path(tempfile.mkdtemp(prefix=f"monai_label_{bundle}_"))
        print(f"{bundle}\n  " + "\n  ".join(check(bundle, folder, options.port)), flush=True)
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()

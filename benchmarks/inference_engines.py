"""Engines for inference: passes of the shipped networks, and the whole command `predict` for lesion_unet.

Engines that are not installed are left out, with a line that names them.

python -m benchmarks.inference_engines
python -m benchmarks.inference_engines --pictures 0
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import torch

from monai_ext.commands.bundles.network import load_bundle_network
from monai_ext.engines import autocast, autocast_dtype, inference_network
from monai_ext.phantoms.lesions import write_lesion_phantoms

CPU = torch.device("cpu")
BUNDLES = Path(__file__).parents[1] / "bundles"
WAYS = (
    ("torch", "fp32"),
    ("torch", "bf16"),
    ("onnxruntime", "fp32"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
)
# What one pass of `predict` or `upscale` has, unless told otherwise.
PASSES = {
    "lesion_unet": (8, 3, 96, 128),
    "prob_unet": (8, 1, 96, 96),
    "qubiq_holistic": (8, 1, 128, 128),
    "srgan_aerial": (1, 3, 160, 160),
}
FEW = 8  # pictures of the run that shows what the start costs


def pass_ms(bundle: str, ways: list[tuple[str, str]], rounds: int) -> list[float]:
    """The least CPU time of one pass, ms, of each engine and precision in turn."""
    network, _ = load_bundle_network(BUNDLES / bundle)
    images = torch.rand(PASSES[bundle])
    least = [float("inf")] * len(ways)
    networks = [inference_network(network.float(), *way).to(memory_format=torch.channels_last) for way in ways]  # type: ignore[call-overload]
    with torch.inference_mode():
        for turn in range(rounds + 1):
            for number, (engine, precision) in enumerate(ways):
                laid_out = images if engine != "torch" else images.contiguous(memory_format=torch.channels_last)
                with autocast(CPU, autocast_dtype(CPU, precision) if engine == "torch" else None):
                    start = time.process_time()
                    networks[number](laid_out)
                    spent = time.process_time() - start
                least[number] = min(least[number], spent) if turn else least[number]
    return [1e3 * seconds for seconds in least]


def command_seconds(engine: str, precision: str, pictures: Path, folder: Path) -> float:
    """CPU time of the whole command, at five sizes."""
    words = ["predict", str(BUNDLES / "lesion_unet"), str(pictures), str(folder)]
    words += ["--engine", engine, "--precision", precision, "--scales", "[0.75, 0.875, 1, 1.125, 1.25]"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-W", "ignore", "-m", "monai_ext", *words], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pictures", type=int, default=100, help="of the command; 0: passes alone")
    parser.add_argument("--rounds", type=int, default=7, help="passes of each network and engine")
    parser.add_argument("--no_bfloat16", action="store_true", help="leave it out, as on CPUs without it")
    options = parser.parse_args()
    missing = sorted({engine for engine, _ in WAYS if find_spec(engine) is None})
    if missing:
        print(f"left out: {', '.join(missing)} (pip install onnx {' '.join(missing)})\n")
    ways = [way for way in WAYS if way[0] not in missing and not (options.no_bfloat16 and way[1] == "bf16")]
    print("| network, one pass | " + " | ".join(f"{engine}, {precision}" for engine, precision in ways) + " |")
    print("|---|" + "--:|" * len(ways))
    for bundle, shape in PASSES.items():
        spent = pass_ms(bundle, ways, options.rounds)
        print(f"| `{bundle}`, {' x '.join(map(str, shape))} | " + " | ".join(f"{ms:.0f} ms" for ms in spent) + " |")
    if not options.pictures:
        return
    print("\n| engine | start | each picture |\n|---|--:|--:|")
    with tempfile.TemporaryDirectory() as place:
        few, many = (Path(place, f"{count}") for count in (FEW, FEW + options.pictures))
        for folder in (few, many):
            write_lesion_phantoms(folder, count=int(folder.name), size=(192, 256))
        os.environ["MONAI_EXT_CACHE"] = place
        for engine, precision in ways:
            command_seconds(engine, precision, few / "images", Path(place, "out"))  # which keeps the exported network
            first, second = (
                command_seconds(engine, precision, folder / "images", Path(place, "out")) for folder in (few, many)
            )
            each = (second - first) / options.pictures
            print(f"| {engine}, {precision} | {first - FEW * each:.1f} s | {1e3 * each:.0f} ms |", flush=True)


if __name__ == "__main__":
    main()

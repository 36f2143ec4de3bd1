"""`page`: one HTML file that segments pictures in the browser, with the network of a bundle and ONNX Runtime in it."""

from __future__ import annotations

import base64
import gzip
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from monai.bundle import ConfigParser
from monai.transforms import NormalizeIntensityd, ToTensord
from torch import Tensor, nn

from monai_ext.commands.bundles.network import load_bundle_network
from monai_ext.commands.bundles.shipped import find_bundle
from monai_ext.commands.command_line import Computed, Positional
from monai_ext.commands.rendering import render
from monai_ext.data import DecodeImaged, DecodeRaterImages
from monai_ext.engines import RaterInferer
from monai_ext.handlers.training.identity import settings_of_run
from monai_ext.inferers import TTAInferer
from monai_ext.networks.multi_rater import MapSampler
from monai_ext.networks.onnx_files import need_onnx, onnx_bytes
from monai_ext.runtime.errors import one_line
from monai_ext.runtime.run_log import tell
from monai_ext.storage.files import atomic_path
from monai_ext.storage.records import read_record
from monai_ext.transforms import AdaptiveThresholdd

__all__ = ["ONNXRUNTIME_WEB", "PageOptions", "page_of_bundle", "run", "runtime_files"]

ONNXRUNTIME_WEB = "1.30.0"  # the version that the page was tried with
SCRIPT = "ort.wasm.bundle.min.mjs"
RUNTIME_FILES = (SCRIPT, "ort-wasm-simd-threaded.wasm")
EXAMPLE = (64, 64)
NO_ADDRESS = '"http://localhost/"'  # where the script would look for what is handed to it
FETCH_S = 300


@dataclass(frozen=True)
class PageOptions:
    """Write a web page that segments pictures on the computer of whoever opens it.

    The page is one file, index.html, with the network, its weights in half precision and ONNX Runtime in it. It works
    from a server, such as `python -m http.server`, and when it is opened as a file; it fetches nothing and sends
    nothing. Masks and probabilities are those of `predict`, up to rounding.

    ONNX Runtime for the browser is the npm package onnxruntime-web: that of --onnxruntime_web, else of node_modules
    here, else npm fetches it.
    """

    bundle: Positional[str]
    """a bundle's folder, or the name of one of `bundles list`; one for segmentation"""
    output_dir: Path
    """folder of index.html"""
    weights: Computed[Path | None] = None
    """another file of weights (the bundle's models/model.pt)"""
    onnxruntime_web: Computed[Path | None] = None
    """folder of the npm package onnxruntime-web (node_modules/onnxruntime-web, else fetched by npm)"""


class _Draw(nn.Module):
    """Maps of the heads, (1, heads, H, W) -> share of raters (1, 1, H, W) and masks (1, n, H, W) as probabilities."""

    def __init__(self, network: MapSampler, samples: int):
        super().__init__()
        self.network, self.samples = network, samples

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        share = self.network.share(maps)
        return share, maps if self.network.per_rater else self.network.draw(maps, self.samples)


def page_of_bundle(bundle: Path, runtime: Mapping[str, bytes], weights: Path | None = None) -> str:
    """The page as text.

    Args:
        runtime: `RUNTIME_FILES` by name.
        weights: other weights than the bundle's own, with the settings of their run.

    Raises:
        ValueError: the bundle predicts in a way that the page does not support.
    """
    network, _ = load_bundle_network(bundle, weights)
    parser = _config(bundle, weights or bundle / "models" / "model.pt")
    inferer = parser.get_parsed_content("inferer")
    models = {}
    if isinstance(inferer, TTAInferer):
        settings = _photograph_settings(parser, inferer)
        channels = 3
    elif isinstance(inferer, RaterInferer):
        settings = _rater_settings(parser, inferer, network)
        channels = settings["channels"]
        heads = network(torch.zeros(1, channels, *settings["size"])).sigmoid()
        draw = _Draw(cast(MapSampler, network), inferer.samples).eval()
        models["draw"] = onnx_bytes(draw, heads, outputs=("share", "masks"), free=())
    else:
        raise ValueError(
            f"the page predicts as TTAInferer and RaterInferer do, and the bundle '{bundle}' by "
            f"{type(inferer).__name__}: choose one that segments pictures by these, such as lesion_unet."
        )
    models["network"] = onnx_bytes(network, torch.zeros(1, channels, *EXAMPLE), half=True)
    file = bundle / "configs" / "metadata.json"
    metadata = read_record(file, dict[str, Any], way_out="take it from the bundle again")
    outputs = metadata.get("network_data_format", {}).get("outputs", {}).get("pred", {}).get("channel_def", {})
    settings["object"] = str(outputs.get("1", "object"))
    return render(
        "segment.html",
        title=f"{bundle.resolve().name}: {settings['object']} in your picture",
        bundle=bundle.resolve().name,
        about=str(metadata.get("description", "")),
        use=str(metadata.get("intended_use", "")),
        version=str(metadata.get("version", "")),
        settings=settings,
        runtime_version=ONNXRUNTIME_WEB,
        files={
            "runtime-script": _packed(_as_classic_script(runtime[SCRIPT])),
            "runtime-wasm": _packed(runtime[RUNTIME_FILES[1]]),
            **{name: _packed(content) for name, content in models.items()},
        },
    )


def _config(bundle: Path, weights: Path) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs" / "inference.json"))
    parser["bundle_root"], parser["ckpt_path"] = str(bundle), str(weights)
    parser.update(settings_of_run(weights, parser.get()))
    return parser


def _transforms(parser: ConfigParser) -> list[Any]:
    return list(parser.get_parsed_content("preprocessing").transforms)


def _photograph_settings(parser: ConfigParser, inferer: TTAInferer) -> dict[str, Any]:
    """What the page needs to predict as a config with `TTAInferer` does."""
    transforms = _transforms(parser)
    kinds = [DecodeImaged, NormalizeIntensityd, ToTensord]
    if [type(each) for each in transforms] != kinds or transforms[0].spatial_size is None or parser.get("labels"):
        raise ValueError(
            "the page needs photographs of a fixed spatial_size, normalised by mean and std, and one structure: "
            "predict has no such limits."
        )
    decode, normalise, _ = transforms
    size = decode.spatial_size
    unit = inferer.spatial_size or size
    return {
        "kind": "photograph",
        "size": list(size),
        "subtract": _numbers(normalise.normalizer.subtrahend),
        "divide": _numbers(normalise.normalizer.divisor),
        "sizes": [[max(1, round(scale * side)) for side in unit] for scale in inferer.scales],
        "flips": [[], *([dim - 2 for dim in dims] for dims in inferer.flips)],  # 0: up-down, 1: left-right
        "threshold": float(parser.get_parsed_content("threshold")),
        "temperature": float(parser.get_parsed_content("chosen_temperature")),
        "adaptive": _adaptive(parser),
        "one_object": bool(parser.get_parsed_content("single_lesion")),
    }


def _adaptive(parser: ConfigParser) -> dict[str, float] | None:
    """The numbers of the config's `AdaptiveThresholdd`; None where there is none, or it is off."""
    transforms = parser.get_parsed_content("postprocessing").transforms
    for each in transforms:
        if isinstance(each, AdaptiveThresholdd) and each.enabled:
            return {"gain": each.gain, "tolerance": each.tolerance, "at_most": each.at_most}
    return None


def _rater_settings(parser: ConfigParser, inferer: RaterInferer, network: nn.Module) -> dict[str, Any]:
    """What the page needs to predict as a config with `RaterInferer` does."""
    (decode,) = _transforms(parser)
    if not isinstance(decode, DecodeRaterImages) or decode.spatial_size is None or decode.spatial_dims != 2:
        raise ValueError("the page needs pictures of a fixed spatial_size: predict has no such limit.")
    if decode.clicks or isinstance(decode.centre, Mapping):
        raise ValueError("the page has no channels of clicks and no table of centres: use predict.")
    if inferer.window is not None or parser.get_parsed_content("structures"):
        raise ValueError("the page predicts a picture as a whole, and one structure: predict has no such limits.")
    if not isinstance(network, MapSampler):
        raise ValueError(
            f"the page has no noise, which {type(network).__name__} draws its samples from: use predict, or weights of "
            "the methods ordered, soft_label, heads, majority."
        )
    names = [f"sample {number + 1}" for number in range(inferer.samples)]
    if network.per_rater:
        names = [f"rater {number}" for number in parser.get_parsed_content("raters")]
    return {
        "kind": "raters",
        "size": list(decode.spatial_size),
        "channels": decode.in_channels,
        "window": decode.window,
        "normalise": decode.normalise,
        "percentiles": list(decode.percentiles),
        "zoom": decode.zoom,
        "centre": decode.centre,
        "symmetries": [[int(symmetry.turns), bool(symmetry.flip)] for symmetry in inferer.symmetries],
        "names": names,
        "threshold": 0.5,
        "temperature": inferer.temperature,
    }


def _numbers(values: Any) -> list[float]:
    return [float(value) for value in values]


def _as_classic_script(module: bytes) -> bytes:
    """A JavaScript module as a script that defines `ort`: from a file, browsers load no modules.

    Raises:
        ValueError: it is another module than that of onnxruntime-web.
    """
    text = module.decode()
    exports = re.search(r"export\s*\{([^}]*)\};?", text)
    if exports is None:
        raise ValueError(f"{SCRIPT} has no list of exports: take onnxruntime-web {ONNXRUNTIME_WEB}.")
    names = (each.split(" as ") for each in exports[1].split(","))
    found = ",".join(f"{public.strip()}:{own.strip()}" for own, public in names)
    body = text[: exports.start()].replace("import.meta.url", NO_ADDRESS)
    return f"const ort = (() => {{{body}\nreturn {{{found}}};\n}})();\n".encode()


def _packed(content: bytes) -> str:
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode()


def runtime_files(folder: Path | None) -> dict[str, bytes]:
    """The files of onnxruntime-web that the page holds, from its folder, else from node_modules here, else by npm.

    Raises:
        ValueError: they are not there, or npm is missing or fails.
    """
    local = Path("node_modules", "onnxruntime-web")
    if folder is None and local.is_dir():
        folder = local
    if folder is not None:
        places = [folder / "dist", folder]
        place = next((each for each in places if all((each / name).is_file() for name in RUNTIME_FILES)), None)
        if place is None:
            raise ValueError(
                f"'{folder}' is no folder of onnxruntime-web, which has {', '.join(RUNTIME_FILES)} in dist: give "
                "--onnxruntime_web the folder that npm made, node_modules/onnxruntime-web."
            )
        return {name: (place / name).read_bytes() for name in RUNTIME_FILES}
    npm = shutil.which("npm")
    package = f"onnxruntime-web@{ONNXRUNTIME_WEB}"
    if npm is None:
        raise ValueError(
            f"the page needs the npm package {package}, and npm is not installed: install Node.js, or fetch the "
            "package elsewhere and give its folder by --onnxruntime_web."
        )
    tell(f"npm fetches {package} (33 MB)")
    with tempfile.TemporaryDirectory() as temporary:
        words = [npm, "pack", "--silent", "--pack-destination", temporary, package]
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=FETCH_S, cwd=temporary)
        except subprocess.TimeoutExpired:
            raise ValueError(f"npm did not fetch {package} within {FETCH_S} s: try again.") from None
        archives = [name for name in os.listdir(temporary) if name.endswith(".tgz")]
        if done.returncode or not archives:
            raise ValueError(
                f"npm could not fetch {package} ({one_line(ValueError(done.stderr or 'no answer'))}): fetch it "
                "elsewhere and give its folder by --onnxruntime_web."
            )
        with tarfile.open(Path(temporary, archives[0])) as archive:
            members = {name: archive.extractfile(f"package/dist/{name}") for name in RUNTIME_FILES}
            return {name: file.read() for name, file in members.items() if file is not None}


def run(options: PageOptions) -> int:
    """`python -m monai_ext page`."""
    bundle = find_bundle(options.bundle)
    need_onnx()  # before anything is fetched
    page = page_of_bundle(bundle, runtime_files(options.onnxruntime_web), options.weights)
    path = options.output_dir / "index.html"
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    size = path.stat().st_size / 1e6
    print(f"wrote '{path}' ({size:.1f} MB): open it, or serve it: python -m http.server -d {options.output_dir}")
    return 0

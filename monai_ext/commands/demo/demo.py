"""`demo`: training, evaluation and inference of a bundle on phantoms, and a page of the results."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from monai_ext.commands.bundles import run_commands
from monai_ext.commands.bundles.run_commands import bundle_command, typed
from monai_ext.commands.bundles.shipped import bundle_folder
from monai_ext.commands.demo.page import DemoRun
from monai_ext.commands.html import html_page
from monai_ext.runtime.run_log import tell
from monai_ext.storage.files import write_text
from monai_ext.storage.records import read_record

__all__ = ["DemoOptions", "demo", "run"]


@dataclass(frozen=True)
class DemoOptions:
    """Train, evaluate and apply a bundle on phantoms drawn on the fly, and write a page of the results.

    Each step is an ordinary bundle run, printed as it is started, so that it can be typed with other data.
    """

    bundle: Path = Path("bundles/lesion_unet")
    """the bundle's folder, or the name of one that is shipped"""
    output_dir: Path = Path("demo/lesion_unet")
    """phantoms, run and page"""
    volumes: bool = False
    """volumes in place of pictures, for bundles with overlays volumes.json and demo_volumes.json"""


class DemoError(ValueError):
    """A step of the demo failed, or the bundle's demo.json is incomplete."""


def demo(bundle: str | Path, output_dir: str | Path, *, volumes: bool = False) -> Path:
    """Run the demo of `bundle` into `output_dir` and return its page, `output_dir/index.html`.

    A demo that was interrupted goes on where it stopped; a finished one is only shown anew.

    Args:
        volumes: see `DemoOptions`.

    Raises:
        FileNotFoundError: the bundle has no configs/demo.json, or none for volumes.
        DemoError: a step failed.
    """
    bundle, output_dir = bundle_folder(bundle), Path(output_dir)
    configs = bundle / "configs"
    if not (configs / "demo.json").is_file():
        raise FileNotFoundError(f"no configs/demo.json in the bundle '{bundle}': give --bundle a bundle's folder.")
    overlays = ["volumes.json", "demo_volumes.json"] if volumes else []
    for name in overlays:
        if not (configs / name).is_file():
            raise FileNotFoundError(f"the bundle '{bundle}' has no configs/{name}: leave out --volumes.")
    content = read_record(configs / "demo.json", dict[str, Any], way_out="take it from the bundle again")
    if missing := {"page", "phantom_images"} - content.keys():
        raise DemoError(f"'{configs / 'demo.json'}' has no {min(missing)}: it names the demo's page and its images.")
    parser = ConfigParser(content)
    phantoms, training, inference = output_dir / "phantoms", output_dir / "training", output_dir / "inference"
    parser["dataset_dir"] = str(phantoms)
    shared = {"bundle_root": bundle, "dataset_dir": phantoms, "output_dir": training}
    steps = {
        "training": _command(configs, ["train.json", "demo.json", *overlays], {**shared, "resume": "true"}),
        "evaluation": _command(configs, ["train.json", "demo.json", *overlays, "evaluate.json"], shared),
        "inference": _command(
            configs,
            ["inference.json", "demo_inference.json"],
            {
                "bundle_root": bundle,
                "dataset_dir": parser.get_parsed_content("phantom_images"),
                "output_dir": inference,
                "ckpt_path": training / "model.pt",
            },
        ),
    }
    if (configs / "calibrate.json").is_file():
        steps["calibration"] = _command(configs, ["train.json", "demo.json", "calibrate.json"], shared)
    seconds = {name: _timed(name, command) for name, command in steps.items()}
    commands = {name: typed(command) for name, command in steps.items()}
    blocks = parser.get_parsed_content("page")(DemoRun(configs, output_dir, commands, seconds))
    page = output_dir / "index.html"
    write_text(page, html_page(blocks, title=f"Demo of {bundle.name}"))
    return page


def _command(configs: Path, files: Sequence[str], choices: Mapping[str, object]) -> tuple[str, ...]:
    return bundle_command([configs / name for name in files if (configs / name).is_file()], choices)


def _timed(name: str, command: Sequence[str]) -> float:
    tell(f"\n== {name}: {typed(command)}")
    start = time.perf_counter()
    if run_commands.execute(command):
        raise DemoError(f"the demo's {name} failed: its message stands above, its command is\n  {typed(command)}")
    return time.perf_counter() - start


def run(options: DemoOptions) -> int:
    """`python -m monai_ext demo`."""
    page = demo(options.bundle, options.output_dir, volumes=options.volumes)
    tell(f"\nthe demo's page: {page.resolve()}")
    return 0

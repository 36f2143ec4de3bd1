"""`many_hr build | check | show`: data sets of low-resolution images with many high-resolution targets each."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast

import torch
from torch import Tensor, nn

from monai_ext.commands.bundles.network import load_bundle_network
from monai_ext.commands.command_line import Computed, Positional, arg
from monai_ext.commands.datasets.many_hr_sheet import contact_sheet
from monai_ext.data.many_hr.build import build_many_hr
from monai_ext.data.many_hr.captures import add_captures
from monai_ext.data.many_hr.card import Credit
from monai_ext.data.many_hr.check import check_many_hr
from monai_ext.data.many_hr.format import INDEX_FILE, ManyHrError
from monai_ext.data.many_hr.plan import ManyHrSettings
from monai_ext.data.tiles.listing import tile_items
from monai_ext.data.tiles.pixel_scale import find_scale
from monai_ext.data.tiles.survey import usable_tiles
from monai_ext.runtime.run_log import tell
from monai_ext.storage.files import atomic_path
from monai_ext.storage.pictures import save_picture
from monai_ext.transforms.degradation import Degradation

__all__ = ["BuildOptions", "CheckOptions", "NetworkSampler", "ShowOptions", "build", "check", "show"]

SHOWN_PROBLEMS = 5


@dataclass(frozen=True)
class BuildOptions:
    """Make a data set of low-resolution images with many high-resolution targets each.

    The same command goes on after a kill.
    """

    tiles: Path
    """folder of tiles"""
    output_dir: Path
    """folder of the data set"""
    records: int = 1000
    """low-resolution images"""
    settings: ManyHrSettings = ManyHrSettings()
    scale: int = 4
    """how many times larger the targets are"""
    blur: float = 0.0
    """of the operator, in high-resolution pixels; 0 for none"""
    dates: Computed[Annotated[Path | None, arg(metavar="CSV")]] = None
    """file, footprint, date of tiles (their names)"""
    bundle: Computed[Path | None] = None
    """bundle whose network makes the kind 'sampled'"""
    weights: Computed[Path | None] = None
    """of that network (models/model.pt of the bundle)"""
    range: Computed[Annotated[tuple[float, float] | None, arg(metavar="LOW HIGH")]] = None
    """pixel values that become 0 and 255 (those of 8 bits; found from the values of deeper tiles, with a note)"""
    nodata: Computed[float | None] = None
    """value that marks missing pixels (what tiles declare, or a value found far from all others)"""
    no_alpha: bool = False
    """a band tagged as alpha is a band like others"""
    block: int = 8
    """tiles along a side of a place"""
    jobs: int = 1
    """threads; the bytes do not depend on their number"""
    name: str = Credit().name
    """of the data set"""
    licence: Computed[str | None] = None
    """of the tiles, recorded in the data card"""
    creator: Computed[str | None] = None
    """whom to credit"""
    url: Computed[str | None] = None
    """where the data set will lie"""
    published: Computed[Annotated[str | None, arg(metavar="YYYY-MM-DD")]] = None
    """date of publication"""


@dataclass(frozen=True)
class CheckOptions:
    """Check the sums of all files of a data set, and measure every gap again."""

    folder: Positional[Path]
    """folder of the data set"""


@dataclass(frozen=True)
class ShowOptions:
    """Draw a contact sheet of a data set."""

    folder: Positional[Path]
    """folder of the data set"""
    output: Computed[Annotated[Path | None, arg(metavar="PNG")]] = None
    """picture (FOLDER/contact_sheet.png)"""
    records: tuple[str, ...] = ("6",)
    """names of records, or how many"""


class NetworkSampler:
    """Samples of a network on the CPU, one record at a time.

    Args:
        network: has `sample(low_res, n, generator=...)` -> (B, n, C, H, W), or is called with the low-resolution image
            and is deterministic; values in [0, 1].
        identity: names its weights.

    Attributes:
        varied: whether it has `sample`.
    """

    def __init__(self, network: nn.Module, identity: str):
        self.network, self.identity = network.eval(), identity
        self.varied = hasattr(network, "sample")
        self._lock = threading.Lock()  # drawing weights changes the network for a while

    @torch.no_grad()
    def __call__(self, low_res: Tensor, count: int, generator: torch.Generator) -> Tensor:
        with self._lock:
            if self.varied:
                return cast(Any, self.network).sample(low_res, count, generator=generator)[0]
            return self.network(low_res).expand(count, -1, -1, -1)


def build(options: BuildOptions) -> int:
    """`python -m monai_ext many_hr build`."""
    sampler = None
    if options.bundle is not None and "sampled" in options.settings.kinds:
        sampler = NetworkSampler(*load_bundle_network(options.bundle, options.weights))
    elif options.weights is not None:
        raise ValueError("--weights belongs to --bundle, and to the kind 'sampled'.")
    items = tile_items(options.tiles, block=options.block)
    scale = find_scale(items, intensity_range=options.range, nodata=options.nodata, no_alpha=options.no_alpha)
    usable = usable_tiles(items, bands=options.settings.bands, scale=scale, whole=True)
    index = build_many_hr(
        add_captures(usable, options.dates),
        options.output_dir,
        degradation=Degradation(options.scale, blur=options.blur),
        records=options.records,
        settings=options.settings,
        sampler=sampler,
        scale=scale,
        credit=Credit(options.name, options.licence, options.creator, options.url, options.published),
        jobs=options.jobs,
    )
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in index.kinds.items())
    tell(f"{options.output_dir / INDEX_FILE}: {index.records:,} records, {index.targets:,} images ({kinds})")
    return 0


def check(options: CheckOptions) -> int:
    """`python -m monai_ext many_hr check`."""
    report = check_many_hr(options.folder)
    tell(f"{report.records:,} records, {report.targets:,} images measured again")
    for kind, psnr in report.lowest_psnr.items():
        tell(
            f"  {kind:9s} LR-PSNR at least {psnr:.2f} dB, largest gap {report.largest_gap[kind]:.3f} levels, "
            f"{report.differing[kind]:,} pixels differ after rounding"
        )
    if report.problems:
        shown = "\n  ".join(report.problems[:SHOWN_PROBLEMS])
        more = len(report.problems) - SHOWN_PROBLEMS
        raise ManyHrError(
            f"{options.folder} is not whole, {len(report.problems)} problem(s); building it again mends damaged "
            f"shards:\n"
            f"  {shown}" + (f"\n  and {more} more" if more > 0 else "")
        )
    tell(f"all files and measures agree with the records; targets differ by {report.nearest:.2f} levels at least")
    return 0


def show(options: ShowOptions) -> int:
    """`python -m monai_ext many_hr show`."""
    names = options.records
    records = int(names[0]) if len(names) == 1 and names[0].isdecimal() and len(names[0]) < 6 else names
    path = options.output or options.folder / "contact_sheet.png"
    sheet = contact_sheet(options.folder, records)
    with atomic_path(path) as temporary:
        save_picture(sheet, temporary)
    tell(f"{path}: {sheet.width} x {sheet.height} pixels")
    return 0

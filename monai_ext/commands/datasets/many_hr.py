"""One low-resolution image, many high-resolution ones: build such a data set from tiles, check it, look at it."""

from __future__ import annotations

import argparse
import logging
import sys
import threading
from pathlib import Path

import torch
from torch import Tensor, nn

from monai_ext.commands.bundles.network import load_bundle_network
from monai_ext.commands.datasets.many_hr_sheet import contact_sheet
from monai_ext.data.many_hr.build import build_many_hr
from monai_ext.data.many_hr.captures import add_captures
from monai_ext.data.many_hr.card import Credit
from monai_ext.data.many_hr.check import check_many_hr
from monai_ext.data.many_hr.format import INDEX_FILE, KINDS, ManyHrError
from monai_ext.data.many_hr.plan import ManyHrSettings
from monai_ext.data.tiles.listing import tile_items
from monai_ext.storage.files import atomic_path
from monai_ext.transforms.degradation import Degradation

__all__ = ["NetworkSampler", "add_arguments", "run"]

SHOWN_PROBLEMS = 5
DEFAULTS = ManyHrSettings()


class NetworkSampler:
    """Samples of a network on the CPU, one record at a time.

    Args:
        network: has `sample(low_res, n, generator=...)` -> (B, n, C, H, W), or is called with the low-resolution image
            and always answers alike; values in [0, 1].
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
                return self.network.sample(low_res, count, generator=generator)[0]
            return self.network(low_res).expand(count, -1, -1, -1)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m monai_ext many-hr`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    build = actions.add_parser("build", help="make the data set; the same command goes on after a kill")
    build.add_argument("--tiles", type=Path, required=True, metavar="DIR", help="folder of 8-bit tiles")
    build.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of the data set")
    build.add_argument("--records", type=int, default=1000, help="low-resolution images (%(default)d)")
    build.add_argument("--hr", type=int, default=DEFAULTS.targets, help="exact answers to each (%(default)d)")
    build.add_argument("--scale", type=int, default=4, help="times the answers are larger (%(default)d)")
    build.add_argument("--blur", type=float, default=0.0, help="of the operator, in high-resolution pixels (none)")
    build.add_argument("--size", type=int, default=DEFAULTS.size, help="side of the answers, pixels (%(default)d)")
    build.add_argument("--seed", type=int, default=DEFAULTS.seed, help="of all that is drawn (%(default)d)")
    kinds = {"choices": KINDS[1:], "help": "provenance classes (all; sampled only with --model)"}
    build.add_argument("--kinds", nargs="+", default=DEFAULTS.kinds, **kinds)
    build.add_argument("--captures", type=int, default=DEFAULTS.captures, help="other dates at most (%(default)d)")
    build.add_argument("--dates", type=Path, metavar="CSV", help="file, footprint, date of tiles (else: their names)")
    build.add_argument("--model", type=Path, metavar="BUNDLE", help="bundle whose network makes the kind 'sampled'")
    build.add_argument("--weights", type=Path, help="of that network (default: models/model.pt of the bundle)")
    build.add_argument("--bands", nargs="+", type=int, default=DEFAULTS.bands, help="of the tiles, from 1 (1 2 3)")
    build.add_argument("--agreement", type=float, default=DEFAULTS.agreement, help="of patches, levels (%(default)g)")
    build.add_argument("--block", type=int, default=8, help="tiles along a side of a place (%(default)d)")
    shares = {"type": float, "help": "share of the tiles (%(default)g; 0: none)"}
    build.add_argument("--test-fraction", default=DEFAULTS.test_fraction, **shares)
    build.add_argument("--validation-fraction", default=DEFAULTS.validation_fraction, **shares)
    build.add_argument("--split-seed", type=int, default=DEFAULTS.split_seed, help="of the parts (%(default)d)")
    build.add_argument("--jobs", type=int, default=1, help="threads (%(default)d); the bytes do not depend on it")
    build.add_argument("--name", default=Credit().name, help="of the data set (%(default)s)")
    build.add_argument("--licence", help="of the tiles, recorded in the data card")
    build.add_argument("--creator", help="whom to credit")
    build.add_argument("--url", help="where the data set will lie")
    build.add_argument("--published", metavar="YYYY-MM-DD", help="date of publication")
    check = actions.add_parser("check", help="check sums, and measure every gap again")
    check.add_argument("folder", type=Path, metavar="DIR", help="folder of the data set")
    show = actions.add_parser("show", help="a contact sheet, PNG")
    show.add_argument("folder", type=Path, metavar="DIR", help="folder of the data set")
    show.add_argument("--output", type=Path, metavar="PNG", help="picture (DIR/contact_sheet.png)")
    show.add_argument("--records", nargs="+", metavar="NAME", help="names of records, or how many (6)", default=["6"])


def run(args: argparse.Namespace) -> int:
    """`python -m monai_ext many-hr`: exit status 0; errors are raised."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    return {"build": _build, "check": _check, "show": _show}[args.action](args)


def _build(args: argparse.Namespace) -> int:
    sampler = None
    if args.model is not None and "sampled" in args.kinds:
        sampler = NetworkSampler(*load_bundle_network(args.model, args.weights))
    elif args.weights is not None:
        raise ValueError("--weights belongs to --model, and to the kind 'sampled'.")
    settings = ManyHrSettings(
        targets=args.hr,
        size=args.size,
        kinds=tuple(args.kinds),
        captures=args.captures,
        seed=args.seed,
        bands=tuple(args.bands),
        agreement=args.agreement,
        test_fraction=args.test_fraction,
        validation_fraction=args.validation_fraction,
        split_seed=args.split_seed,
    )
    index = build_many_hr(
        add_captures(tile_items(args.tiles, block=args.block), args.dates),
        args.output,
        degradation=Degradation(args.scale, blur=args.blur),
        records=args.records,
        settings=settings,
        sampler=sampler,
        credit=Credit(args.name, args.licence, args.creator, args.url, args.published),
        jobs=args.jobs,
    )
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in index.kinds.items())
    sys.stderr.write(f"{args.output / INDEX_FILE}: {index.records:,} records, {index.targets:,} images ({kinds})\n")
    return 0


def _check(args: argparse.Namespace) -> int:
    report = check_many_hr(args.folder)
    sys.stderr.write(f"{report.records:,} records, {report.targets:,} images measured again\n")
    for kind, psnr in report.lowest_psnr.items():
        sys.stderr.write(
            f"  {kind:9s} LR-PSNR at least {psnr:.2f} dB, largest gap {report.largest_gap[kind]:.3f} levels, "
            f"{report.differing[kind]:,} pixels differ after rounding\n"
        )
    if report.problems:
        shown = "\n  ".join(report.problems[:SHOWN_PROBLEMS])
        more = len(report.problems) - SHOWN_PROBLEMS
        raise ManyHrError(
            f"{args.folder} is not whole, {len(report.problems)} problem(s); building it again mends damaged shards:\n"
            f"  {shown}" + (f"\n  and {more} more" if more > 0 else "")
        )
    sys.stderr.write(f"all files and measures are as told; answers differ by {report.nearest:.2f} levels at least\n")
    return 0


def _show(args: argparse.Namespace) -> int:
    names = args.records
    records = int(names[0]) if len(names) == 1 and names[0].isdecimal() and len(names[0]) < 6 else names
    path = args.output or args.folder / "contact_sheet.png"
    sheet = contact_sheet(args.folder, records)
    with atomic_path(path) as temporary:
        sheet.save(temporary)
    sys.stderr.write(f"{path}: {sheet.width} x {sheet.height} pixels\n")
    return 0

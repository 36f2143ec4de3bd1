"""The commands that are not a bundle run: `monai_ext demo | compare | report | score | ...`."""

from __future__ import annotations

import importlib
import inspect
import logging
import os
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, get_type_hints

from monai_ext import __version__
from monai_ext.runtime.errors import WAYS_ON, report_errors_in_one_sentence, tell_interrupted
from monai_ext.runtime.run_log import keep_log, set_quiet

__all__ = ["COMMANDS", "Command", "examples", "main"]


class Command(NamedTuple):
    """A function of `monai_ext.commands` of one argument, `options`, imported only when its command is typed.

    It returns the exit status. One with a second argument, `further`, also gets the words that are none of its options.
    """

    function: str
    summary: str
    examples: tuple[str, ...]
    keeps_log: bool = False  # in the option `output_dir`, of commands that take long
    way_on: str = "the same command begins again"  # after an interrupt

    def load(self) -> tuple[Callable[..., int], type]:
        """The function, and the dataclass of its options."""
        module, _, name = self.function.partition(":")
        function = getattr(importlib.import_module(f"monai_ext.commands.{module}"), name)
        return function, get_type_hints(function)["options"]


SAME_AGAIN = "the same command goes on from what is there"
COMMANDS = {
    "demo": Command(
        "demo.demo:run",
        "train, evaluate and apply a bundle on phantoms, and write a page of the results",
        ("demo --bundle bundles/lesion_unet --output_dir demo/lesion_unet",),
        keeps_log=True,
        way_on=SAME_AGAIN,
    ),
    "train": Command(
        "bundles.short_runs:train",
        "train a bundle on your data; the bundle command that does it is shown",
        ("train lesion_unet --data ISIC2017 --encoder_weights imagenet --output_dir runs/lesion",),
    ),
    "evaluate": Command(
        "bundles.short_runs:evaluate",
        "score a trained run on the cases that were held out, or on other data",
        ("evaluate runs/lesion",),
    ),
    "predict": Command(
        "bundles.short_runs:predict",
        "apply a trained bundle to a file or a folder",
        (
            "predict lesion_unet PICTURES segmented --overlays true",
            "predict lesion_unet PICTURES segmented_by_mine --ckpt_path runs/lesion/final.pt",
            "predict srgan_aerial orthophoto.tif orthophoto_x4.tif",
        ),
    ),
    "bundles list": Command(
        "bundles.catalogue:show",
        "the bundles that come with the package, or those of a folder or an address",
        ("bundles list",),
    ),
    "bundles get": Command(
        "bundles.catalogue:get",
        "put a bundle into a folder, from the package, a folder of zips or an address; sums are checked",
        ("bundles get lesion_unet", "bundles get lesion_unet --source dist --output_dir downloaded"),
    ),
    "export": Command(
        "exporting.export:run",
        "the network of a bundle as ONNX, torch.export or TorchScript, compared with PyTorch",
        ("export qubiq_holistic cells.onnx --half",),
    ),
    "page": Command(
        "exporting.page:run",
        "a web page that segments pictures in the browser, offline, with nothing installed and nothing uploaded",
        ("page lesion_unet --output_dir site",),
    ),
    "compare": Command(
        "comparison.command:run",
        "compare losses over folds and seeds, one bundle run each; resumable",
        (
            "compare --bundle bundles/lesion_unet --dataset_dir ISIC2017 --output_dir runs/comparison \\\n"
            "      --losses bce dice tversky jaccard dice_bce --folds 5 --seeds 0 --encoder_weights imagenet",
            "compare --bundle bundles/lesion_unet --dataset_dir ISIC2017 --output_dir runs/comparison \\\n"
            "      --backend ray --gpus_per_run 0.5",
        ),
        keeps_log=True,
        way_on=SAME_AGAIN,
    ),
    "check": Command(
        "datasets.check:run",
        "look at a data set as a whole before anything is trained on it: masks, geometry, ranges, duplicates",
        (
            "check ISIC2017 --kind lesion --output_dir runs/check",
            "check cells --kind raters",
            "check tiles/baltimore --kind tiles",
        ),
    ),
    "convert": Command(
        "datasets.convert:run",
        "write a data set in another layout (COCO, LabelMe, a folder for each rater, ...) as one that is read here",
        ("convert annotations --output_dir converted", "convert HAM10000 --output_dir ham --layout ham10000"),
        way_on="remove the output folder, and the same command begins again",
    ),
    "report": Command(
        "comparison.report:run",
        "tables, tests and figures of a comparison",
        ("report runs/comparison",),
    ),
    "reproduce": Command(
        "bundles.reproduce:run",
        "repeat a training from its run.json into a new folder, and list what differs",
        ("reproduce runs/lesion --output_dir runs/lesion_again", "reproduce runs/lesion --dry_run"),
        way_on=SAME_AGAIN,
    ),
    "fetch_tiles": Command(
        "datasets.fetch_tiles:run",
        "map tiles of a box of longitude and latitude, from any tile server; resumable",
        ("fetch_tiles --bbox -76.62 39.28 -76.58 39.30 --zoom 16 --output_dir tiles/baltimore",),
        keeps_log=True,
        way_on=SAME_AGAIN,
    ),
    "many_hr build": Command(
        "datasets.many_hr:build",
        "make a data set of low-resolution images with many high-resolution targets each; resumable",
        ("many_hr build --tiles tiles/baltimore --output_dir many_hr --records 1000 --targets 8",),
        way_on=SAME_AGAIN,
    ),
    "many_hr check": Command(
        "datasets.many_hr:check",
        "check the sums of such a data set, and measure every gap again",
        ("many_hr check many_hr",),
    ),
    "many_hr show": Command(
        "datasets.many_hr:show", "draw a contact sheet of such a data set", ("many_hr show many_hr --records 4",)
    ),
    "upscale": Command(
        "upscaling.upscale:run",
        "upscale pictures and GeoTIFFs of any size without seams, georeference kept; resumable",
        (
            "upscale orthophoto.tif orthophoto_x4.tif --bundle bundles/srgan_aerial --resume",
            "upscale orthophoto.tif layers.tif --bundle bundles/bayesian_srgan_aerial --samples 4 --bounds "
            "--uncertainty",
        ),
        way_on="the same command with --resume goes on from the strips that are finished",
    ),
    "viewer": Command(
        "upscaling.viewer:run",
        "a page of samples, maps of uncertainty and the interval of a clicked pixel, for a part of an image",
        ("viewer tile.png tile.html --bundle bundles/bayesian_srgan_aerial --samples 8",),
    ),
    "rater_viewer": Command(
        "scoring.rater_viewer:run",
        "a page of cases with several raters: each rater, each sample or head, disagreement beside uncertainty",
        (
            "rater_viewer cells cells.html",
            "rater_viewer QUBIQ kidney.html --region kidney --part Validation --predictions predicted",
        ),
    ),
    "score": Command(
        "scoring.score:run",
        "score predictions against several raters, with the agreement of the raters beside them",
        (
            "score --predictions predicted --targets QUBIQ --region kidney --part Validation",
            "score --predictions predicted --targets cells --samples 16 --missing zero --output_dir scores",
            'score --predictions predicted --targets lidc-nodule --anonymous --group "patient\\d+" --jobs 2',
        ),
    ),
    "agreement": Command(
        "agreement.agreement:run",
        "how well raters agree, who draws how, which masks are likely wrong, how many raters a study needs",
        (
            "agreement cells --output_dir agreement/cells",
            'agreement lidc-nodule --anonymous --group "patient\\d+" --output_dir agreement/lidc',
        ),
    ),
    "consensus": Command(
        "agreement.consensus:run",
        "one mask from those of several raters, by votes or STAPLE, in the geometry of the data",
        (
            "consensus cells --output_dir consensus/cells",
            "consensus QUBIQ --region kidney --part Validation --method majority --images \\\n"
            "      --output_dir consensus/kidney",
        ),
    ),
    "rater_table": Command(
        "scoring.rater_table:run",
        "one table of methods for several raters, from the evaluations of their runs",
        (
            "rater_table runs/cells --targets cells --output_dir runs/cells/table",
            "rater_table runs/holistic runs/combined --rater_scores scores/scores.json --output_dir table",
        ),
    ),
    "qubiq": Command(
        "challenge.qubiq:run",
        "train and score every task of a challenge in the layout of QUBIQ, and write the submission; resumable",
        (
            "qubiq CHALLENGE --output_dir runs/challenge",
            'qubiq CHALLENGE --output_dir runs/challenge --regions kidney --spatial_size "[256, 256]"',
        ),
        keeps_log=True,
        way_on=SAME_AGAIN,
    ),
    "uncertainty_report": Command(
        "uncertainty.report:run",
        "what each kind of uncertainty responds to: a figure for each, from calibrated runs",
        ("uncertainty_report runs/bayesian runs/bayesian_noisy --output_dir runs/kinds",),
    ),
    "uncertainty_checks": Command(
        "uncertainty.checks:run",
        "what each kind of uncertainty responds to: small networks trained on synthetic scenes",
        ("uncertainty_checks --output_dir runs/checks",),
        keeps_log=True,
    ),
    "pack": Command(
        "bundles.pack:run",
        "pack bundles into zips with card, licence and weights, the same bytes each time",
        (
            "pack bundles/lesion_unet bundles/srgan_aerial --output_dir dist",
            "pack bundles/lesion_unet --output_dir dist --url https://example.org/weights",
        ),
    ),
    "inspect": Command(
        "bundles.inspection:run",
        "show what a bundle would execute, without executing it",
        ("inspect downloaded_bundle.zip", "inspect bundles/lesion_unet --strict"),
    ),
}
ENDING = """
`monai_ext COMMAND --help` shows the options of a command; --quiet leaves out messages and progress bars.
Exit status: 0 good, 1 an error, a failed run, or a finding; 2 wrong use, 130 interrupted.
Training, evaluation and inference are bundle runs, python -m monai.bundle run; `train`, `evaluate` and `predict` show
the whole command.
"""


def examples(name: str) -> str:
    """The examples of a command as they are typed, one or more lines."""
    return "".join(f"  python -m monai_ext {example}\n" for example in COMMANDS[name].examples)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that `arguments` type (`sys.argv`); returns its exit status."""
    try:
        try:
            return _run(arguments)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        try:
            print(flush=True)
        except BrokenPipeError:  # a program such as `head` has read enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        raise


def _run(arguments: Sequence[str] | None) -> int:
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    name = next((name for name in COMMANDS if arguments[: len(words := name.split())] == words), None)
    if name is None:
        return _without_command(arguments)
    from monai_ext.commands.command_line import Parsed, parse_options

    report_errors_in_one_sentence()
    messages = logging.StreamHandler()
    logging.basicConfig(format="%(message)s", level=logging.WARNING, handlers=[messages])
    command = COMMANDS[name]
    function, kind = command.load()
    passes_on = len(inspect.signature(function).parameters) > 1
    line: Parsed[Any] = parse_options(
        kind,
        arguments[len(name.split()) :],
        prog=f"monai_ext {name}",
        examples=examples(name),
        passes_on=passes_on,
    )
    set_quiet(line.quiet)
    package = logging.getLogger("monai_ext")
    usual = package.level
    for each in (messages, package):  # `keep_log` lowers the package's again, tqdm's handler has no level
        each.setLevel(logging.WARNING if line.quiet else logging.INFO)
    if command.keeps_log and not getattr(line.options, "dry_run", False):
        keep_log(line.options.output_dir)
    WAYS_ON.append(command.way_on)
    try:
        return function(line.options, line.further) if passes_on else function(line.options)
    except KeyboardInterrupt:
        tell_interrupted()
        return 130
    finally:
        WAYS_ON.clear()
        package.setLevel(usual)


def _without_command(arguments: Sequence[str]) -> int:
    """`--version`, `--help`, also of a family such as `many_hr`, or wrong use."""
    if arguments[:1] == ["--version"]:
        print(f"monai_ext {__version__}")
        return 0
    family = [name for name in COMMANDS if name.split()[0] in arguments[:1]]
    asks = not arguments or set(arguments) & {"-h", "--help"}
    if not asks and not family:
        sys.stderr.write(f"monai_ext: error: no command {arguments[0]!r}: monai_ext --help lists them\n")
        return 2
    out = sys.stdout if asks and arguments else sys.stderr
    out.write("usage: monai_ext COMMAND [OPTIONS]\n\n")
    for name in family or COMMANDS:
        first, *rest = textwrap.wrap(COMMANDS[name].summary, 94)
        out.write(f"  {name:<20}{first}\n" + "".join(f"{'':22}{line}\n" for line in rest))
    out.write("\nexamples:\n" + "".join(examples(name) for name in family or COMMANDS) + ENDING)
    return 0 if asks and arguments else 2


if __name__ == "__main__":
    sys.exit(main())

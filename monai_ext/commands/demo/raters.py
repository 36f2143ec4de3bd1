"""The demo's page for bundles with several raters: heads against raters, uncertainty against disagreement."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from monai_ext.commands.demo.page import WAY_OUT, DemoRun, command_blocks, read_table, read_training
from monai_ext.commands.demo.rater_figures import (
    RaterCase,
    matrix_figure,
    outline_figure,
    rater_curve_figure,
    slice_figure,
)
from monai_ext.commands.html import Block, Heading, Link, Picture, Table, Text
from monai_ext.commands.scoring.rater_viewer import rater_scene, write_rater_viewer
from monai_ext.data import qubiq_items, read_nifti
from monai_ext.data.raters.masks import binary_mask
from monai_ext.data.raters.predictions import rater_predictions
from monai_ext.runtime.run_log import tell
from monai_ext.storage.pictures import save_figure
from monai_ext.storage.records import read_record

__all__ = ["rater_blocks", "rater_conclusions"]

SHOWN_CASES = 4
SHARES = {  # of one: printed in per cent
    "qubiq_score": "QUBIQ score",
    "dice": "Dice with each rater",
    "dice_consensus": "Dice with the majority vote",
    "hungarian_iou": "Hungarian IoU",
    "dice_max": "Dice of the best sample for each rater",
    "ece": "Expected calibration error",
}
NUMBERS = {
    "generalized_energy_distance": "Energy distance squared",
    "sample_diversity": "Diversity of the samples",
    "rater_diversity": "Diversity of the raters",
    "uncertainty_ncc": "Correlation of uncertainty and disagreement",
}


class _Styles(msgspec.Struct):
    """phantoms.json, as far as the page shows it."""

    raters: dict[str, str]


def rater_conclusions(summary: Mapping[str, Any], names: Mapping[int, str]) -> list[str]:
    """What the demo claims, each with its numbers, true or not.

    Args:
        summary: of `RaterReport`.
        names: of the raters by number.
    """
    table = summary["heads_by_raters"]
    lines = []
    if table is not None:
        rows = _filled(table)
        labels = [names[number] for number in summary["raters"]]
        width = max(map(len, labels))
        lines.append(f"{_matches(rows)} Mean Dice (%):")
        lines.append(" " * (width + 10) + "".join(f"{name[:12]:>14}" for name in labels))
        lines += [
            f"  head of {label:<{width}}" + "".join(f"{100 * value:>14.1f}" for value in row)
            for label, row in zip(labels, rows, strict=True)
        ]
    scores = summary["scores"]
    lines.append(
        f"correlation of predicted uncertainty and raters' disagreement: {_mean(scores, 'uncertainty_ncc'):.2f}"
    )
    lines.append(
        f"mean Dice with each rater {100 * _mean(scores, 'dice'):.1f} %, of raters with each other "
        f"{100 * _mean(scores, 'rater_agreement'):.1f} %; energy distance squared "
        f"{_mean(scores, 'generalized_energy_distance'):.3f} at {summary['samples']} samples"
    )
    return lines


def _filled(table: list) -> NDArray[np.float64]:
    return np.array([[math.nan if value is None else value for value in row] for row in table])


def _matches(table: NDArray[np.float64]) -> str:
    """How many heads are closest to their own rater, and how many raters to their own head."""
    own = np.arange(len(table))
    known = np.nan_to_num(table, nan=-1.0)
    heads, raters = (known.argmax(axis=1) == own).sum(), (known.argmax(axis=0) == own).sum()
    return (
        f"{heads} of {len(own)} heads are closest to their own rater, {raters} of {len(own)} raters are met "
        "best by their own head."
    )


def _mean(scores: Mapping[str, Mapping], name: str) -> float:
    value = scores[name]["mean"]
    return math.nan if value is None else value


def rater_blocks(run: DemoRun) -> list[Block]:
    """The page of a demo of a bundle for several raters; its conclusions go to standard error too."""
    settings, epochs, summary = read_training(run.training)
    output_dir, seconds = run.output_dir, run.seconds
    styles = read_record(output_dir / "phantoms" / "phantoms.json", _Styles, way_out=WAY_OUT).raters
    names = {int(number): style for number, style in styles.items()}
    conclusions = rater_conclusions(summary, names)
    tell("\n" + "\n".join(conclusions))
    scores, table = summary["scores"], summary["heads_by_raters"]
    cases = _shown_cases(output_dir, names)
    predicted_by = "samples" if table is None else "heads"
    blocks: list[Block] = [
        Heading("What the demo trained", level=1),
        Text(
            f"Drawn cells, each outlined by {len(names)} raters of known styles ({', '.join(names.values())}): "
            f"{settings['training_cases']} to train on, {settings['validation_cases']} to validate on. The network "
            f"({settings['method']}, {summary['parameters']:,} parameters) started from random weights and was trained "
            f"for {settings['max_epochs']} epochs in {seconds['training']:.0f} s, start-up included. Phantoms are not "
            "patients: scores on real images are in the bundle's docs/README.md."
        ),
        _score_table(summary),
    ]
    if table is not None:
        values = _filled(table)
        blocks += [
            Heading("Does each head match its own rater?"),
            Text(
                f"{_matches(values)} A rater whose hand is new in each case (ragged) can be met no better than by "
                "a smooth outline; so compare heads in one column, where the rater is the same."
            ),
            Picture(
                save_figure(matrix_figure(values, [names[n] for n in summary["raters"]]), output_dir / "heads.png"),
                "Rows: heads. Columns: raters. The diagonal should lead its row and its column.",
            ),
        ]
    blocks += [
        Heading("Cases, from least to most like the raters"),
        Text(
            "Uncertainty is where the raters part: over the validation phantoms the two maps correlate with "
            f"{_mean(scores, 'uncertainty_ncc'):.2f} (1 is perfect)."
        ),
        Picture(
            save_figure(outline_figure(cases, predicted_by=predicted_by), output_dir / "cases.png"),
            "Left to right: image, outlines of the raters, of the network, disagreement, predicted uncertainty.",
        ),
        *_slices(cases, output_dir),
        Link("All of them: each rater, each head or sample, disagreement beside uncertainty", _viewer(run).name),
        Heading("Training"),
        Picture(save_figure(_curves(epochs, names), output_dir / "curves.png"), "Averaged weights, per epoch."),
        *command_blocks(
            run, results=f"Masks and probability maps of all phantoms, as NIfTI: {output_dir / 'inference'}"
        ),
    ]
    return blocks


def _viewer(run: DemoRun) -> Path:
    """Write `viewer.html`, a page of the validation phantoms with their predictions."""
    predictions = run.training / "evaluation" / "predictions"
    items = [item for item in qubiq_items(run.output_dir / "phantoms") if (predictions / item["case"]).is_dir()]
    found = rater_predictions(predictions, items)
    scenes = [rater_scene(item, found) for item in items if item["id"] in found.files]
    return write_rater_viewer(run.output_dir / "viewer.html", scenes, title="Validation phantoms of the demo")


def _slices(cases: Sequence[RaterCase], output_dir: Path) -> list[Block]:
    """What is shown of volumes besides: the slices that the pictures leave out."""
    if any(case.by_slice is None for case in cases):
        return []
    caption = "The same volumes slice by slice; above is the slice of which the raters marked most."
    return [Picture(save_figure(slice_figure(cases), output_dir / "slices.png"), caption)]


def _score_table(summary: Mapping[str, Any]) -> Table:
    scores, rows = summary["scores"], []
    for name, title in (SHARES | NUMBERS).items():
        spread = scores[name]
        if spread["mean"] is None:
            rows.append([title, "none", ""])
        elif name in SHARES:
            rows.append([f"{title} (%)", f"{100 * spread['mean']:.1f}", f"{100 * (spread['sd'] or 0):.1f}"])
        else:
            rows.append([title, f"{spread['mean']:.3f}", f"{spread['sd'] or 0:.3f}"])
    for name, title in (("rater_agreement", "each other"), ("leave_one_out_dice", "the majority of the others")):
        spread = summary["rater_ceiling"][name]
        rows.append(
            [f"Raters: Dice with {title} (%)", f"{100 * spread['mean']:.1f}", f"{100 * (spread['sd'] or 0):.1f}"]
        )
    return Table(
        f"Scores on {summary['cases']} validation phantoms, {summary['samples']} samples each",
        ["Score", "mean", "sd over cases"],
        rows,
    )


def _shown_cases(output_dir: Path, names: Mapping[int, str]) -> list[RaterCase]:
    """Cases at equal steps from the worst to the best Dice."""
    evaluation = output_dir / "training" / "evaluation"
    ordered = sorted(read_table(evaluation / "cases.csv"), key=lambda row: float(row["dice"]))
    chosen = np.linspace(0, len(ordered) - 1, min(SHOWN_CASES, len(ordered))).round().astype(int)
    items = {item["id"]: item for item in qubiq_items(output_dir / "phantoms")}
    return [_case(items[ordered[place]["id"]], float(ordered[place]["dice"]), evaluation, names) for place in chosen]


def _case(item: Mapping, dice: float, evaluation: Path, names: Mapping[int, str]) -> RaterCase:
    raters = {names[number]: _mask(path) for number, path in zip(item["raters"], item["label"], strict=True) if path}
    share = np.mean(list(raters.values()), axis=0)
    folder = evaluation / "predictions" / item["case"]
    heads = {names[int(path.name[10:12])]: _mask(path) for path in sorted(folder.glob("task??_seg*"))}
    samples = sorted(folder.glob("task??_sample*"))[: len(raters)]
    predictions = heads or {name: _mask(path) for name, path in zip(raters, samples, strict=False)}
    case = RaterCase(
        title=f"{item['id']}\nDice {100 * dice:.1f} %",
        image=read_nifti(item["image"]),
        raters=raters,
        predictions=predictions,
        probability=read_nifti(folder / f"task{item['task']:02d}.nii.gz"),
        disagreement=share * (1 - share),
    )
    return case if share.ndim == 2 else _in_one_slice(case, int(share.sum((0, 1)).argmax()))


def _mask(path: str | Path) -> NDArray:
    return binary_mask(read_nifti(path), path)


def _in_one_slice(case: RaterCase, place: int) -> RaterCase:
    """The slice of a volume, (H, W, D), and what all slices have."""
    uncertainty = case.probability * (1 - case.probability)
    return RaterCase(
        title=f"{case.title}\nslice {place + 1} of {case.image.shape[2]}",
        image=case.image[..., place],
        raters={name: mask[..., place] for name, mask in case.raters.items()},
        predictions={name: mask[..., place] for name, mask in case.predictions.items()},
        probability=case.probability[..., place],
        disagreement=case.disagreement[..., place],
        by_slice=np.stack([case.disagreement.sum((0, 1)), uncertainty.sum((0, 1))]),
    )


def _curves(epochs: Sequence[Mapping[str, str]], names: Mapping[int, str]) -> Any:

    def column(key: str) -> NDArray[np.float64]:
        return np.array([float(row.get(key) or "nan") for row in epochs])

    wanted = {f"val_dice_rater{number:02d}": f"Dice, {name}" for number, name in names.items()}
    curves = {title: column(key) for key, title in wanted.items() if key in epochs[-1]}
    curves["QUBIQ score"] = column("val_qubiq_score")
    return rater_curve_figure(column("epoch"), column("train_loss"), curves)

"""The figures of a structure, drawn from its record and, for the few cases that are shown, from their files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from monai_ext.commands.agreement.figures import (
    CasePanel,
    case_figure,
    habit_figure,
    pair_figure,
    size_figure,
    study_figure,
)
from monai_ext.commands.agreement.records import StructureAgreement
from monai_ext.data.raters.cases import read_rater_case
from monai_ext.data.raters.images import case_image
from monai_ext.storage.pictures import save_figure

__all__ = ["draw_figures"]

DPI = 150  # for print


def draw_figures(
    structure: StructureAgreement, items: Sequence[Mapping], folder: Path, *, shown: int, pdf: bool = False
) -> dict[str, Path]:
    """Write the figures of a structure as PNG, and as PDF if that is wanted; paths of the PNG by name."""
    by_id = {str(item["id"]): item for item in items}
    figures = {}
    raters = structure.raters
    if len(raters) > 2 and structure.pairs:
        for name, title in (("dice", "Mean Dice"), ("hd95", f"Mean HD95, {structure.unit}")):
            table = np.full((len(raters), len(raters)), np.nan)
            for pair in structure.pairs:
                i, j = raters.index(pair.first), raters.index(pair.second)
                mean = pair.scores[name].mean
                table[i, j] = table[j, i] = np.nan if mean is None else mean
            if not np.isnan(table).all():
                figures[f"pairs_{name}"] = pair_figure(table, raters, title=title)
    if structure.habits:
        habits = {name: [entry.habits[name] for entry in structure.habits] for name in structure.habits[0].habits}
        figures["habits"] = habit_figure(habits, raters)
    dice, share = (
        np.array([np.nan if value is None else value for value in column])
        for column in zip(*((c.scores["dice"], c.share) for c in structure.disagreement), strict=True)
    )
    figures["sizes"] = size_figure(dice, share)
    worst = [
        _panel(by_id[entry.case], structure, f"{entry.case}\nDice {entry.scores['dice']:.2f}")
        for entry in structure.disagreement[:shown]
        if entry.scores["dice"] is not None
    ]
    if worst:
        figures["disagreement"] = case_figure(worst)
    suspects = [
        _panel(
            by_id[entry.case],
            structure,
            f"{entry.case}, rater {entry.rater}" if structure.habits else entry.case,
            suspect=entry.rater,
        )
        for entry in structure.suspects[:shown]
    ]
    if suspects:
        figures["suspects"] = case_figure(suspects)
    if structure.study is not None:
        figures["study"] = study_figure(structure.study)
    paths = {}
    for name, figure in figures.items():
        path = folder / f"task{structure.task:02d}_{name}.png"
        paths[name] = save_figure(figure, path, dpi=DPI)
        if pdf:
            save_figure(figure, path.with_suffix(".pdf"), dpi=DPI)
    return paths


def _panel(item: Mapping, structure: StructureAgreement, title: str, *, suspect: int | None = None) -> CasePanel:
    case = read_rater_case(item)
    masks = (case.masks != 0).numpy()
    image = case_image(item, masks.shape[1:]).mean(0)
    if masks.ndim == 4:
        place = _slice(masks, None if suspect is None else structure.raters.index(suspect))
        masks, image, title = masks[..., place], image[..., place], f"{title}, slice {place}"
    word = "rater" if structure.habits else "mask"  # of raters who are other persons in each case
    names = {number: f"{word} {number}" for number in structure.raters}
    return CasePanel(
        title=title,
        image=image,
        masks={names[n]: m for n, m, here in zip(structure.raters, masks, case.presence, strict=True) if here},
        suspect=None if suspect is None else names[suspect],
    )


def _slice(masks: NDArray[np.bool_], suspect: int | None) -> int:
    """Of the third axis: where the suspect marks most, else where raters disagree most."""
    if suspect is not None and masks[suspect].any():
        return int(masks[suspect].sum((0, 1)).argmax())
    votes = masks.sum(0)
    split = (votes * (len(masks) - votes)).sum((0, 1))
    return int((split if split.any() else votes.sum((0, 1))).argmax())

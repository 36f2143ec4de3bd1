"""The content of scores.json as a page: Markdown by `markdown_page`, or aligned text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from monai_ext.commands.html import Block, Heading, Table, Text
from monai_ext.commands.scoring.case_scores import HEAD_SCORES, MAP_SCORES, SET_SCORES
from monai_ext.commands.scoring.records import Scores, Statistic, Summary, TaskScores
from monai_ext.runtime.errors import some_of

__all__ = ["score_blocks", "text_page"]

LABELS = {name: score.label for name, score in (MAP_SCORES | SET_SCORES | HEAD_SCORES).items()}
NOT_SHOWN = ("confidence",)  # orders cases; its mean has no meaning
NONE = "-"
FEW_CASES = 20
HEADER = ("Score", "Better", "Mean", "95 % interval", "Raters", "95 % interval", "Cases")


def score_blocks(content: Scores) -> list[Block]:
    """Heading, facts and tables of each task, of all tasks together, and how the numbers are made."""
    blocks: list[Block] = [Heading("Scores against several raters", 1)]
    for task in content.tasks:
        blocks += _task_blocks(task, content.settings)
    if content.all_tasks is not None:
        together = content.all_tasks
        blocks.append(Heading("All tasks"))
        rows = _score_rows(together.scores)
        blocks.append(Table(f"Each of {together.cases} cases as the mean of its tasks", HEADER, rows))
    return [*blocks, Heading("How the numbers are made"), _method(content.settings)]


def _task_blocks(task: TaskScores, settings: Mapping) -> list[Block]:
    rows = _score_rows(task.scores)
    confidence = task.scores["confidence"]
    rows.append(("AURC, risk 1 - Dice", "lower", _number(task.aurc), NONE, NONE, NONE, str(confidence.cases)))
    agreement = task.rater_agreement
    rows.append(("Pairwise Dice of raters", "", NONE, NONE, *_mean(agreement), str(agreement.cases)))
    blocks: list[Block] = [Heading(f"Task {task.task}"), Text(*_facts(task, settings))]
    blocks.append(Table(_caption(task, settings), HEADER, rows))
    own = [name for name in task.scores if name.startswith("dice_rater")]
    if own:
        blocks.append(_rater_table(task.scores, own))
        blocks.append(_head_table(task))
    return blocks


def _caption(task: TaskScores, settings: Mapping) -> str:
    return f"Mean over cases, distances in {task.distance_unit}; the map is the {task.map}{_of_set(task, settings)}"


def _of_set(task: TaskScores, settings: Mapping) -> str:
    return f", the set {task.set} ({settings['estimator']}-statistic)" if task.set else ""


def _facts(task: TaskScores, settings: Mapping) -> list[str]:
    who = "anonymous raters" if settings["anonymous"] else "raters"
    lines = [f"{task.scored} of {task.cases} cases scored, {who} {', '.join(map(str, task.raters))}."]
    fate = "given the worst scores" if settings["missing"] == "zero" else "left out"
    for what, names in (
        (f"Without complete prediction, {fate}", list(task.missing)),
        ("Marked by nobody, left out", task.without_target),
        ("Predicted but not among the targets, passed over", task.unknown_predictions),
        ("Of another affine than the target, compared voxel by voxel all the same", task.other_affine),
    ):
        if names:
            lines.append(f"{what} ({len(names)}): {some_of(names)}.")
    if task.better_turned:
        lines.append(task.better_turned)
    if task.raters_without_head:
        lines.append(f"No mask is predicted for raters {', '.join(map(str, task.raters_without_head))}.")
    if task.heads_without_rater:
        heads = ", ".join(map(str, task.heads_without_rater))
        lines.append(f"Masks are predicted for raters {heads}, who are not among the targets: of the set alone.")
    if task.cases < FEW_CASES:
        lines.append(f"Of fewer than {FEW_CASES} cases, intervals are too narrow.")
    return lines


def _score_rows(scores: Mapping[str, Summary]) -> list[tuple[str, ...]]:
    return [
        (LABELS[name], values.better, *_mean(values), *_mean(values.raters), str(values.cases))
        for name, values in scores.items()
        if name in LABELS and name not in NOT_SHOWN
    ]


def _rater_table(scores: Mapping[str, Summary], own: Sequence[str]) -> Table:
    header = (
        "Rater",
        "Dice",
        "95 % interval",
        "Jaccard",
        "95 % interval",
        "HD95",
        "95 % interval",
        "Dice of raters",
        "95 % interval",
        "HD95 of raters",
        "Cases",
    )
    rows = []
    for name in own:
        dice, jaccard, hd95 = (
            scores[name],
            *(scores.get(name.replace("dice", other, 1)) for other in ("jaccard", "hd95")),
        )
        number = name.rpartition("_rater")[2]
        theirs = _mean(None if hd95 is None else hd95.raters)[0]
        rows.append((number, *_mean(dice), *_mean(jaccard), *_mean(hd95), *_mean(dice.raters), theirs, str(dice.cases)))
    return Table("Each head with its own rater; of raters: the other raters with this one", header, rows)


def _head_table(task: TaskScores) -> Table:
    header = ("Head", *(f"Rater {number:02d}" for number in task.raters))
    heads = [] if task.predicted is None else task.predicted.raters
    table = zip(heads, task.dice_of_heads_and_raters or (), strict=True)
    rows = [(f"{number:02d}", *map(_number, values)) for number, values in table]
    return Table("Mean Dice of each head with each rater: the own one should lead its row", header, rows)


def _method(settings: Mapping) -> Text:
    sign = ">" if settings["strict"] else ">="
    drawn = "cases" if settings["group"] is None else f"groups of cases ({settings['group']})"
    return Text(
        f"QUBIQ score: mean Dice over nine levels of the map and of the raters' share, {sign} on both sides; soft "
        "Dice: five levels, >. Two empty masks have Dice and IoU 1. A map's own mask is p "
        f"{sign} 1/2, the majority half of the raters ({sign}).",
        f"ECE, ACE, MCE have {settings['bins']} bins over all pixels of a case. The energy distance depends on the "
        "number of masks in the set. Correlation: p (1 - p) with the raters' variance; cases without disagreement "
        "have none. AURC ranks cases by the soft Dice confidence.",
        "HD95: the larger of both directed 95th percentiles of the distances between boundaries. ASSD: mean distance "
        f"over both. Surface Dice: share of both boundaries within {settings.get('tolerance', 2):g} of the other. Two "
        "empty masks have distance 0; of one empty mask it is the diagonal of the image.",
        "Raters: each rater left out in turn and held against the others; Hungarian IoU and best Dice take the "
        "others as the set. Energy distance and diversity: what as many masks as the method's, drawn by such "
        "raters, have on average. It is what one more rater scores; a map learnt from all raters may do "
        "better.",
        f"Intervals: percentile bootstrap of the mean, {settings['resamples']} resamples of {drawn}, seed "
        f"{settings['seed']}.",
    )


def _mean(values: Statistic | None) -> tuple[str, str]:
    if values is None or values.mean is None:
        return NONE, NONE
    return _number(values.mean), f"{_number(values.low)} to {_number(values.high)}"


def _number(value: float | None) -> str:
    return NONE if value is None else f"{round(value, 4) + 0.0:.4f}"  # never -0.0000


def text_page(blocks: Sequence[Block]) -> str:
    """Blocks as text for a terminal: tables in aligned columns, the first to the left, the others to the right."""
    return "\n\n".join(_text(block) for block in blocks) + "\n"


def _text(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"{text}\n{('=' if level == 1 else '-') * len(text)}"
        case Text(lines):
            return "\n".join(lines)
        case Table(caption, header, rows):
            return f"{caption}\n\n{_aligned([header, *rows])}"
    raise ValueError(f"a {type(block).__name__} has no form as text: use html_page.")


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )

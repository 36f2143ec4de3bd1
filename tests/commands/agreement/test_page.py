"""What the page says of a record."""

from __future__ import annotations

from monai_ext.commands.agreement.page import agreement_blocks
from monai_ext.commands.agreement.records import Agreement, PairAgreement, StructureAgreement
from monai_ext.commands.html import markdown_page
from monai_ext.commands.scoring.records import Interval


def page(*, anonymous: bool = False, **changes: object) -> str:
    value = Interval(mean=0.5, low=0.4, high=0.6, cases=20)
    scores = dict.fromkeys(("dice", "surface_dice", "hd95", "assd"), value)
    entries = {"task": 1, "cases": 20, "alone": 0, "raters": [1, 2, 3], "marked": {"1": 20, "2": 20, "3": 20}}
    entries |= {"unit": "mm", "scores": scores, "quantiles": dict.fromkeys(scores, []), "chance": [], "pairs": []}
    entries |= {"habits": [], "same_sizes": None, "disagreement": [], "suspects": [], "study": None}
    entries |= {"doubtful": [], "left_out": []} | changes
    content = Agreement(
        data="data/cells", anonymous=anonymous, tolerance=2, group=None, resamples=10, seed=0,
        structures=[StructureAgreement(**entries)],
    )  # fmt: skip
    return markdown_page(agreement_blocks(content, {}))


def test_numbers_that_may_stand_for_nobody_are_said_to():
    assert "use --anonymous" in page(same_sizes=0.4) and "use --anonymous" not in page(same_sizes=1e-6)
    assert "masks were sorted by size" in page(anonymous=True, same_sizes=1e-6)
    assert "Friedman" not in page(anonymous=True, same_sizes=0.4)


def test_copies_missing_raters_and_units_are_named():
    scores = dict.fromkeys(("dice", "surface_dice", "hd95", "assd"), Interval(mean=0.5))
    pair = PairAgreement(first=1, second=3, equal=7, scores=scores)
    text = page(pairs=[pair], marked={"1": 20, "2": 5, "3": 20}, alone=2, left_out=["Nothing else."])
    assert "Raters 1 and 3 have the same mask, pixel for pixel, in 7 cases" in text
    assert "rater 2 5" in text and "2 cases with fewer than two raters" in text and "HD95, mm" in text
    assert "None was found." in text and "Nothing else." in text

"""Split tiles into training, validation, calibration and test parts by place.

Neighbouring tiles share roofs and roads, and tiles of several zooms or dates share their ground: a split by tile would
test on what was trained on. So each tile has a place, and places are what is split.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence

from monai_ext.data.folds import seeded_key
from monai_ext.data.run_cases import RunCases

__all__ = ["split_by_place", "take_places"]

PARTS = ("training", "validation", "calibration", "test")
NOTICEABLE = 0.05  # between the share of the tiles that is wanted and the one that places allow

logger = logging.getLogger(__name__)


def split_by_place(
    items: Sequence[Mapping],
    *,
    test_fraction: float = 0.2,
    validation_fraction: float = 0.0,
    calibration_fraction: float = 0.0,
    test_places: Sequence[str] = (),
    validation_places: Sequence[str] = (),
    calibration_places: Sequence[str] = (),
    watched: int = 0,
    seed: int = 0,
    recorded: RunCases | None = None,
) -> dict[str, list[Mapping]]:
    """The parts "training", "validation", "calibration" and "test" of the items, each in their order.

    No place is in two of them. Test places are taken first, validation places from the rest, and calibration places
    from what is left then, see `take_places`; a fraction is one of the tiles left, and 0 leaves the part empty. Items
    that have a "part" of their own stay in it, but for the calibration part, which is taken from their training part.

    Args:
        test_places, validation_places, calibration_places: the places of these parts by name, instead of their fraction
            and the items' own parts.
        watched: where no tile is for validation, so many training tiles, spread over all, are the validation part as
            well, with a warning: for a run on everything.
        seed: of the fractions.
        recorded: of a run, whose parts are taken, see `RunCases.divide`; the other arguments hold where it does not
            record them. As nothing is trained then, no tile need be left for it.

    Raises:
        ValueError: a fraction is not between 0 and 1, an item has no place, there are fewer places than parts, or no
            tile is of a place that is named, or none is left to train on; or as `RunCases.divide`.

    >>> items = [{"id": i, "place": "ab"[i > 3]} for i in range(5)]
    >>> [item["id"] for item in split_by_place(items)["test"]]
    [4]
    """
    parts: dict[str, list[Mapping]] = {}
    if recorded is not None and (known := recorded.divide(items)) is not None:
        return {part: known.get(part, []) for part in PARTS}
    left = list(items)
    for part, fraction, named in (
        ("test", test_fraction, test_places),
        ("validation", validation_fraction, validation_places),
        ("calibration", calibration_fraction, calibration_places),
    ):
        if named:
            left, parts[part] = _named_places(left, named, part=part)
            if not left and recorded is None:
                raise ValueError(f"all tiles are of the places of the {part} part, and none is left to train on.")
        elif part != "calibration" and any("part" in item for item in items):
            parts[part] = [item for item in left if item["part"] == part]
            left = [item for item in left if item["part"] != part]
        elif fraction:
            left, parts[part] = take_places(left, fraction, seed=seed, part=part)
        else:
            parts[part] = []
    if watched and left and not parts["validation"]:
        logger.warning("no tile is for validation: scores are of %d tiles that are trained on", min(watched, len(left)))
        parts["validation"] = left[:: max(1, len(left) // watched)][:watched]
    return {"training": left, **parts}


def _named_places(items: Sequence[Mapping], named: Sequence[str], *, part: str) -> tuple[list[Mapping], list[Mapping]]:
    """The items that are left, and those of the places `named`."""
    names = [named] if isinstance(named, str) else list(named)
    places = {item.get("place") for item in items}
    if missing := [name for name in names if name not in places]:
        known = ", ".join(sorted(str(place) for place in places)[:20])
        raise ValueError(f"no tile is left of {missing[0]!r}, a place for the {part} part: there are {known}.")
    left = [item for item in items if item.get("place") not in names]
    return left, [item for item in items if item.get("place") in names]


def take_places(
    items: Sequence[Mapping], fraction: float, *, seed: int, part: str = "test"
) -> tuple[list[Mapping], list[Mapping]]:
    """The items that are left, and those of the places taken for `part`, both in their order.

    Places are taken in an order that chance decides by `seed`, each one that brings the number of tiles nearer to
    `fraction` of all. The outcome depends on the seed and the places' names and sizes alone.

    Raises:
        ValueError: `fraction` is not between 0 and 1, an item has no place, or all have the same.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"the fraction of the {part} part is {fraction}: choose a share between 0 and 1.")
    for item in items:
        if not item.get("place"):
            raise ValueError(f"item {item.get('id')!r} has no place: list tiles by tile_items.")
    sizes = Counter(item["place"] for item in items)
    if len(sizes) < 2:
        raise ValueError(
            f"the {len(items)} tiles have {len(sizes)} place(s), and a split needs two: fetch more, or choose a "
            "smaller block."
        )
    wanted, count = fraction * len(items), 0
    chosen: set[str] = set()
    for place in sorted(sizes, key=lambda place: seeded_key(seed, place)):
        nearer = abs(count + sizes[place] - wanted) < abs(count - wanted)
        if nearer and len(chosen) < len(sizes) - 1:
            chosen.add(place)
            count += sizes[place]
    if not chosen:
        chosen = {min(sizes, key=lambda place: (sizes[place], seeded_key(seed, place)))}
        count = sum(sizes[place] for place in chosen)
    logger.info(
        "%d of %d tiles (%d of %d places) are for the %s part", count, len(items), len(chosen), len(sizes), part
    )
    if abs(count / len(items) - fraction) > NOTICEABLE:
        logger.warning(
            "%.0f %% of the tiles are for the %s part, not %.0f %%: the %d places are too large for that",
            100 * count / len(items), part, 100 * fraction, len(sizes),
        )  # fmt: skip
    parts: tuple[list[Mapping], list[Mapping]] = ([], [])
    for item in items:
        parts[item["place"] in chosen].append(item)
    return parts

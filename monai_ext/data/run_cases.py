"""Cases of a run: which ones it was trained, validated and calibrated on, known by their content wherever they lie."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from monai_ext.runtime.errors import some_of
from monai_ext.runtime.settings import listed_paths
from monai_ext.storage.fingerprint import content_sha256
from monai_ext.storage.records import read_record

__all__ = ["RUN_FILE", "CaseDigests", "RunCases", "TrainedRun", "case_digests", "read_trained_run"]

RUN_FILE = "run.json"
LEARNT = "training"  # the part that weights have learnt from
OF_A_FILE = ("slice", "image_row")  # what distinguishes the cases of one file

CaseDigests = dict[str, str]  # id -> digest of the case's image

_logger = logging.getLogger(__name__)


class InitialWeights(msgspec.Struct, frozen=True, kw_only=True):
    """The file of weights that a run began with, and the cases that these were trained on, where that is known."""

    file: str
    sha256: str
    training: CaseDigests | None = None


class TrainedRun(msgspec.Struct, frozen=True, kw_only=True):
    """What identifies a run in its run.json; fields that records of earlier versions lack are None."""

    status: str = ""
    epoch: int = 0
    settings: dict[str, Any] = {}
    bundle: str | None = None
    components: dict[str, Any] | None = None
    weight_files: dict[str, str] | None = None
    cases: dict[str, CaseDigests] | None = None
    init_weights: InitialWeights | None = None


def read_trained_run(checkpoint: str | Path) -> TrainedRun | None:
    """The run that a file of weights lies in, or the run of that folder; None where there is no run.json.

    Raises:
        ValueError: run.json is damaged.
    """
    path = Path(checkpoint)
    path = (path if path.is_dir() else path.parent) / RUN_FILE
    if not path.is_file():
        return None
    return read_record(
        path, TrainedRun, way_out="take it from a copy of the run, or remove it: nothing is checked then"
    )


def case_digests(items: Sequence[Mapping]) -> CaseDigests:
    """Id -> 16 hexadecimal digits for the image of each item, wherever it lies; "" where its file cannot be read.

    Files above 256 KiB are taken by size, beginning and end, as in `monai_ext.storage.fingerprint`.
    """
    known: dict[str, bytes] = {}
    return {str(item["id"]): _digest(item, known) for item in items}


def _digest(item: Mapping, known: dict[str, bytes]) -> str:
    images = item.get("image")
    files = [images] if isinstance(images, (str, Path)) else images
    if not isinstance(files, (list, tuple)) or not files:
        return ""
    digest = hashlib.sha256()
    try:
        for file in map(str, files):
            if file not in known:
                known[file] = f"{os.path.getsize(file)} ".encode() + content_sha256(file)
            digest.update(known[file])
    except (OSError, ValueError):
        return ""
    digest.update("".join(f" {name}={item[name]}" for name in OF_A_FILE if name in item).encode())
    return digest.hexdigest()[:16]


class RunCases:
    """Finds the parts of a run among the items of a data set, so that no score is of cases that were learnt from.

    A case is known by its id and image; one of another id with the image of a training case is that case too.

    Args:
        checkpoints: weights in the folder of their run. The parts are those of the first; cases that any of them, or
            the weights that it began with, learnt from are not let through.
        parts: those that are asked for.

    Attributes:
        origin: in words, where the cases of the last call come from.
    """

    def __init__(self, checkpoints: str | Path | Sequence[str | Path], parts: Sequence[str] = ("validation",)):
        self.checkpoints = listed_paths(checkpoints)
        self.wanted = tuple(parts)
        self.origin = "not recorded in the training"

    def divide(self, items: Sequence[Mapping]) -> dict[str, list[Mapping]] | None:
        """The items of each part of the run, whatever has been added since; None where the run does not record them.

        A data set without any training case, of which the parts are not all there, is another one: all of it is the
        only part that is asked for. If several are, None, so that it is divided anew.

        Raises:
            ValueError: some items were trained on, but those of a part that is asked for are not all there; or
                run.json is damaged.
        """
        runs = self._runs()
        cases = None if runs[0] is None else runs[0].cases
        if cases is None or not set(self.wanted) <= set(cases):
            self._warn_of_no_record(runs[0])
            return None
        digests = case_digests(items)
        seen = _learnt(runs, digests)
        there: dict[str, list[Mapping]] = {
            part: [item for item in items if ids.get(str(item["id"])) == digests[str(item["id"])]]
            for part, ids in cases.items()
        }
        lacking = {part: len(cases[part]) - len(there[part]) for part in self.wanted}
        empty = [part for part in self.wanted if not cases[part]]
        if not any(lacking.values()) and not empty:
            return self._of_run(there, cases, seen, len(items))
        if seen and empty:
            raise ValueError(
                f"the run of '{self.checkpoints[0]}' held nothing out as its {empty[0]} part, and {len(seen)} of the "
                f"{len(items)} cases here were trained on ({some_of(seen)}): give --dataset_dir other data."
            )
        if seen:
            part, count = max(lacking.items(), key=lambda pair: pair[1])
            raise ValueError(
                f"{count} of the {len(cases[part])} cases of the {part} part of '{self.checkpoints[0]}' are not here, "
                f"or have changed, and {len(seen)} of the {len(items)} here were trained on ({some_of(seen)}): "
                "give --dataset_dir the data set of the training, or one without its training cases."
            )
        self.origin = "another data set than that of the training"
        _logger.info(f"none of the {len(items)} cases was trained on: they are scored as {self.origin}")
        return {self.wanted[0]: list(items)} if len(self.wanted) == 1 else None

    def check(self, items: Sequence[Mapping]) -> list[Mapping]:
        """`items`, none of which was trained on.

        Raises:
            ValueError: one was; names it. Or run.json is damaged.
        """
        runs = self._runs()
        if seen := _learnt(runs, case_digests(items)):
            raise ValueError(
                f"{len(seen)} of the {len(items)} cases were trained on by '{self.checkpoints[0]}' ({some_of(seen)}): "
                "leave them out, or name another part or data set."
            )
        if unknown := [run for run in runs if run is None or run.cases is None]:
            self._warn_of_no_record(unknown[0])
        else:
            self.origin = "cases named for the evaluation, none of them trained on"
        return list(items)

    def _of_run(
        self, there: dict[str, list[Mapping]], cases: Mapping[str, CaseDigests], seen: Sequence[str], count: int
    ) -> dict[str, list[Mapping]]:
        self.origin = f"the {' and '.join(self.wanted)} part of the training"
        if added := count - sum(map(len, there.values())):
            _logger.info(f"{added} cases that the training did not have are left out")
        learnt = set(seen)
        for part in self.wanted:
            left = [item for item in there[part] if str(item["id"]) not in learnt]
            gone = [str(item["id"]) for item in there[part] if str(item["id"]) in learnt]
            if gone and not left:
                raise ValueError(
                    f"all {len(gone)} cases of the {part} part have images that the weights, or those that they began "
                    f"with, were trained on ({some_of(gone)}): score another data set."
                )
            if gone:
                _logger.warning(
                    f"{len(gone)} of the {len(there[part])} cases of the {part} part are left out: the weights, or "
                    f"those that they began with, were trained on their images ({some_of(gone)})"
                )
                self.origin += f", without {len(gone)} whose images were trained on"
            there[part] = left
        return there

    def _runs(self) -> list[TrainedRun | None]:
        return [read_trained_run(path) for path in self.checkpoints]

    def _warn_of_no_record(self, run: TrainedRun | None) -> None:
        reason = f"no {RUN_FILE} lies beside them" if run is None else f"their {RUN_FILE} does not record it"
        _logger.warning(
            f"which cases the weights '{self.checkpoints[0]}' were trained on is not known ({reason}): whether those "
            "to be scored are held out cannot be checked"
        )


def _learnt(runs: Sequence[TrainedRun | None], digests: CaseDigests) -> list[str]:
    """Ids of the cases that the weights of `runs`, or those that they began with, were trained on."""
    parts = [(run.cases or {}).get(LEARNT, {}) for run in runs if run is not None]
    parts += [run.init_weights.training or {} for run in runs if run is not None and run.init_weights is not None]
    images = {digest for part in parts for digest in part.values() if digest}
    unreadable = {name for part in parts for name, digest in part.items() if not digest}
    return sorted(name for name, digest in digests.items() if (digest in images if digest else name in unreadable))

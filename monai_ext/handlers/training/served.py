"""Weights where MONAI Label looks for them."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from ignite.engine import Events

from monai_ext.handlers.engine import Engine
from monai_ext.runtime.ranks import is_main_process
from monai_ext.storage.files import atomic_path

__all__ = ["ServedWeights"]

KEPT = "model_as_shipped.pt"

_logger = logging.getLogger(__name__)


class ServedWeights:
    """Copies the weights of a finished training to the bundle's `models/model.pt`, which MONAI Label serves.

    The weights with the best score in validation are taken, where there are any, otherwise the last ones. What the
    bundle came with is kept beside them as `models/model_as_shipped.pt`, which MONAI Label offers as a choice.

    Args:
        run: folder of the run, inside the bundle: `<bundle>/runs/<name>`. Without a bundle around it nothing happens.
    """

    def __init__(self, run: str | Path):
        self.run = Path(run)
        self.bundle = self.run.absolute().parent.parent

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.COMPLETED, self._copy)

    def _copy(self, engine: Engine) -> None:
        weights = next((file for name in ("model.pt", "final.pt") if (file := self.run / name).is_file()), None)
        whole = engine.state.epoch == engine.state.max_epochs
        if weights is None or not whole or not (self.bundle / "configs").is_dir() or not is_main_process():
            return
        served = self.bundle / "models" / "model.pt"
        kept = served.with_name(KEPT)
        if served.is_file() and not kept.exists():
            self._put(served, kept)
        self._put(weights, served)
        shipped = f"; those that the bundle came with are '{kept}'" if kept.exists() else ""
        _logger.info(f"'{served}' has the weights of this training{shipped}.")

    def _put(self, file: Path, place: Path) -> None:
        place.parent.mkdir(exist_ok=True)
        with atomic_path(place) as temporary:
            shutil.copyfile(file, temporary)

"""Training and validation with several raters of the same image.

A batch of `DecodeRaters` has an image (B, C, H, W), a label (B, R, H, W) and presence (B, R), True where the rater
marked the case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from ignite.engine import Events
from monai.engines import PrepareBatch
from monai.engines.utils import IterationEvents
from monai.inferers import Inferer
from monai.utils import CommonKeys as Keys
from torch import Tensor, nn

from monai_ext.engines.batch_engines import BatchEvaluator
from monai_ext.formulas.regions import paste_region
from monai_ext.networks import MapSampler
from monai_ext.networks.multi_rater import RaterSampler
from monai_ext.runtime.settings import as_bool

__all__ = ["PrepareRaters", "RaterEvaluator", "RaterInferer"]


# The symmetries of the square as (quarter turns, flip): a flip of the columns, then the turns.
DIHEDRAL = tuple((turns, flip) for flip in (False, True) for turns in range(4))


class PrepareRaters(PrepareBatch):
    """Batch -> (image, {"masks": (B, R, H, W), "presence": (B, R)}), the target of the losses for several raters.

    A batch without label, as at inference, gives (image, None).
    """

    def __call__(
        self,
        batchdata: Mapping[str, Any],
        device: torch.device | str | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[Tensor, dict[str, Tensor] | None]:
        image = batchdata[Keys.IMAGE].to(device=device, non_blocking=non_blocking, **kwargs)
        if Keys.LABEL not in batchdata:
            return image, None
        masks, presence = batchdata[Keys.LABEL], batchdata["presence"]
        return image, {
            "masks": masks.to(device=device, non_blocking=non_blocking),
            "presence": presence.to(device=device, non_blocking=non_blocking),
        }


class RaterInferer(Inferer):
    """All that is scored of a `RaterSampler`, as probabilities, from one forward pass where one will do.

    Returns {"probability": (B, 1, H, W), the predicted share of raters; "samples": (B, n, H, W)} and, of networks with
    a head for each rater, "heads" (B, R, H, W), all float32. The probability is the network's own share map, else the
    mean of the samples. A probabilistic U-Net draws from its prior: masks are never passed to it. Samples are drawn
    case by case, so that they do not depend on the size of the batches.

    Args:
        samples: number of samples n.
        seed: of the samples; `restart` begins the same ones again.
        tta: test-time augmentation over the 8 flips and quarter turns of the image. Probability maps are averaged
            over them, and samples drawn from the average; a network without a map draws some samples from each.
    """

    def __init__(self, samples: int = 16, *, seed: int = 0, tta: bool | str = False):
        if samples < 1:
            raise ValueError(f"samples={samples}: at least one sample is needed.")
        self.samples = samples
        self.seed = seed
        self.symmetries = DIHEDRAL if as_bool(tta, "tta") else DIHEDRAL[:1]
        self.restart()

    def restart(self) -> None:
        """Draw the first samples again, as at the beginning of each validation."""
        self.generator = torch.Generator().manual_seed(self.seed)

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        if isinstance(network, MapSampler):
            total = torch.zeros((), device=inputs.device)
            for turns, flip in self.symmetries:
                total = total + _moved_back(network.maps(_moved(inputs, turns, flip)), turns, flip)
            maps = total / len(self.symmetries)
            samples = network.draw(maps, self.samples, generator=self.generator)
            output = {"probability": network.share(maps), "samples": samples}
            return output | {"heads": maps} if network.per_rater else output
        samples = torch.cat(list(self._drawn(inputs, cast(RaterSampler, network))), dim=1)
        return {"probability": samples.mean(1, keepdim=True), "samples": samples}

    def _drawn(self, inputs: Tensor, network: RaterSampler) -> Iterator[Tensor]:
        for place, (turns, flip) in enumerate(self.symmetries):
            count = len(range(place, self.samples, len(self.symmetries)))
            if count:
                moved = _moved(inputs, turns, flip)
                yield _moved_back(network.sample(moved, count, generator=self.generator), turns, flip)


def _moved(image: Tensor, turns: int, flip: bool) -> Tensor:
    return torch.rot90(image.flip(-1) if flip else image, turns, (-2, -1))


def _moved_back(maps: Tensor, turns: int, flip: bool) -> Tensor:
    maps = torch.rot90(maps, -turns, (-2, -1))
    return maps.flip(-1) if flip else maps


class RaterEvaluator(BatchEvaluator):
    """`BatchEvaluator` for several raters: its output's prediction is what `RaterInferer` returns.

    Predictions are brought to the size of the masks where that differs (bilinear, antialiased where they shrink), so
    that masks kept at the size of their files are scored there; those for a region of interest are set into zeros.
    Every run draws the same samples.

    Args:
        inferer: a `RaterInferer`.
        kwargs: as for `BatchEvaluator`; `prepare_batch` is `PrepareRaters()` unless given.
    """

    def __init__(
        self,
        device: torch.device | str,
        val_data_loader: Any,
        network: nn.Module,
        *,
        inferer: RaterInferer,
        **kwargs: Any,
    ):
        kwargs = {"prepare_batch": PrepareRaters()} | kwargs
        super().__init__(device, val_data_loader, network, inferer=inferer, **kwargs)
        self.add_event_handler(Events.EPOCH_STARTED, lambda: inferer.restart())
        self.add_event_handler(IterationEvents.FORWARD_COMPLETED, _at_size_of_masks)


def _at_size_of_masks(engine: RaterEvaluator) -> None:
    output, batch = engine.state.output, engine.state.batch
    if output[Keys.LABEL] is None:
        return
    size = output[Keys.LABEL]["masks"].shape[-2:]
    if "label_is_whole" in batch:  # afterwards nobody may bring them back to the image again
        engine.state.batch = {name: values for name, values in batch.items() if name != "roi"}
        regions = batch["roi"].tolist()
        output[Keys.PRED] = {name: _pasted(maps, regions, size) for name, maps in output[Keys.PRED].items()}
    else:
        output[Keys.PRED] = {name: _resized(maps, size) for name, maps in output[Keys.PRED].items()}


def _pasted(maps: Tensor, regions: Sequence[Sequence[int]], size: torch.Size) -> Tensor:
    return torch.stack([paste_region(case, region, size) for case, region in zip(maps, regions, strict=True)])


def _resized(maps: Tensor, size: torch.Size) -> Tensor:
    if maps.shape[-2:] == size:
        return maps
    return F.interpolate(maps, size, mode="bilinear", antialias=True).clamp(0, 1)  # weights may add up to 1 + 1e-7

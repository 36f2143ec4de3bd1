"""Training and validation with several annotators: batches as the losses want them, answers as the scores want them.

A batch of `DecodeRaters` has an image (B, C, H, W), a label (B, R, H, W) and presence (B, R). A network for several
annotators is asked once for all that scores and pictures need; see `RaterInferer`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from ignite.engine import Events
from monai.engines import PrepareBatch
from monai.engines.utils import IterationEvents
from monai.inferers import Inferer
from monai.utils import CommonKeys as Keys
from torch import Tensor, nn

from monai_ext.engines.batch_engines import BatchEvaluator
from monai_ext.networks import ConsensusNet, HeadSampling
from monai_ext.networks.multi_rater import draw_heads

__all__ = ["PrepareRaters", "RaterEvaluator", "RaterInferer"]


class PrepareRaters(PrepareBatch):
    """Batch -> (image, {"masks": (B, R, H, W), "presence": (B, R)}), the target of the losses for several annotators.

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
    """Asks a `RaterSampler` for everything that is scored, as probabilities, from one forward pass where one will do.

    Returns {"probability": (B, 1, H, W), the predicted share of annotators; "samples": (B, n, H, W)} and, of networks
    that answer for each annotator, "heads" (B, R, H, W), all float32. The probability is the mean of the heads, the map
    of a network with one answer, else the mean of the samples. A probabilistic U-Net is asked for its prior: no mask is
    ever handed on.

    Args:
        samples: number n of samples.
        seed: of their draws; `restart` begins the same draws again.
    """

    def __init__(self, samples: int = 16, *, seed: int = 0):
        if samples < 1:
            raise ValueError(f"samples={samples}: at least one sample is needed.")
        self.samples = samples
        self.seed = seed
        self.restart()

    def restart(self) -> None:
        """Draw the first samples again, as at the beginning of each validation."""
        self.generator = torch.Generator().manual_seed(self.seed)

    def __call__(self, inputs: Tensor, network: nn.Module, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        if isinstance(network, HeadSampling):
            maps = network(inputs).float().sigmoid()
            samples = draw_heads(maps, self.samples, generator=self.generator)
            answers = {"probability": maps.mean(1, keepdim=True), "samples": samples}
            return answers | {"heads": maps} if network.per_rater else answers
        samples = network.sample(inputs, self.samples, generator=self.generator)
        if isinstance(network, ConsensusNet):
            return {"probability": network(inputs).float().sigmoid(), "samples": samples}
        return {"probability": samples.mean(1, keepdim=True), "samples": samples}


class RaterEvaluator(BatchEvaluator):
    """`BatchEvaluator` for several annotators: its output's prediction is what `RaterInferer` returns.

    Answers are brought to the size of the masks where that differs (bilinear, antialiased where they shrink), so that
    masks kept at the size of their files are scored there. Every run draws the same samples.

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
    output = engine.state.output
    if output[Keys.LABEL] is None:
        return
    size = output[Keys.LABEL]["masks"].shape[-2:]
    output[Keys.PRED] = {name: _resized(maps, size) for name, maps in output[Keys.PRED].items()}


def _resized(maps: Tensor, size: torch.Size) -> Tensor:
    if maps.shape[-2:] == size:
        return maps
    return F.interpolate(maps, size, mode="bilinear", antialias=True).clamp(0, 1)  # weights may add up to 1 + 1e-7

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
from monai_ext.transforms import BatchAugment
from monai_ext.transforms.parameters import AugmentParameters

__all__ = ["OneRaterAugment", "PrepareRaters", "RaterEvaluator", "RaterInferer", "pick_rater"]


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


def pick_rater(masks: Tensor, presence: Tensor, uniform: Tensor) -> Tensor:
    """The mask of one annotator of each case, (B, 1, H, W), each of those present being as likely as any other.

    >>> masks = torch.arange(3).view(1, 3, 1, 1)  # annotator r fills the mask with r
    >>> presence = torch.tensor([[True, False, True]])
    >>> [pick_rater(masks, presence, torch.tensor([u])).item() for u in (0.0, 0.49, 0.5, 0.99)]
    [0, 0, 2, 2]

    Args:
        masks: (B, R, H, W).
        presence: (B, R), True where the annotator is there, at least once in every case.
        uniform: (B,) in [0, 1): u picks annotator floor(u K) of the K that are present.
    """
    present = presence.to(masks.device) != 0
    count = present.sum(1)
    place = (uniform.to(masks.device) * count).long().clamp(max=count - 1)
    order = present.long().cumsum(1) - 1  # place of each annotator among those present
    chosen = ((order == place[:, None]) & present).to(torch.uint8).argmax(1)
    return masks[torch.arange(len(masks), device=masks.device), chosen][:, None]


class OneRaterAugment(BatchAugment):
    """`BatchAugment` that keeps the mask of one annotator, drawn anew for each case in each epoch: label (B, 1, H, W).

    This is how a probabilistic U-Net learns from a set of annotators (Kohl et al. 2018). Missing ones are never drawn.
    The draw belongs to the random numbers of the epoch, see `DeviceLoader`: it depends on seed, epoch and place alone,
    so a resumed run sees the annotators of an uninterrupted one. Arguments as for `BatchAugment`; a batch needs
    "presence" (B, R).
    """

    def draw(self, count: int, generator: torch.Generator | None = None) -> AugmentParameters:
        draw = super().draw(count, generator)
        draw.tensors["rater"] = torch.rand(count, generator=generator)
        return draw

    @torch.no_grad()
    def apply(self, batch: Mapping, draw: AugmentParameters) -> dict:
        label = pick_rater(batch[self.label_key], batch["presence"], draw.tensors["rater"])
        return super().apply({**batch, self.label_key: label}, draw)


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

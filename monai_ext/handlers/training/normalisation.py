"""Restore folded BatchNorm statistics before the first step."""

from __future__ import annotations

import logging

import torch
import torch.distributed
from ignite.engine import Events
from torch import nn

from monai_ext.handlers.engine import Engine
from monai_ext.networks.backbones import folded_batch_norms, unfold_batch_norm
from monai_ext.runtime.ranks import is_distributed

__all__ = ["BatchNormUnfolder"]

_logger = logging.getLogger(__name__)


class BatchNormUnfolder:
    """Before the first epoch of a new run, restores folded BatchNorm statistics from the first training images.

    Does nothing for a network without folded layers (torchvision's own checkpoints have none) or for a resumed run;
    list it after the handler that resumes. See `unfold_batch_norm`.

    Args:
        network: the network in training.
        images: number of training images to estimate from.
    """

    def __init__(self, network: nn.Module, *, images: int = 64):
        self.network = network
        self.images = images

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._unfold)

    def _unfold(self, engine: Engine) -> None:
        if engine.state.epoch > 0 or not folded_batch_norms(self.network):
            return
        collected: list[torch.Tensor] = []
        if hasattr(engine.data_loader, "set_epoch"):
            engine.data_loader.set_epoch(0)
        for batch in engine.data_loader:
            images = engine.prepare_batch(batch, engine.state.device, engine.non_blocking)[0]
            collected.append(images.as_subclass(torch.Tensor))  # MetaTensors of several batches cannot be joined
            if sum(map(len, collected)) >= self.images:
                break
        images = torch.cat(collected)[: self.images]
        count = unfold_batch_norm(self.network, images)
        if is_distributed():  # each rank estimated from its own images: all take rank 0's
            for tensor in self.network.state_dict().values():
                torch.distributed.broadcast(tensor, 0)
        _logger.info(f"restored the statistics of {count} folded BatchNorm layers from {len(images)} images")

"""The scale of a Bayesian network's noise, fitted by maximum likelihood with all else fixed.

    python -m weights.scale RUN/final.pt TILES SEED OUTPUT/fitted.pt

A short training leaves the scale nearly constant. Here its layers alone are trained, on the errors of the mean of a few
outputs, with features standardised. TILES has a manifest of places; those of the card's scores, on which intervals are
calibrated, are left out.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_ext.data import read_tile, tile_items
from monai_ext.handlers import load_checkpoint
from monai_ext.networks import BayesianSRResNet, bayesian_srresnet
from monai_ext.storage.files import atomic_path
from monai_ext.transforms import Degradation
from weights.tiles import HELD_OUT

__all__ = ["fit_scale", "main"]

TILES_OF_A_PLACE, SAMPLES, MARGIN = 6, 4, 3  # margin: pixels of the low resolution whose surroundings a crop cuts off
STEPS, CROPS, CROP, RATE, WARM_UP = 600, 6, 28, 3e-3, 20


def main(source: str, tiles: str, seed: str, output: str) -> None:
    """Write the weights in `source`, with the layers of the scale made anew, to `output`."""
    torch.manual_seed(int(seed))
    degradation = Degradation(4, levels=255)
    network = bayesian_srresnet(3, degradation, generator_name="gated", blocks=16, wide_scale=True)
    fresh = {name: value for name, value in network.state_dict().items() if name.startswith("scale_net.")}
    kept = {name: value for name, value in load_checkpoint(source).items() if not name.startswith("scale_net.")}
    network.load_state_dict({**kept, **fresh})
    fit_scale(network.eval(), _training_tiles(Path(tiles)), degradation)
    with atomic_path(output) as temporary, temporary.open("wb") as file:  # by name torch.save would store that name
        torch.save(network.state_dict(), file)


def fit_scale(
    network: BayesianSRResNet, tiles: Sequence[Path], degradation: Degradation, *, steps: int = STEPS
) -> float:
    """Train `network.scale_net` (of `wide_scale`) on the errors on `tiles`; the mean loss at the end."""
    pairs = [_features_and_errors(network, path, degradation) for path in tiles]
    mean = torch.stack([deep.mean((0, 2, 3)) for deep, _ in pairs]).mean(0)[:, None, None]
    deviation = torch.stack([deep.std((0, 2, 3)) for deep, _ in pairs]).mean(0)[:, None, None] + 1e-6
    low, high = network.log_scale_range
    layers = network.scale_net[:-1]
    optimizer, losses = torch.optim.Adam(layers.parameters(), lr=RATE), []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        loss = torch.zeros(())
        for index in torch.randint(len(pairs), (CROPS,)).tolist():
            deep, error = _crop(*pairs[index])
            inner = (..., slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN))
            log_scale = layers((deep - mean) / deviation)[inner].clamp(low, high)
            loss = loss + (error[inner] * (-log_scale).exp() + log_scale).mean() / CROPS
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    with torch.no_grad():  # the first layer takes over the standardisation
        first = network.scale_net[0]
        assert isinstance(first, nn.Conv2d) and first.bias is not None
        first.bias -= (first.weight[:, :, 0, 0] * (mean / deviation).flatten()).sum(1)
        first.weight /= deviation
    last = losses[-max(1, steps // 6) :]
    return sum(last) / len(last)


@torch.no_grad()
def _features_and_errors(network: BayesianSRResNet, path: Path, degradation: Degradation) -> tuple[Tensor, Tensor]:
    """(1, F, h, w) and, for each of these pixels, the absolute errors of the values that come from it."""
    image = read_tile(path, bands=(1, 2, 3))[None].float() / 255
    height, width = (size // 8 * 8 for size in image.shape[-2:])
    high_res = image[..., :height, :width]
    low_res = degradation(high_res)
    means = [mean for mean, _ in network.moments(low_res, network.draw_noise(low_res, SAMPLES))]
    error = (torch.stack(means).mean(0) - high_res).abs()
    return network.generator.encode(low_res), F.pixel_unshuffle(error, network.scale)


def _crop(*images: Tensor) -> list[Tensor]:
    height, width = images[0].shape[-2:]
    size = min(height, width, CROP)
    top, left = (int(torch.randint(side - size + 1, ())) for side in (height, width))
    return [image[..., top : top + size, left : left + size] for image in images]


def _training_tiles(folder: Path) -> list[Path]:
    """Tiles of each place that is not held out, evenly from all of them."""
    items = sorted(
        (item for item in tile_items(folder) if item["place"] not in HELD_OUT), key=lambda item: item["place"]
    )
    groups = [list(group) for _, group in groupby(items, lambda item: item["place"])]
    return [
        Path(group[int(index * max(1, len(group) / TILES_OF_A_PLACE))]["image"])
        for group in groups
        for index in range(min(TILES_OF_A_PLACE, len(group)))
    ]


if __name__ == "__main__":
    main(*sys.argv[1:])

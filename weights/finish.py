"""A run's weights as they are shipped: in half precision, and without the mean lattice of an adversarial stage.

    python -m weights.finish RUN/final.pt [TILES] OUTPUT/model.pt

With TILES, a folder of tiles, the weights are those of the generator of bundles/srgan_aerial. What its output has, on
average over tiles, at each place within the squares of scale x scale pixels that come from one pixel of the input, and
what originals do not have there, is then subtracted from the last bias.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

import torch
from torch import Tensor, nn

from monai_ext.data import read_tile, tile_items
from monai_ext.handlers import load_checkpoint
from monai_ext.networks import GatedSRNet
from monai_ext.storage.files import atomic_path
from monai_ext.transforms import Degradation

__all__ = ["main", "mean_lattice"]

TILES_OF_A_PLACE = 4


def main(source: str, *tiles_and_output: str) -> None:
    """Write the weights in `source` to the last argument."""
    *tiles, output = tiles_and_output
    state = load_checkpoint(source)
    if tiles:
        generator = GatedSRNet()
        generator.load_state_dict(state)
        lattice = mean_lattice(generator.eval(), _some_of_each_place(tile_items(tiles[0])))
        state["tail.0.bias"] = state["tail.0.bias"].float() - lattice
    half = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    with atomic_path(output) as temporary, temporary.open("wb") as file:  # by name torch.save would store that name
        torch.save(half, file)


@torch.no_grad()
def mean_lattice(generator: nn.Module, tiles: Sequence[Path], *, scale: int = 4) -> Tensor:
    """Mean error of the output at each of the scale x scale sub-pixel places, less the mean of all of them.

    (C scale scale,), in the order of the channels before `torch.nn.PixelShuffle`.
    """
    degradation, total = Degradation(scale, levels=255), torch.zeros(())
    for path in tiles:
        high_res = read_tile(path, bands=(1, 2, 3))[None].float() / 255
        error = generator(degradation(high_res)) - high_res
        phases = nn.functional.pixel_unshuffle(error, scale).mean((0, 2, 3)).reshape(-1, scale * scale)
        total = total + phases - phases.mean(1, keepdim=True)
    return (total / len(tiles)).flatten()


def _some_of_each_place(items: Sequence[Mapping[str, str]]) -> list[Path]:
    def place(item: Mapping[str, str]) -> str:
        return item["place"]

    groups = [list(group) for _, group in groupby(sorted(items, key=place), place)]
    return [Path(item["image"]) for group in groups for item in group[:: -(-len(group) // TILES_OF_A_PLACE)]]


if __name__ == "__main__":
    main(*sys.argv[1:])

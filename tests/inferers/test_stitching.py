"""Windows put together: halo and feather."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiled_toys import Repeat
from torch.nn import functional

from monai_ext.inferers.tiled import TiledInferer


@pytest.mark.parametrize("mode", ["halo", "feather"])
@pytest.mark.parametrize(("size", "overlap"), [((41, 29), 4), ((7, 64), 6), ((1, 1), 4), ((24, 24), 0)])
def test_every_pixel_is_answered_once_in_all(mode, size, overlap):
    image = torch.rand(2, 3, *size)
    network = Repeat(3)
    tiled = TiledInferer(18, overlap, mode=mode, batch_size=2)(image, network)
    expected = functional.interpolate(image, scale_factor=3, mode="nearest")
    torch.testing.assert_close(tiled, expected, atol=1e-6, rtol=0)
    assert max(max(shape[2:]) for shape in network.calls) <= 18


def test_a_feathered_answer_is_the_weighted_mean_written_out_by_loops():
    """One row of 8 pixels, cores 0-4 and 4-8, context 1; the network answers with the number of the window."""
    numbers = iter((1.0, 2.0))

    def network(windows: torch.Tensor) -> torch.Tensor:
        return torch.full_like(windows, next(numbers))

    tiled = TiledInferer(6, 2, mode="feather", batch_size=1)(torch.zeros(1, 1, 1, 8), network)
    quarter = torch.sin(torch.tensor(torch.pi / 8)).square().item()
    # The fade is 2 pixels wide, about the edge at 4, sampled at 1/4 and 3/4.
    expected = [1.0, 1.0, 1.0, 1.0 + quarter, 2.0 - quarter, 2.0, 2.0, 2.0]
    torch.testing.assert_close(tiled.flatten(), torch.tensor(expected))


def test_feather_hides_the_step_where_the_context_is_too_short():
    def demeaned(windows: torch.Tensor) -> torch.Tensor:  # each window's answer depends on all of it
        return windows - windows.mean(dim=(2, 3), keepdim=True)

    image = torch.linspace(0, 1, 96).expand(1, 1, 96, 96)

    def largest_step(mode: str) -> float:
        return TiledInferer(36, 12, mode=mode)(image, demeaned)[0, 0, 48].diff().abs().max().item()

    assert largest_step("feather") < largest_step("halo") / 4


@pytest.mark.parametrize("mode", ["halo", "feather"])
def test_strips_make_up_the_image_and_can_begin_anywhere(network, mode):
    image = torch.rand(1, 2, 61, 30)
    inferer = TiledInferer(18, 6, mode=mode)

    def strips(first: int) -> list[torch.Tensor]:
        grid, made = inferer.grid((61, 30)), []
        for row in grid.rows_from(first):
            top, bottom = grid.span(row)
            assert bottom - top <= 18  # memory does not grow with the height
            grid.load(row, [image[..., top:bottom, :]])
            for column, windows in grid.windows():
                with torch.no_grad():
                    grid.place(network(*windows), row, column)
            strip = grid.strip(row)
            made.append(strip.clone())
        return made[-(len(grid.strip_edges) - 1 - first) :]

    whole, later = strips(0), strips(3)
    edges = inferer.grid((61, 30)).strip_edges
    assert edges[-1] == 61 and [len(strip[0, 0]) for strip in whole] == [2 * n for n in np.diff(edges)]
    torch.testing.assert_close(torch.cat(whole, dim=-2), inferer(image, network), atol=0, rtol=0)
    for found, expected in zip(later, whole[3:], strict=True):
        torch.testing.assert_close(found, expected, atol=0, rtol=0)

"""Windows of an image."""

from __future__ import annotations

import torch
from tiled_toys import Repeat

from monai_ext.inferers.tiled import TiledInferer


def test_windows_have_sides_that_the_network_asks_for():
    network = Repeat(1)
    image = torch.rand(1, 1, 21, 50)
    torch.testing.assert_close(TiledInferer(16, 4, multiple=8)(image, network), image)
    assert all(side % 8 == 0 for shape in network.calls for side in shape[2:])

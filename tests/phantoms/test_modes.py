"""Fields with known modes: hidden from the low resolution, far apart in the high one, drawn field by field."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from monai_ext.metrics.sample_sets import mode_recall, set_distances
from monai_ext.phantoms.modes import draw_fields, field_modes, pick_modes
from monai_ext.transforms.degradation import Degradation


def test_the_low_resolution_does_not_tell_the_modes_but_the_high_one_does():
    versions = field_modes((64, 96), layout_seed=3)
    assert versions.shape == (4, 3, 64, 96) and versions.min() > 0 and versions.max() < 1
    low = Degradation(4, levels=255)(versions)
    assert (low - low[:1]).abs().max() < 1.5 / 255
    apart = set_distances(versions[None], versions[None])[0] + torch.eye(4)
    assert apart.min() > 0.05
    assert mode_recall(versions[None], versions[None]).item() == 1


def test_furrows_of_version_k_run_in_their_own_direction():
    versions = field_modes((64, 64), modes=2, field=64)
    (down_0, right_0), (down_1, right_1) = ([v.diff(dim=axis).abs().mean() for axis in (1, 2)] for v in versions)
    assert right_0 > 3 * down_0 and down_1 > 3 * right_1


def test_each_field_takes_the_mode_that_is_picked():
    versions = field_modes((64, 64))
    scene = pick_modes(versions, torch.tensor([[0, 1], [2, 3]]))
    assert torch.equal(scene[:, :32, 32:], versions[1, :, :32, 32:])
    assert torch.equal(scene[:, 32:, :32], versions[2, :, 32:, :32])


def test_layout_and_modes_have_seeds_of_their_own():
    first, again, other = (draw_fields((64, 128), layout_seed=1, texture_seed=t) for t in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    low = Degradation(4)(torch.stack([first, other]))
    assert (low[0] - low[1]).abs().max() < 4 / 255  # fields of differing modes meet
    assert not np.allclose(low[0], Degradation(4)(draw_fields((64, 128), layout_seed=2)[None])[0], atol=0.05)


@pytest.mark.parametrize(
    "options", [{"size": (60, 64)}, {"modes": 1}, {"field": 10}, {"size": (64, 40), "field": 32}, {"field": 2}]
)
def test_fields_that_do_not_fit_are_refused(options):
    with pytest.raises(ValueError, match="multiples of the field"):
        field_modes(**options)

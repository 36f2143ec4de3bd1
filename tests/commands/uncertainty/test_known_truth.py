"""What a network with a latent learns of known modes."""

from __future__ import annotations

import pytest

from monai_ext.commands.uncertainty.known_truth import find_modes, known_modes, train_on_modes
from monai_ext.metrics.sample_sets import set_distances


def test_samples_find_the_modes_of_fields_that_training_never_saw():
    network = train_on_modes(known_modes(24, 0))
    unseen = known_modes(6, 1)
    found = find_modes(network, unseen)
    assert found.recall >= 0.8 and found.samples.shape == (6, 32, 3, 16, 16)
    assert found.near > 0.6  # most samples are of one mode, and no mixture
    assert min(found.shares) > 0.05 and sum(found.shares) == pytest.approx(1)
    assert found.recall_of_one == 0.25
    distances = set_distances(found.samples, unseen.versions)
    assert found.near == pytest.approx((distances.amin(2) < unseen.apart / 2).double().mean().item())

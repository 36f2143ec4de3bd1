"""Pictures of samples and of their standard deviation."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch

from monai_ext.engines.bayesian import SAMPLES
from monai_ext.handlers.super_resolution.bayesian_pictures import BRIGHTEST, SamplePictures, deviation_map


def test_deviations_are_root_means_over_channels_up_to_the_brightest():
    values = torch.tensor([[[0.0, 0.03, 0.1]], [[0.0, 0.04, 9.0]]])  # channels of 1 x 3 pixels
    found = deviation_map(values)
    same = deviation_map(torch.tensor([[[0.0, (0.0025 / 2) ** 0.5, BRIGHTEST]]]))
    np.testing.assert_array_equal(found, same)
    assert len(np.unique(found.reshape(-1, 3), axis=0)) == 3


def test_a_row_shows_two_samples_and_half_their_difference(monkeypatch):
    high = torch.rand(1, 3, 8, 8)
    samples = torch.stack([high, high * 0, high + 0.02], 1)
    output = {"image": torch.rand(1, 3, 4, 4), "pred": high, "label": high, SAMPLES: samples}
    rows = []
    pictures = SamplePictures(None)
    monkeypatch.setattr(pictures, "add", rows.append)
    pictures.collect(SimpleNamespace(state=SimpleNamespace(output=output)), 2)
    (row,) = rows
    assert [picture.shape for picture in row] == [(8, 8, 3)] * 6
    np.testing.assert_array_equal(row[4], deviation_map(torch.full((3, 8, 8), 0.01)))

"""Content loss and perceptual score by the weights at hand."""

from __future__ import annotations

from monai_ext.engines.perceptual import Perception, content_loss, perceptual_score


def test_without_weights_there_is_no_content_loss_and_a_warning_says_how_to_get_one(caplog):
    assert content_loss(feature_weights=None) is None
    assert "--feature_weights" in caplog.text
    assert perceptual_score(feature_weights=None) is None


def test_without_weights_a_shift_makes_no_loss():
    assert Perception(shift=8).content is None

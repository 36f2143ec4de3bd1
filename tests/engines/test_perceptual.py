"""Content loss and perceptual score by the weights at hand."""

from __future__ import annotations

import pytest
import torch
from imagenet_weights import saved, torchvision_state_dict

from monai_ext.engines.perceptual import Perception
from monai_ext.networks.features import MobileNetV2Features


def test_without_weights_there_is_no_loss_and_a_warning_names_the_way_to_one(caplog):
    perception = Perception(shift=8)
    assert perception.content is None and perception.energy is None and perception.score is None
    assert perception.sample_content is None
    assert "--feature_weights" in caplog.text


def test_loss_energy_and_score_share_one_feature_network(tmp_path):
    perception = Perception(saved(torchvision_state_dict(), tmp_path), shift=2)
    features = perception.score.features
    assert isinstance(features, MobileNetV2Features)
    assert perception.content.loss.features is features and perception.energy.features is features
    assert perception.sample_content.loss is perception.content and perception.sample_content.count == 1
    image = torch.rand(2, 3, 32, 32)
    assert perception.score(image, image).tolist() == pytest.approx([0, 0], abs=1e-6)

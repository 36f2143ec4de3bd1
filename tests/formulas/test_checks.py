from __future__ import annotations

import math

import pytest
import torch

from monai_ext.formulas.checks import (
    check_choice,
    check_masks,
    check_not_negative,
    check_same_shape,
    check_spatial,
    checked_range,
    has_labels,
    not_probabilities,
)


def test_shapes_that_differ_are_named():
    check_same_shape(first=torch.zeros(2), second=torch.ones(2))
    with pytest.raises(ValueError, match=r"^a \(2,\), b \(2,\) and c \(3,\) differ in shape\.$"):
        check_same_shape(a=torch.zeros(2), b=torch.zeros(2), c=torch.zeros(3))


@pytest.mark.parametrize("value", [-1e-9, math.nan, math.inf])
def test_negative_and_infinite_weights_are_refused(value):
    assert check_not_negative("beta", 0) == 0.0
    with pytest.raises(ValueError, match="beta=.* must be finite and at least 0"):
        check_not_negative("beta", value)


def test_unknown_choices_name_the_known_ones():
    assert check_choice("norm", "batch", ("batch", "group")) == "batch"
    with pytest.raises(ValueError, match="norm='layer' must be one of batch, group"):
        check_choice("norm", "layer", ("batch", "group"))


@pytest.mark.parametrize(
    "shape", [(2, 3, 4, 5), (2, 3, 4, 5, 1), (1, 1, 4, 1), (2, 4, 1, 1), (2, 2, 2, 2), (2, 7, 64, 3), (2, 64, 64, 24)]
)
def test_batches_with_channels_before_the_pixels_pass(shape):
    check_spatial("image", torch.zeros(shape))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 4, 5), r"\(B, C, H, W, D\): batch and channels before the pixels"),
        ((4, 5), "batch and channels"),
        ((2, 1, 3, 4, 5, 6), "batch and channels"),
        ((2, 2, 2, 1), "has its channel last"),
        ((2, 64, 64, 3), "has its channel last"),
        ((2, 96, 128, 7), "has its channel last"),
        ((2, 4, 5, 1), r"has its channel last: .*image.movedim\(-1, 1\)"),
    ],
)
def test_batches_without_channels_or_with_channels_last_are_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        check_spatial("image", torch.zeros(shape))


def test_masks_are_whole_numbers_of_the_pixels_of_others():
    masks = torch.zeros(2, 3, 4, 5, dtype=torch.uint8)
    assert check_masks("masks", masks, like=masks[:, :1]) is masks
    with pytest.raises(ValueError, match="differ in batch or in pixels"):
        check_masks("samples", masks[:1], like=masks)
    with pytest.raises(ValueError, match="differ in batch or in pixels"):
        check_masks("samples", masks[..., 1:], like=masks)
    with pytest.raises(ValueError, match="masks > 0.5"):
        check_masks("masks", masks.float())
    with pytest.raises(ValueError, match="N >= 1"):
        check_masks("masks", masks[:, :0])


@pytest.mark.parametrize("values", [[0, 1], [0, 255], [0, 0], [7, 7], [0.0, 1.0], [0.0, 0.3, 1.0], [False, True]])
def test_one_value_of_foreground_is_a_mask(values):
    assert not has_labels("masks", torch.tensor([[[values]]])).any()


@pytest.mark.parametrize("values", [[0, 1, 2], [1, 2, 2], [0, 128, 255], [0.0, 1.0, 2.0], [0, -1, 1], [-2, -1, 0]])
def test_several_values_of_foreground_are_labels(values):
    masks = torch.tensor([[[values], [[0] * len(values)]]])
    with pytest.raises(ValueError, match=r"masks hold several values besides 0, up to .* masks == 1"):
        has_labels("masks", masks)
    assert not has_labels("masks", masks, present=torch.tensor([[False, True]])).any()
    with pytest.raises(ValueError, match="several values"):
        has_labels("masks", masks, present=torch.tensor([[True, False]]))


def test_two_masks_may_hold_different_values_of_foreground():
    assert not has_labels("masks", torch.tensor([[[[0, 1]], [[0, 255]]]])).any()


def test_no_masks_hold_no_labels():
    assert has_labels("masks", torch.zeros(0, 3, 4, 4, dtype=torch.uint8)).shape == (0, 3)


def test_off_the_host_labels_are_returned_instead_of_an_error(monkeypatch):
    class Elsewhere(torch.Tensor):
        device = torch.device("cuda")

    masks = torch.tensor([[[[0, 1, 2]], [[0, 3, 3]]]])
    assert has_labels("masks", masks.as_subclass(Elsewhere)).tolist() == [[True, False]]
    soft = torch.tensor([[[[0.0, 0.3, 1.0]], [[0.2, 0.3, 0.4]], [[-0.1, 0.0, 1.0]], [[0.0, 0.3, 1.1]]]])
    assert has_labels("masks", soft.as_subclass(Elsewhere)).tolist() == [[False, False, True, True]]
    images = torch.tensor([[[[0.0, 1.5]]], [[[0.0, 255.0]]], [[[-3.0, 0.0]]]])
    assert checked_range("target", images.as_subclass(Elsewhere)).tolist() == [False, True, True]
    logits = torch.tensor([[[[0.0, 1.0]], [[-0.1, 1.0]]]])
    assert not_probabilities("map", logits.as_subclass(Elsewhere), threshold=0.5).tolist() == [[False, True]]


@pytest.mark.parametrize(("threshold", "refused"), [(0.5, True), (0.01, True), (0, False), (1, False), (-2, False)])
def test_a_threshold_of_probabilities_refuses_logits(threshold, refused):
    assert not not_probabilities("map", torch.tensor([[[[0.0, 1.0]]]]), threshold=threshold).any()
    if refused:
        with pytest.raises(ValueError, match="map reaches from -3 to 2, and the threshold .* apply the sigmoid first"):
            not_probabilities("map", torch.tensor([[[[-3.0, 2.0]]]]), threshold=threshold)
    else:
        assert not not_probabilities("map", torch.tensor([[[[-3.0, 2.0]]]]), threshold=threshold).any()


def test_images_of_another_range_are_refused():
    assert not checked_range("target", torch.tensor([[-0.5, 1.5], [0.0, 1.0]])).any()
    for beyond in (1.501, -0.501, -1.0, 255.0):
        with pytest.raises(ValueError, match=r"target reaches from .* to .*: divide by the range"):
            checked_range("target", torch.tensor([[0.0, beyond], [0.0, 1.0]]))
    with pytest.raises(ValueError, match="target is torch.uint8, scores are for images in"):
        checked_range("target", torch.zeros(1, 3, dtype=torch.uint8))

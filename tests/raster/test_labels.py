"""Labels as they are given, and maps of them."""

from __future__ import annotations

import numpy as np
import pytest

from monai_ext.raster.labels import checked_label, checked_labels, label_map, values_outside

REGIONS = {"disc": [1, 2], "cup": [2]}


@pytest.mark.parametrize("label", ["white", [], [1, "a"], 1.5, True, [[1, 2]]])
def test_other_labels_are_refused(label):
    with pytest.raises(ValueError, match="labels is .*: give a value of the masks"):
        checked_label(label)


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ({}, "names no structure"),
        ({"disc": None}, "'disc' of the values None"),
        ({"a/b": 1}, "names of letters and digits"),
        ({"disc": [1, 2], "cup": [2, 1]}, "same values for disc and cup"),
        ({"disc": "white"}, "labels is 'white'"),
    ],
)
def test_structures_that_cannot_be_meant_are_refused(labels, sentence):
    with pytest.raises(ValueError, match=sentence):
        checked_labels(labels)


def test_values_of_no_structure_are_outside():
    assert values_outside([0, 1, 2, 3], REGIONS) == [3] and values_outside([0, 3], [1]) == []


def test_a_label_map_gives_back_the_values_of_the_masks():
    brain = {"whole": [1, 2, 3], "core": [2, 3], "active": [3]}
    values = np.array([[0, 1, 2, 3, 3, 1]])
    masks = np.stack([np.isin(values, own) for own in brain.values()])
    assert np.array_equal(label_map(masks, brain), values)
    order = ["active", "core", "whole"]  # named from the inside outwards
    assert np.array_equal(label_map(masks[[2, 1, 0]], {name: brain[name] for name in order}), values)
    apart = np.array([[[False, True, True]], [[True, False, True]]])  # a cup outside of its disc
    assert label_map(apart, REGIONS).tolist() == [[2, 1, 2]]
    both = {"left": [1, 2], "right": [2, 3]}  # they share a part
    values = np.array([[0, 1, 2, 3]])
    assert np.array_equal(label_map(np.stack([np.isin(values, own) for own in both.values()]), both), values)
    colours = {"red": [[255, 0, 0]], "blue": [[0, 0, 255]]}
    assert label_map(np.array([[True, False]] * 2), colours).tolist() == [2, 0]
    assert label_map(np.array([[True]]), {"deep": 2000}).dtype == np.uint16
    with pytest.raises(ValueError, match="2 structures"):
        label_map(masks, REGIONS)

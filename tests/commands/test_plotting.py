"""Palette of figures."""

from __future__ import annotations

from monai_ext.commands.plotting import colours_of


def test_a_loss_has_one_colour_and_neighbours_differ():
    colours = colours_of(["a", "b", "c", "d", "e"])
    assert len(set(colours.values())) == 5
    assert colours_of(["a"])["a"] == colours["a"]

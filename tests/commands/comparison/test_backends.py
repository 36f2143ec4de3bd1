"""Options of where runs execute."""

from __future__ import annotations

import sys

import pytest
from compare_command import command

from monai_ext.commands.comparison import command as module
from monai_ext.commands.comparison.backends import BackendOptions
from monai_ext.commands.comparison.ray_backend import RayOptions


@pytest.mark.parametrize("text", ["0/2", "3/2", "2", "a/2", "2/", "-1/2"])
def test_a_part_that_is_none_is_refused(text, place, capsys):
    with pytest.raises(SystemExit):
        command(place, f"--part={text}")
    assert f"'{text}' is no part: write I/N" in capsys.readouterr().err


def test_an_option_of_another_backend_is_refused(place):
    with pytest.raises(ValueError, match="--gpus_per_run 0.5 is an option of --backend ray"):
        BackendOptions(ray=RayOptions(gpus_per_run=0.5))


def test_without_ray_a_sentence_says_how_to_get_it(place, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r'Ray, which is not installed: pip install "ray>=2.40"'):
        module.run(*command(place, "--backend", "ray"))
    assert not (place / "out").exists()

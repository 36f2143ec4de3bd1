"""Which images are upscaled to which files."""

from __future__ import annotations

import pytest
from upscaling_toys import noise, save_picture

from monai_ext.commands.upscaling.output_names import plan_outputs


def test_one_file_may_name_its_output_and_collisions_are_refused(tmp_path):
    for name in ("a.png", "b.webp", "b.png"):
        save_picture(tmp_path / name, noise(3, 4, 4))
    assert plan_outputs([tmp_path / "a.png"], tmp_path / "x.tif") == [(tmp_path / "a.png", tmp_path / "x.tif")]
    assert plan_outputs([tmp_path / "a.png"], tmp_path / "out") == [(tmp_path / "a.png", tmp_path / "out" / "a.png")]
    with pytest.raises(ValueError, match="would both be written to .*b.png"):
        plan_outputs([tmp_path], tmp_path / "out")
    with pytest.raises(ValueError, match="a.png is one of the inputs"):
        plan_outputs([tmp_path / "a.png"], tmp_path)
    with pytest.raises(FileNotFoundError, match="input .*none.png does not exist"):
        plan_outputs([tmp_path / "none.png"], tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no images in .*empty"):
        plan_outputs([tmp_path / "empty"], tmp_path / "out")
    with pytest.raises(ValueError, match="new.png is the name of a file, and the images go to a folder"):
        plan_outputs([tmp_path], tmp_path / "new.png")
    with pytest.raises(ValueError, match="x.xyz is of an unknown kind: choose one of .tif"):
        plan_outputs([tmp_path / "a.png"], tmp_path / "x.xyz")
    assert plan_outputs([tmp_path / "a.png"], tmp_path / "run.v2")[0][1] == tmp_path / "run.v2" / "a.png"
    (tmp_path / "x.xyz").mkdir()
    assert plan_outputs([tmp_path / "a.png"], tmp_path / "x.xyz")[0][1] == tmp_path / "x.xyz" / "a.png"
    with pytest.raises(ValueError, match="b.webp is a file, and the images go to a folder"):
        plan_outputs([tmp_path], tmp_path / "b.webp")

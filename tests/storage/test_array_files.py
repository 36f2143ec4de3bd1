"""Arrays are read whole, and damage ends in one sentence."""

from __future__ import annotations

import numpy as np
import pytest

from monai_ext.storage.array_files import read_array


def test_an_array_comes_back_in_memory_or_mapped(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(6.0).reshape(2, 3))
    whole, mapped = read_array(tmp_path / "a.npy"), read_array(tmp_path / "a.npy", mapped=True)
    assert whole.tolist() == mapped.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert isinstance(mapped, np.memmap) and not isinstance(whole, np.memmap)
    with pytest.raises(ValueError):
        mapped[0, 0] = 9  # read-only


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01\x00", b"PK\x03\x04 no zip", b"text"])
def test_damage_is_one_sentence_with_the_way_out(content, tmp_path):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.npy is damaged \(.*\): build it again\.$"):
        read_array(tmp_path / "a.npy", way_out="build it again")


def test_pickles_and_archives_are_no_arrays(tmp_path):
    np.save(tmp_path / "a.npy", np.array([print], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "b.npz", a=np.zeros(2))
    for name in ("a.npy", "b.npz"):
        with pytest.raises(ValueError, match="is damaged"):
            read_array(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        read_array(tmp_path / "c.npy")

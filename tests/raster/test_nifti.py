"""Reading of NIfTI files: what is compressed is read to its checksum."""

from __future__ import annotations

import gzip
import os

import nibabel as nib
import numpy as np
import pytest

from monai_ext.raster.images import ImageFileError
from monai_ext.raster.nifti import open_nifti, read_nifti

VOXELS = (np.indices((40, 30, 3)).sum(0) % 5 == 0).astype(np.uint8)


def written(path, *, age=10):
    """A file of `VOXELS`, `age` seconds old."""
    nib.save(nib.Nifti1Image(VOXELS, np.diag([1.0, 2.0, 3.0, 1.0])), path)
    then = path.stat().st_mtime - age
    os.utime(path, (then, then))
    return path


def flipped(path, position, *, age=10):
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << position % 8
    path.write_bytes(content)
    then = path.stat().st_mtime - age
    os.utime(path, (then, then))
    return path


@pytest.mark.parametrize("read", [read_nifti, open_nifti, lambda path: read_nifti(path, slice_index=0)])
def test_no_flipped_bit_of_a_compressed_file_changes_what_is_read(tmp_path, read):
    whole = written(tmp_path / "a.nii.gz").read_bytes()
    right = read_nifti(tmp_path / "a.nii.gz")
    refused = 0
    for position in range(10, len(whole), 7):  # the first ten bytes name the file and its time
        (tmp_path / "b.nii.gz").write_bytes(whole)
        try:
            found = read(flipped(tmp_path / "b.nii.gz", position))
        except ImageFileError as error:
            assert "b.nii.gz" in str(error)
            refused += 1
            continue
        same = found.header == open_nifti(tmp_path / "a.nii.gz").header if read is open_nifti else None
        assert same or np.array_equal(found, right if found.ndim == 3 else right[:, :, 0])
    assert refused > 0.8 * len(range(10, len(whole), 7))


def test_a_file_that_was_sound_is_not_unpacked_for_its_sum_again(tmp_path, monkeypatch):
    path = written(tmp_path / "a.nii.gz")
    assert np.array_equal(read_nifti(path), VOXELS)
    monkeypatch.setattr("monai_ext.raster.nifti.gzip.open", None)
    assert np.array_equal(read_nifti(path, slice_index=2), VOXELS[:, :, 2])


def test_a_file_written_a_moment_ago_is_checked_each_time(tmp_path):
    path = written(tmp_path / "a.nii.gz", age=0)
    read_nifti(path)
    time = path.stat().st_mtime_ns
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(time, time))
    with pytest.raises(ImageFileError, match=r"a.nii.gz as NIfTI: CRC check failed"):
        read_nifti(path)


def test_a_compressed_file_larger_than_what_is_kept_is_checked_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("monai_ext.raster.nifti.KEPT_AT_MOST", 100)
    path = written(tmp_path / "a.nii.gz")
    assert np.array_equal(read_nifti(path), VOXELS)
    with pytest.raises(ImageFileError, match="CRC check failed"):
        read_nifti(flipped(path, path.stat().st_size - 6))


def test_a_file_that_unpacks_to_more_than_its_header_declares_is_refused(tmp_path):
    path = written(tmp_path / "a.nii.gz")
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + bytes(3 * 2**20)))
    with pytest.raises(ImageFileError, match="it unpacks to more than its header declares"):
        read_nifti(path)

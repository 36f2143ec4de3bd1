"""The command that writes one mask from several, and its table of raters."""

from __future__ import annotations

import csv
import json

import nibabel as nib
import numpy as np
import pytest
import torch
from rater_cases import placed_case, save_nifti_array, volume
from scored_folders import A, B, write_case

from monai_ext.__main__ import main
from monai_ext.commands.agreement.consensus import ConsensusOptions, consensus
from monai_ext.data import qubiq_items
from monai_ext.formulas.consensus import staple


def _rows(folder):
    with (folder / "raters.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_majority_of_each_case_is_written_with_what_each_rater_has_of_it(tmp_path, capsys):
    data, output = tmp_path / "data", tmp_path / "out"
    write_case(data / "case01", {1: A, 2: B})
    write_case(data / "case02", {1: A, 3: A})
    typed = ["consensus", str(data), "--method", "majority", "--output_dir", str(output), "--images"]
    assert main(typed) == 0
    assert np.asarray(nib.load(output / "case01" / "task01_seg00.nii.gz").dataobj).tolist() == A  # half suffices
    assert nib.load(output / "case01" / "task01.nii.gz").get_data_dtype() == np.float32
    found = [(r["id"], r["rater"], float(r["sensitivity"]), float(r["specificity"])) for r in _rows(output)]
    assert found == [("case01", "1", 1, 1), ("case01", "2", 0.5, 1), ("case02", "1", 1, 1), ("case02", "3", 1, 1)]
    record = json.loads((output / "consensus.json").read_text())
    second = next(entry for entry in record["raters"] if entry["rater"] == 2)
    assert second["dice"]["mean"] == pytest.approx(2 / 3) and second["dice"]["cases"] == 1
    assert "Raters against the consensus (majority)" in capsys.readouterr().out
    assert qubiq_items(output)[0]["raters"] == [0]  # a data set of one rater


def test_staple_of_a_volume_lies_where_its_image_lies(tmp_path):
    volume(tmp_path / "data")
    record = consensus(ConsensusOptions(tmp_path / "data", tmp_path / "out", anonymous=True))
    written = nib.load(tmp_path / "out" / "case1-1" / "task01.nii.gz")
    case = tmp_path / "data" / "case1-1"
    assert np.array_equal(written.affine, nib.load(case / "image.nii.gz").affine)
    masks = np.stack([np.asarray(nib.load(case / f"task01_seg0{n}.nii.gz").dataobj) for n in (1, 2)])
    expected = staple(torch.from_numpy(masks)[None])
    np.testing.assert_allclose(np.asarray(written.dataobj), expected.probability[0].numpy(), atol=1e-6)
    assert float(_rows(tmp_path / "out")[0]["sensitivity"]) == pytest.approx(
        expected.sensitivity[0, 0].item(), abs=1e-5
    )
    assert [entry.rater for entry in record.raters] == [None]


def test_shape_affine_and_units_are_those_of_the_image(tmp_path):
    case = placed_case(tmp_path / "data" / "case01", (6, 5), 3, shape=(6, 5, 1))
    source = nib.load(tmp_path / "data" / "case01" / "image.nii.gz")
    save_nifti_array(tmp_path / "data" / "case01" / "task01_seg01.nii.gz", np.ones((6, 5, 1), np.uint8), source.affine)
    consensus(ConsensusOptions(tmp_path / "data", tmp_path / "out", method="union"))
    written = nib.load(tmp_path / "out" / "case01" / "task01_seg00.nii.gz")
    assert written.shape == (6, 5, 1) and written.header.get_xyzt_units() == source.header.get_xyzt_units()
    np.testing.assert_allclose(written.affine, source.affine, atol=1e-4)
    assert case is None or case


def test_the_consensus_is_not_written_among_the_raters(tmp_path):
    with pytest.raises(ValueError, match="lies in the data set"):
        ConsensusOptions(tmp_path, tmp_path / "Training")

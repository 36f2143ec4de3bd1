"""Bundles found by name and by folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from bundle_runs import BUNDLES

import monai_ext
from monai_ext.commands.bundles.shipped import bundle_folder, find_bundle, shipped_bundles

ALL = {"bayesian_srgan_aerial", "lesion_unet", "prob_unet", "qubiq_holistic", "srgan_aerial"}


def test_a_checkout_has_its_bundles_beside_the_package_and_a_wheel_inside(tmp_path, monkeypatch):
    assert shipped_bundles() == {name: BUNDLES / name for name in ALL}
    configs = tmp_path / "monai_ext" / "bundles" / "toy" / "configs"
    configs.mkdir(parents=True)
    (configs / "inference.json").write_text("{}")
    (tmp_path / "bundles" / "other" / "configs").mkdir(parents=True)  # of another package
    monkeypatch.setattr(monai_ext, "__file__", str(tmp_path / "monai_ext" / "__init__.py"))
    assert shipped_bundles() == {"toy": configs.parent}


def test_a_name_means_the_folder_that_is_here_before_the_one_that_is_shipped(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert bundle_folder("lesion_unet") == bundle_folder(Path("bundles/lesion_unet")) == BUNDLES / "lesion_unet"
    configs = tmp_path / "bundles" / "lesion_unet" / "configs"
    configs.mkdir(parents=True)
    (tmp_path / "lesion_unet").mkdir()  # results, no bundle
    (configs / "train.json").write_text("{}")
    assert bundle_folder("lesion_unet") == Path("bundles/lesion_unet") == find_bundle("bundles/lesion_unet")
    assert bundle_folder(configs.parent) == configs.parent
    assert bundle_folder("elsewhere/lesion_unet") == Path("elsewhere/lesion_unet")


def test_what_is_no_bundle_is_refused_with_the_nearest_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="no bundle 'lesionunet' .*: did you mean lesion_unet"):
        find_bundle("lesionunet")
    with pytest.raises(FileNotFoundError, match="give its folder, or one of bayesian_srgan_aerial, lesion_unet"):
        find_bundle(tmp_path)

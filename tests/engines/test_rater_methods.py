"""Methods for several raters: networks, losses and the cases they see."""

from __future__ import annotations

import logging
import shutil

import pytest
import torch
from torch import nn

from monai_ext.data import DatasetLayoutError, write_rater_phantoms
from monai_ext.engines.rater_methods import PER_RATER_METHODS, RATER_METHODS, rater_cases, rater_loss, rater_network
from monai_ext.engines.raters import RaterInferer
from monai_ext.formulas.consensus import staple
from monai_ext.losses import ConsensusLoss, PerRaterLoss, majority_label
from monai_ext.networks.rater_sampler import RaterSampler


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantoms")
    write_rater_phantoms(folder, count=3, size=(32, 32))
    return folder


@pytest.mark.parametrize("method", RATER_METHODS)
def test_every_method_answers_and_learns(method):
    torch.manual_seed(0)
    network = rater_network(method, raters=3, features=2, members=2)
    assert isinstance(network, RaterSampler) and network.per_rater == (method in PER_RATER_METHODS)
    loss = rater_loss(method, [nn.BCEWithLogitsLoss(reduction="none")])
    image, masks = torch.rand(2, 1, 32, 32), (torch.rand(2, 3, 32, 32) > 0.5).float()
    target = {"masks": masks, "presence": torch.ones(2, 3)}
    loss(
        network(image, target) if getattr(network, "learns_from_samples", False) else network(image), target
    ).backward()
    assert sum(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters()) > 10
    network.eval()
    with torch.no_grad():
        answers = RaterInferer(samples=3)(image, network)
    assert answers["samples"].shape == (2, 3, 32, 32) and answers["probability"].shape == (2, 1, 32, 32)
    assert ("heads" in answers) == (method in PER_RATER_METHODS)
    assert all(((maps >= 0) & (maps <= 1)).all() for maps in answers.values())


def test_losses_fit_their_methods():
    losses = [nn.BCEWithLogitsLoss(reduction="none")]
    assert all(isinstance(rater_loss(name, losses), PerRaterLoss) for name in PER_RATER_METHODS)
    assert isinstance(rater_loss("mc_dropout", losses), ConsensusLoss)
    assert rater_loss("majority", losses).consensus is majority_label
    assert rater_loss("soft_label", losses).consensus is not majority_label


def test_a_method_without_heads_may_learn_another_consensus():
    losses = [nn.BCEWithLogitsLoss(reduction="none")]
    masks = (torch.rand(2, 5, 8, 8, generator=torch.Generator().manual_seed(0)) < 0.5).float()
    logits = torch.zeros(2, 1, 8, 8)
    for method in ("majority", "mc_dropout"):
        value = rater_loss(method, losses, target="staple")(logits, {"masks": masks, "presence": torch.ones(2, 5)})
        assert value.item() == pytest.approx(0.6931, abs=1e-4)
    found = rater_loss("soft_label", losses, target="staple").consensus(masks)
    torch.testing.assert_close(found[:, 0], staple(masks.byte()).probability)
    with pytest.raises(ValueError, match="the method ordered learns the raters' own masks"):
        rater_loss("ordered", losses, target="staple")


def test_the_spread_reaches_every_method_that_has_one():
    for method in RATER_METHODS:
        network = rater_network(method, raters=2, features=2, members=2, spread=0.6)
        network = network.members[1] if method.startswith("deep_ensemble") else network
        assert getattr(network, "spread", None) == (None if method in ("mc_dropout", "majority") else 0.6)
    with pytest.raises(ValueError, match="spread=-1"):
        rater_network("conditioned", raters=2, features=2, spread=-1)


def test_the_faithful_network_is_the_published_one():
    count = sum(p.numel() for p in rater_network("holistic_faithful", raters=3, features=64).parameters())
    assert count == 26_077_647


def test_an_unknown_method_is_told_the_known_ones(phantoms):
    for action in (
        lambda: rater_network("best", raters=2),
        lambda: rater_loss("best", []),
        lambda: rater_cases(phantoms, method="best"),
    ):
        with pytest.raises(ValueError, match="method='best'.*holistic.*mc_dropout"):
            action()


def test_columns_follow_the_order_asked_for_and_who_is_left_out_is_told(phantoms, caplog):
    with caplog.at_level(logging.WARNING):
        items = rater_cases(phantoms, method="holistic", raters=[4, 2])
    assert [item["raters"] for item in items] == [[4, 2]] * 3
    assert [[path[-8] for path in item["label"]] for item in items] == [["4", "2"]] * 3
    assert "raters 1, 3, 5" in caplog.text and "[1, 2, 3, 4, 5]" in caplog.text


def test_a_head_without_rater_is_refused_with_the_way_out(phantoms):
    with pytest.raises(DatasetLayoutError, match=r"rater 6, 7.*--raters '\[1, 2, 3, 4, 5\]'"):
        rater_cases(phantoms, method="holistic", raters=[1, 2, 3, 4, 5, 6, 7])
    with pytest.raises(ValueError, match=r"head for each rater.*\[1, 2, 3, 4, 5\]"):
        rater_cases(phantoms, method="combined", raters=[])


def test_anonymous_raters_are_for_methods_that_take_all_alike(phantoms):
    with pytest.raises(ValueError, match="anonymous.*another person"):
        rater_cases(phantoms, method="holistic", raters=[1, 2], anonymous="true")
    for method in ("majority", "prob_unet"):
        items = rater_cases(phantoms, method=method, raters=[1, 2, 3, 9], anonymous="true")
        assert items[0]["raters"] == [1, 2, 3]  # nobody is number 9
        assert rater_cases(phantoms, method=method)[0]["raters"] == [1, 2, 3, 4, 5]
    with pytest.raises(DatasetLayoutError, match="raters 8 marked nothing"):
        rater_cases(phantoms, method="majority", raters=[8])


def test_a_case_that_none_of_the_chosen_marked_is_named(tmp_path):
    write_rater_phantoms(tmp_path, count=2, size=(32, 32))
    (tmp_path / "Training" / "case02" / "task01_seg03.nii.gz").unlink()
    with pytest.raises(DatasetLayoutError, match="case02.*raters 3"):
        rater_cases(tmp_path, method="holistic", raters=[3])


def test_cases_to_be_scored_have_the_columns_of_the_training_whoever_marked_them(tmp_path, caplog):
    write_rater_phantoms(tmp_path, count=2, size=(32, 32))
    part = tmp_path / "Training"
    shutil.copytree(part, tmp_path / "Validation")
    for name in ("case01", "case02"):
        (tmp_path / "Validation" / name / "task01_seg03.nii.gz").unlink()
    options = {"part": "Validation", "raters": [1, 3, 5], "evaluation": True}
    for method in ("holistic", "soft_label", "prob_unet"):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            items = rater_cases(tmp_path, method=method, **options)
        assert [item["raters"] for item in items] == [[1, 3, 5]] * 2
        assert [[path and path[-8] for path in item["label"]] for item in items] == [["1", None, "5"]] * 2
        assert "raters 2, 4 of" in caplog.text and "are left out: the training had none of them" in caplog.text
        assert "raters 3 of the training marked no case of" in caplog.text and "--raters" not in caplog.text
    with pytest.raises(DatasetLayoutError, match=r"\(Validation\) has a mask by rater 3, who should have a head"):
        rater_cases(tmp_path, method="holistic", part="Validation", raters=[1, 3, 5])
    with pytest.raises(DatasetLayoutError, match="none of the raters of the training, 3, 9, marked a case"):
        rater_cases(tmp_path, method="holistic", **options | {"raters": [3, 9]})
    (tmp_path / "Validation" / "case02" / "task01_seg01.nii.gz").unlink()
    with pytest.raises(DatasetLayoutError, match=r"case02.*raters 1, 3 \(1 such cases\): take the cases out"):
        rater_cases(tmp_path, method="holistic", **options | {"raters": [1, 3]})

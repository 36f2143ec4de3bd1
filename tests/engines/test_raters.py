from __future__ import annotations

import logging
import shutil

import nibabel as nib
import numpy as np
import pytest
import torch
from ignite.engine import Events
from torch import Tensor, nn

from monai_ext.data import DatasetLayoutError, DeviceLoader, ImageFileError, write_rater_phantoms
from monai_ext.data.raters.images import DecodeRaterImages, rater_image_items, read_grey
from monai_ext.engines import BatchTrainer
from monai_ext.engines.rater_methods import PER_RATER_METHODS, RATER_METHODS, rater_cases, rater_loss, rater_network
from monai_ext.engines.raters import PrepareRaters, RaterEvaluator, RaterInferer
from monai_ext.losses import ConsensusLoss, PerRaterLoss, majority_label
from monai_ext.networks import HolisticNet, ProbabilisticUNet
from monai_ext.networks.multi_rater import HeadSampling, RaterSampler
from monai_ext.transforms import BatchAugment, OneRaterAugment, RandomAffine, RandomFlip, RandomGamma
from monai_ext.transforms.one_rater import pick_rater


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantoms")
    write_rater_phantoms(folder, count=3, size=(32, 32))
    return folder


class Heads(HeadSampling, nn.Module):
    """Head r answers with the constant logit `logits[r]`."""

    per_rater = True

    def __init__(self, logits: list[float]):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))
        self.calls = 0

    def forward(self, image: Tensor) -> Tensor:
        self.calls += 1
        return self.logits[None, :, None, None].expand(len(image), -1, *image.shape[-2:])


# --- batches


def test_the_target_is_masks_and_presence_and_a_batch_without_label_has_none():
    batch = {"image": torch.rand(2, 1, 4, 4), "label": torch.ones(2, 3, 4, 4), "presence": torch.ones(2, 3) > 0}
    image, target = PrepareRaters()(batch, "cpu")
    assert image is batch["image"] and target["masks"] is batch["label"] and target["presence"] is batch["presence"]
    assert PrepareRaters()({"image": batch["image"]})[1] is None


def test_every_annotator_present_is_picked_equally_often_and_a_missing_one_never():
    masks = torch.arange(4).view(1, 4, 1, 1).expand(300, -1, -1, -1)
    presence = torch.tensor([True, False, True, True]).expand(300, -1)
    picked = pick_rater(masks, presence, torch.arange(300) / 300)
    assert picked.shape == (300, 1, 1, 1)
    assert torch.bincount(picked.flatten(), minlength=4).tolist() == [100, 0, 100, 100]


def test_the_largest_float_below_one_picks_the_last_annotator():
    u = torch.nextafter(torch.ones(1), torch.zeros(1))
    masks, presence = torch.arange(3).view(1, 3, 1, 1), torch.ones(1, 3)
    assert pick_rater(masks, presence, u).item() == 2


def rater_batch(count: int = 40) -> dict:
    """Annotator r marks row r alone; annotator 1 is missing from odd cases."""
    label = torch.zeros(count, 3, 4, 4, dtype=torch.uint8)
    for r in range(3):
        label[:, r, r] = 1
    presence = torch.ones(count, 3, dtype=torch.bool)
    presence[1::2, 1] = False
    return {"image": torch.rand(count, 1, 4, 4), "label": label, "presence": presence}


def test_one_annotator_a_case_is_kept_whole_and_the_same_seed_picks_the_same():
    batch, augment = rater_batch(), OneRaterAugment()
    first, again, other = (augment(batch, torch.Generator().manual_seed(seed))["label"] for seed in (0, 0, 1))
    assert first.shape == (40, 1, 4, 4) and torch.equal(first, again) and not torch.equal(first, other)
    rows = first[:, 0, :, 0].argmax(1)
    assert torch.equal(first.sum((1, 2, 3)), torch.full((40,), 4.0))
    assert set(rows.tolist()) == {0, 1, 2} and 1 not in rows[1::2].tolist()


def test_the_annotator_is_drawn_beside_the_augmentation_which_stays_as_it_was():
    parts = [RandomFlip(), RandomAffine(10), RandomGamma([0.8, 1.25])]
    drawn = [kind(parts).draw(6, torch.Generator().manual_seed(0)) for kind in (BatchAugment, OneRaterAugment)]
    assert all(
        torch.equal(drawn[0].tensors[name], value) for name, value in drawn[1].tensors.items() if name != "rater"
    )
    assert [len(part.tensors["rater"]) for part in drawn[1].split([4, 2])] == [4, 2]


def test_an_epochs_annotators_depend_on_the_epoch_and_the_seed_alone(phantoms):
    from monai_ext.data import DecodeRaters, DeviceDataset, qubiq_items

    dataset = DeviceDataset(qubiq_items(phantoms), DecodeRaters(normalise="minmax"), progress=False)

    def labels(epoch: int, batch_size: int) -> Tensor:
        loader = DeviceLoader(dataset, batch_size=batch_size, shuffle=True, seed=5, transform=OneRaterAugment())
        loader.set_epoch(epoch)
        return torch.cat([batch["label"] for batch in loader])

    assert torch.equal(labels(3, 1), labels(3, 3))
    assert len({labels(epoch, 3).sum().item() for epoch in range(6)}) > 1


# --- answers


def test_heads_are_asked_once_and_their_mean_is_the_probability():
    network = Heads([-1.0, 0.0, 3.0])
    answers = RaterInferer(samples=4)(torch.rand(2, 1, 5, 6), network)
    expected = torch.tensor([-1.0, 0.0, 3.0]).sigmoid()
    assert network.calls == 1
    assert {name: maps.shape for name, maps in answers.items()} == {
        "probability": (2, 1, 5, 6), "samples": (2, 4, 5, 6), "heads": (2, 3, 5, 6),
    }  # fmt: skip
    torch.testing.assert_close(answers["heads"][0, :, 0, 0], expected)
    torch.testing.assert_close(answers["probability"][1, 0, 2, 2], expected.mean())


@pytest.mark.parametrize("method", RATER_METHODS)
def test_every_method_answers_and_learns(method):
    torch.manual_seed(0)
    network = rater_network(method, raters=3, features=2, members=2)
    assert isinstance(network, RaterSampler) and network.per_rater == (method in PER_RATER_METHODS)
    loss = rater_loss(method, [nn.BCEWithLogitsLoss(reduction="none")])
    image, masks = torch.rand(2, 1, 32, 32), (torch.rand(2, 3, 32, 32) > 0.5).float()
    loss(network(image), {"masks": masks, "presence": torch.ones(2, 3)}).backward()
    assert sum(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters()) > 10
    network.eval()
    with torch.no_grad():
        answers = RaterInferer(samples=3)(image, network)
    assert answers["samples"].shape == (2, 3, 32, 32) and answers["probability"].shape == (2, 1, 32, 32)
    assert ("heads" in answers) == (method in PER_RATER_METHODS)
    assert all(((maps >= 0) & (maps <= 1)).all() for maps in answers.values())


def test_every_validation_draws_the_same_samples_of_the_prior_and_never_sees_a_mask(monkeypatch):
    network = ProbabilisticUNet(features=(2, 2, 2, 2, 2))
    monkeypatch.setattr(network.posterior, "forward", None)  # calling it would raise
    batch = {"image": torch.rand(2, 1, 16, 16), "label": torch.ones(2, 2, 16, 16), "presence": torch.ones(2, 2)}
    evaluator = RaterEvaluator("cpu", [batch, batch], network, inferer=RaterInferer(samples=3))
    seen = []
    evaluator.add_event_handler(Events.ITERATION_COMPLETED, lambda e: seen.append(e.state.output["pred"]["samples"]))
    evaluator.run()
    evaluator.run()
    assert torch.equal(seen[0], seen[2]) and torch.equal(seen[1], seen[3])
    assert not torch.equal(seen[0], seen[1]) and not torch.equal(seen[0][:, 0], seen[0][:, 1])


def test_answers_come_at_the_size_of_the_masks():
    batch = {"image": torch.rand(1, 1, 8, 8), "label": torch.ones(1, 2, 20, 12), "presence": torch.ones(1, 2)}
    evaluator = RaterEvaluator("cpu", [batch], Heads([9.0, 9.0]), inferer=RaterInferer(samples=2))
    evaluator.run()
    answers = evaluator.state.output["pred"]
    assert {maps.shape[-2:] for maps in answers.values()} == {(20, 12)}
    assert all(maps.max() <= 1 for maps in answers.values())


def test_no_sample_is_refused():
    with pytest.raises(ValueError, match="samples=0"):
        RaterInferer(samples=0)


# --- training never hears a missing annotator


def test_a_missing_annotators_mask_changes_nothing_in_training():
    def weights(filling: int) -> list[Tensor]:
        torch.manual_seed(0)
        network = HolisticNet(2, features=2, dropout=0.0)
        label = torch.zeros(2, 2, 16, 16)
        label[:, 0, 4:9] = 1
        label[:, 1] = filling
        batch = {"image": torch.rand(2, 1, 16, 16), "label": label, "presence": torch.tensor([[1, 0], [1, 0]])}
        loss = rater_loss("holistic", [nn.BCEWithLogitsLoss(reduction="none")])
        options = {"optimizer": torch.optim.NAdam(network.parameters(), 0.01), "prepare_batch": PrepareRaters()}
        BatchTrainer("cpu", 2, [batch], network, loss_function=loss, precision="fp32", **options).run()
        return [p.detach().clone() for p in network.parameters()]

    assert all(torch.equal(a, b) for a, b in zip(weights(0), weights(1), strict=True))


# --- methods and their data


def test_losses_fit_their_methods():
    losses = [nn.BCEWithLogitsLoss(reduction="none")]
    assert all(isinstance(rater_loss(name, losses), PerRaterLoss) for name in PER_RATER_METHODS)
    assert isinstance(rater_loss("mc_dropout", losses), ConsensusLoss)
    assert rater_loss("majority", losses).consensus is majority_label
    assert rater_loss("soft_label", losses).consensus is not majority_label


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
    assert "annotators 1, 3, 5" in caplog.text and "[1, 2, 3, 4, 5]" in caplog.text


def test_a_head_without_annotator_is_refused_with_the_way_out(phantoms):
    with pytest.raises(DatasetLayoutError, match=r"annotator 6, 7.*--raters '\[1, 2, 3, 4, 5\]'"):
        rater_cases(phantoms, method="holistic", raters=[1, 2, 3, 4, 5, 6, 7])
    with pytest.raises(ValueError, match=r"head for each annotator.*\[1, 2, 3, 4, 5\]"):
        rater_cases(phantoms, method="combined", raters=[])


def test_anonymous_annotators_are_for_methods_that_take_all_alike(phantoms):
    with pytest.raises(ValueError, match="anonymous.*another person"):
        rater_cases(phantoms, method="holistic", raters=[1, 2], anonymous="true")
    for method in ("majority", "prob_unet"):
        items = rater_cases(phantoms, method=method, raters=[1, 2, 3, 9], anonymous="true")
        assert items[0]["raters"] == [1, 2, 3]  # nobody is number 9
        assert rater_cases(phantoms, method=method)[0]["raters"] == [1, 2, 3, 4, 5]
    with pytest.raises(DatasetLayoutError, match="annotators 8 marked nothing"):
        rater_cases(phantoms, method="majority", raters=[8])


def test_a_case_that_none_of_the_chosen_marked_is_named(tmp_path):
    write_rater_phantoms(tmp_path, count=2, size=(32, 32))
    (tmp_path / "Training" / "case02" / "task01_seg03.nii.gz").unlink()
    with pytest.raises(DatasetLayoutError, match="case02.*annotators 3"):
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
        assert "annotators 2, 4 of" in caplog.text and "are left out: the training had none of them" in caplog.text
        assert "annotators 3 of the training marked no case of" in caplog.text and "--raters" not in caplog.text
    with pytest.raises(DatasetLayoutError, match=r"\(Validation\) has a mask by annotator 3, who should have a head"):
        rater_cases(tmp_path, method="holistic", part="Validation", raters=[1, 3, 5])
    with pytest.raises(DatasetLayoutError, match="none of the annotators of the training, 3, 9, marked a case"):
        rater_cases(tmp_path, method="holistic", **options | {"raters": [3, 9]})
    (tmp_path / "Validation" / "case02" / "task01_seg01.nii.gz").unlink()
    with pytest.raises(DatasetLayoutError, match=r"case02.*annotators 1, 3 \(1 such cases\): take the cases out"):
        rater_cases(tmp_path, method="holistic", **options | {"raters": [1, 3]})


# --- pictures to predict


def test_pictures_of_all_kinds_are_listed_by_name(tmp_path):
    from PIL import Image

    Image.new("L", (6, 4)).save(tmp_path / "b.png")
    nib.save(nib.Nifti1Image(np.ones((4, 6), np.float32), np.eye(4)), tmp_path / "a.nii.gz")
    (tmp_path / "notes.txt").write_text("no picture")
    items = rater_image_items(tmp_path, task=2)
    assert [(item["id"], item["task"]) for item in items] == [("a", 2), ("b", 2)]
    assert rater_image_items(tmp_path / "b.png")[0]["id"] == "b"
    Image.new("L", (6, 4)).save(tmp_path / "a.jpg")
    with pytest.raises(DatasetLayoutError, match="two pictures of the name a"):
        rater_image_items(tmp_path)


def test_cases_are_listed_with_or_without_masks_and_one_of_several_parts_is_asked_for(phantoms, tmp_path):
    assert [item["case"] for item in rater_image_items(phantoms)] == ["case01", "case02", "case03"]
    for part in ("Training", "Testing"):
        case = tmp_path / part / f"{part}1"
        case.mkdir(parents=True)
        nib.save(nib.Nifti1Image(np.ones((4, 6), np.float32), np.eye(4)), case / "image.nii.gz")
    with pytest.raises(DatasetLayoutError, match="testing, training: choose one by part="):
        rater_image_items(tmp_path)
    assert [item["case"] for item in rater_image_items(tmp_path, part="Testing")] == ["Testing1"]


def test_a_photograph_becomes_its_luminance_or_its_colours(tmp_path):
    from PIL import Image

    Image.new("RGB", (6, 4), (200, 100, 50)).save(tmp_path / "c.png")
    item = {"id": "c", "image": str(tmp_path / "c.png")}
    grey = DecodeRaterImages(in_channels=1)(item)
    assert grey["image"].shape == (1, 4, 6) and grey["original_size"].tolist() == [4, 6] and "label" not in grey
    assert grey["image"].unique().tolist() == [124.0]  # 0.299 200 + 0.587 100 + 0.114 50 = 124.2
    assert torch.equal(read_grey(item["image"]), grey["image"])
    colours = DecodeRaterImages(in_channels=3, spatial_size=(2, 2))(item)["image"]
    assert colours.shape == (3, 2, 2) and colours[:, 0, 0].tolist() == [200.0, 100.0, 50.0]


def test_another_number_of_channels_than_the_networks_is_named(phantoms):
    item = rater_image_items(phantoms)[0]
    with pytest.raises(ImageFileError, match="case01.*has 1 channel.*takes 4: set in_channels=1"):
        DecodeRaterImages(in_channels=4)(item)

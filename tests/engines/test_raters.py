"""Training and validation with several raters."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Events
from torch import Tensor, nn

from monai_ext.engines import BatchTrainer
from monai_ext.engines.rater_methods import rater_loss
from monai_ext.engines.raters import PrepareRaters, RaterEvaluator, RaterInferer
from monai_ext.networks import HolisticNet, LevelSetNet, ProbabilisticUNet
from monai_ext.networks.multi_rater import HeadSampling
from monai_ext.networks.rater_sampler import RaterPrediction


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


def test_the_target_is_masks_and_presence_and_a_batch_without_label_has_none():
    batch = {"image": torch.rand(2, 1, 4, 4), "label": torch.ones(2, 3, 4, 4), "presence": torch.ones(2, 3) > 0}
    image, target = PrepareRaters()(batch, "cpu")
    assert image is batch["image"] and target["masks"] is batch["label"] and target["presence"] is batch["presence"]
    assert PrepareRaters()({"image": batch["image"]})[1] is None


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


def test_every_validation_draws_the_same_samples_of_the_prior_and_never_sees_a_mask(monkeypatch):
    torch.manual_seed(0)
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


class Gradient(LevelSetNet):
    """Weights that grow to the right, so that views differ."""

    def __init__(self):
        super().__init__(nn.Identity())

    def forward(self, image: Tensor) -> Tensor:
        return image + torch.linspace(-1, 1, image.shape[-1])


def test_test_time_augmentation_averages_the_eight_symmetries_of_the_square():
    image = torch.randn(1, 1, 5, 5)
    network, output = Gradient(), []
    for k in range(8):
        moved = torch.rot90(image.flip(-2) if k > 3 else image, k % 4, (2, 3))
        back = torch.rot90(network(moved).sigmoid(), -(k % 4), (2, 3))
        output.append(back.flip(-2) if k > 3 else back)
    augmented = RaterInferer(samples=4, tta=True)(image, network)
    mean = torch.stack(output).mean(0)
    torch.testing.assert_close(augmented["probability"], mean)
    assert torch.equal(augmented["samples"], network.draw(augmented["probability"], 4))
    turned = RaterInferer(samples=4, tta="true")(torch.rot90(image, 1, (2, 3)), network)
    torch.testing.assert_close(turned["probability"], torch.rot90(mean, 1, (2, 3)))


def test_predictions_for_a_region_are_scored_at_their_place_in_the_whole_image():
    masks = torch.zeros(1, 2, 16, 16)
    masks[:, :, 4:12, 4:12] = 1
    batch = {"image": torch.rand(1, 1, 8, 8), "label": masks, "presence": torch.ones(1, 2)}
    batch |= {"roi": torch.tensor([[4, 4, 8, 8]]), "label_is_whole": torch.tensor([True])}
    evaluator = RaterEvaluator("cpu", [batch], Heads([9.0, 9.0]), inferer=RaterInferer(samples=2))
    evaluator.run()
    output = evaluator.state.output["pred"]
    assert all(torch.equal(maps > 0.5, (masks > 0)[:, : maps.shape[1]]) for maps in output.values())
    assert "roi" not in evaluator.state.batch and "roi" in batch
    cut = {name: value for name, value in batch.items() if name != "label_is_whole"} | {
        "label": masks[:, :, 4:12, 4:12]
    }
    evaluator = RaterEvaluator("cpu", [cut], Heads([9.0, 9.0]), inferer=RaterInferer(samples=2))
    evaluator.run()
    assert evaluator.state.output["pred"]["heads"].shape == (1, 2, 8, 8) and "roi" in evaluator.state.batch


class Noise(nn.Module):
    """A method whose samples are noise, drawn for the whole batch at once: each depends on what was drawn before."""

    per_rater = False

    def predict(self, image: Tensor, n: int, *, symmetries=(), generator=None) -> RaterPrediction:
        self.batches = [*getattr(self, "batches", []), len(image)]
        samples = torch.rand((n, len(image), *image.shape[2:]), generator=generator).transpose(0, 1)
        return RaterPrediction(samples.mean(1, keepdim=True), samples)


@pytest.mark.parametrize("names", [[["a"], ["b"], ["c"]], [["a", "b", "c"]], [["c", "a"], ["b"]], [["b", "c"]]])
def test_samples_of_a_case_depend_neither_on_batches_nor_on_order_nor_on_other_cases(names):
    network = Noise()
    batches = [{"image": torch.zeros(len(part), 1, 4, 4), "id": part} for part in names]
    evaluator = RaterEvaluator("cpu", batches, network, inferer=RaterInferer(samples=3, seed=5))
    drawn = {}

    def keep(engine):
        drawn.update(zip(engine.state.batch["id"], engine.state.output["pred"]["samples"], strict=True))

    evaluator.add_event_handler(Events.ITERATION_COMPLETED, keep)
    evaluator.run()
    for name, samples in drawn.items():
        inferer = RaterInferer(samples=3, seed=5)
        inferer.cases = [name]
        assert torch.equal(samples, inferer(torch.zeros(1, 1, 4, 4), Noise())["samples"][0]), name
    assert len({samples.sum().item() for samples in drawn.values()}) == len(drawn)
    inferer = RaterInferer(samples=3, seed=6)
    inferer.cases = ["b"]
    assert not torch.equal(drawn["b"], inferer(torch.zeros(1, 1, 4, 4), Noise())["samples"][0])


def test_a_method_without_randomness_is_applied_to_whole_batches():
    network = Heads([-1.0, 0.0, 3.0])
    inferer = RaterInferer(samples=3)
    inferer.cases = ["a", "b"]
    assert inferer(torch.rand(2, 1, 5, 6), network)["samples"].shape == (2, 3, 5, 6) and network.calls == 1
    inferer.samples = 4  # one head more, drawn at random
    assert inferer(torch.rand(2, 1, 5, 6), network)["samples"].shape == (2, 4, 5, 6) and network.calls == 4
    inferer(torch.rand(2, 1, 5, 6), network)
    assert network.calls == 6  # known from then on


def test_no_sample_is_refused():
    with pytest.raises(ValueError, match="samples=0"):
        RaterInferer(samples=0)
    with pytest.raises(ValueError, match="search has no use"):
        RaterInferer(window=(4, 4), middle=(4, 4), search=True)


def test_a_missing_raters_mask_changes_nothing_in_training():
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

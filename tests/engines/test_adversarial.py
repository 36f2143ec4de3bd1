"""The adversarial trainer against plain PyTorch, its pairs, stages, curves and alarms."""

from __future__ import annotations

import copy
import json
import logging
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents
from PIL import Image
from torch import nn

from monai_ext.data import DeviceDataset, DeviceLoader
from monai_ext.engines import BatchTrainer, ModelEMA, gradients
from monai_ext.engines.adversarial import Adversary, PairedAdversarialTrainer
from monai_ext.engines.gradients import average_over_ranks, frozen
from monai_ext.engines.perceptual import content_loss, perceptual_score
from monai_ext.handlers import FinalCheckpoint, ResumeHandler
from monai_ext.handlers.super_resolution.adversarial_health import (
    AdversarialAlarm,
    NonFiniteTermGuard,
    TermCurves,
    detail_ratios,
)
from monai_ext.handlers.training.stages import StageCheckpoints, StagedLearningRate
from monai_ext.losses.adversarial import LogisticAdversarialLoss, R1Penalty
from monai_ext.losses.consistency import ConsistencyLoss
from monai_ext.networks.sr_discriminator import SRDiscriminator
from monai_ext.networks.srresnet import SRResNet
from monai_ext.runtime.errors import NonFiniteLossError
from monai_ext.transforms import RandomFlip, RandomQuarterTurn
from monai_ext.transforms.degradation import Degradation
from monai_ext.transforms.interpolation import interpolate
from monai_ext.transforms.pairs import PairedCrops, ToUnitRanged, take_crops

SCALE = 2


class Pairs:
    """Three batches of two pairs, (2, 3, s / 2, s / 2) and (2, 3, s, s) for the size s."""

    def __init__(self, size: int = 8):
        generator = torch.Generator().manual_seed(5)
        degradation = Degradation(SCALE)
        high = [torch.rand(2, 3, size, size, generator=generator) for _ in range(3)]
        self.batches = [{"image": degradation(images), "label": images} for images in high]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self):
        return iter(self.batches)


def networks(*, spectral_norm: bool = False) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    generator = SRResNet(features=4, blocks=1, scale=SCALE, norm=None)
    return generator, SRDiscriminator(features=4, norm=None, head="patch", spectral_norm=spectral_norm)


def trainer(
    generator, discriminator, *, epochs: int = 1, optimizer=None, rival=None, adversary=(), **options
) -> PairedAdversarialTrainer:
    """`adversary`: options of `Adversary`; `rival`: its optimiser."""
    defaults = {
        "pretrain_epochs": 0,
        "image_losses": {"pixel": (1.0, nn.L1Loss())},
        "precision": "fp32",
        "train_data_loader": Pairs(),
    }
    rival = rival or torch.optim.SGD(discriminator.parameters(), 0.05)
    return PairedAdversarialTrainer(
        "cpu",
        epochs,
        network=generator,
        optimizer=optimizer or torch.optim.SGD(generator.parameters(), 0.1),
        loss_function=nn.MSELoss(),
        adversary=Adversary(discriminator, rival, **dict(adversary)),
        **(defaults | options),
    )


def assert_equal_weights(first: nn.Module, second: nn.Module, **tolerance) -> None:
    for (name, value), other in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        torch.testing.assert_close(value, other, msg=lambda text, name=name: f"{name}: {text}", **tolerance)


def test_stage_one_takes_the_steps_of_the_lean_trainer_and_leaves_the_discriminator_alone():
    generator, discriminator = networks()
    plain, untouched = copy.deepcopy(generator), copy.deepcopy(discriminator)
    run = trainer(generator, discriminator, epochs=2, pretrain_epochs=2)
    run.run()
    optimizer = torch.optim.SGD(plain.parameters(), 0.1)
    BatchTrainer("cpu", 2, Pairs(), plain, optimizer, nn.MSELoss(), precision="fp32").run()
    assert_equal_weights(generator, plain, rtol=0, atol=0)
    assert_equal_weights(discriminator, untouched, rtol=0, atol=0)
    assert set(run.state.output["terms"]) == {"pixel"}


def by_hand(generator: nn.Module, discriminator: nn.Module, *, gamma: float, interval: int, smoothing: float) -> None:
    """Stage two in plain PyTorch; R1 written out, with the gradient of the summed mean logits."""
    g_optimizer = torch.optim.SGD(generator.parameters(), 0.1)
    d_optimizer = torch.optim.SGD(discriminator.parameters(), 0.05)
    for step, batch in enumerate(Pairs()):
        low, high = batch["image"], batch["label"]
        fake = generator(low)
        loss = 0.5 * (fake - high).abs().mean() + 0.2 * F.softplus(-discriminator(fake)).mean()
        g_optimizer.zero_grad()
        loss.backward()
        g_optimizer.step()
        real = high.clone().requires_grad_()
        labels = torch.full_like(discriminator(high), 1 - smoothing)
        loss = F.binary_cross_entropy_with_logits(discriminator(high), labels)
        loss = loss + F.binary_cross_entropy_with_logits(discriminator(fake.detach()), torch.zeros_like(labels))
        if step % interval == 0:
            logits = discriminator(real).flatten(1).mean(1)
            (gradient,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
            loss = loss + interval * gamma / 2 * (gradient**2).sum((1, 2, 3)).mean()
        d_optimizer.zero_grad()
        loss.backward()
        d_optimizer.step()


def test_stage_two_takes_the_steps_of_plain_pytorch_with_lazy_r1_and_smoothed_labels():
    generator, discriminator = networks()
    plain = copy.deepcopy(generator), copy.deepcopy(discriminator)
    run = trainer(
        generator,
        discriminator,
        image_losses={"pixel": (0.5, nn.L1Loss())},
        adversary={
            "loss": LogisticAdversarialLoss(label_smoothing=0.1),
            "weight": 0.2,
            "penalty": R1Penalty(3.0),
            "penalty_interval": 2,
        },
    )
    steps_with_penalty = []
    run.add_event_handler(
        Events.ITERATION_COMPLETED, lambda e: steps_with_penalty.append("penalty" in e.state.output["terms"])
    )
    run.run()
    by_hand(*plain, gamma=3.0, interval=2, smoothing=0.1)
    assert steps_with_penalty == [True, False, True]
    assert_equal_weights(generator, plain[0], rtol=1e-5, atol=1e-7)
    assert_equal_weights(discriminator, plain[1], rtol=1e-5, atol=1e-7)


def test_a_step_has_one_generator_pass_three_discriminator_passes_and_no_gradient_in_the_frozen_turn():
    generator, discriminator = networks()
    passes = {"generator": 0, "discriminator": 0}
    generator.register_forward_hook(lambda *_: passes.update(generator=passes["generator"] + 1))
    discriminator.register_forward_hook(lambda *_: passes.update(discriminator=passes["discriminator"] + 1))
    run = trainer(generator, discriminator)
    kept = {}

    @run.on(IterationEvents.BACKWARD_COMPLETED)
    def after_the_generators_turn(engine):
        if engine.state.iteration == 1:
            assert all(weight.grad is None for weight in discriminator.parameters())
        kept.update({name: weight.grad.clone() for name, weight in generator.named_parameters()})

    @run.on(Events.ITERATION_COMPLETED)
    def after_the_discriminators_turn(engine):
        for name, weight in generator.named_parameters():
            assert torch.equal(weight.grad, kept[name]), f"the discriminator's turn reached {name}"
        assert all(weight.grad is not None and weight.requires_grad for weight in discriminator.parameters())

    run.run()
    assert passes == {"generator": 3, "discriminator": 9}


def test_frozen_restores_only_what_it_froze_also_after_an_error():
    layer = nn.Linear(2, 1)
    layer.bias.requires_grad_(False)
    with pytest.raises(KeyError), frozen(layer):
        assert not layer.weight.requires_grad
        raise KeyError
    assert layer.weight.requires_grad and not layer.bias.requires_grad


def test_every_term_of_stage_two_is_in_the_output_and_the_loss_is_their_weighted_sum():
    generator, discriminator = networks()
    consistency = ConsistencyLoss(Degradation(SCALE))
    losses = {
        "pixel": (0.5, nn.L1Loss()),
        "consistency": (7.0, consistency),
        "content": (1, None),
    }
    run = trainer(generator, discriminator, image_losses=losses, adversary={"weight": 0.25})
    run.run()
    terms = run.state.output["terms"]
    assert set(terms) == {"pixel", "consistency", "adversarial", "discriminator", "real_score", "fake_score"}
    expected = 0.5 * terms["pixel"] + 7 * terms["consistency"] + 0.25 * terms["adversarial"]
    torch.testing.assert_close(run.state.output["loss"], expected)
    assert all(0 < terms[name] < 1 for name in ("real_score", "fake_score"))
    assert not any(
        value.requires_grad for value in (*terms.values(), run.state.output["pred"], run.state.output["loss"])
    )


def test_the_generators_moments_are_forgotten_at_the_switch_and_only_there():
    generator, discriminator = networks()
    optimizer = torch.optim.Adam(generator.parameters(), 1e-3)
    run = trainer(generator, discriminator, epochs=3, pretrain_epochs=1, optimizer=optimizer)
    steps = []
    weight = next(generator.parameters())
    run.add_event_handler(Events.EPOCH_COMPLETED, lambda: steps.append(int(optimizer.state[weight]["step"])))
    run.run()
    assert steps == [3, 3, 6]


def test_bf16_trains_with_spectral_norm_and_the_losses_stay_float32():
    generator, discriminator = networks(spectral_norm=True)
    # oneDNN's bfloat16 gradient of a stride-2 convolution on one pixel reads memory that nobody wrote: larger images
    options = {"train_data_loader": Pairs(32), "adversary": {"penalty": R1Penalty(1.0)}, "max_grad_norm": 1.0}
    run = trainer(generator, discriminator, precision="bf16", **options)
    run.run()
    assert run.state.output["pred"].dtype == torch.float32
    assert {value.dtype for value in run.state.output["terms"].values()} == {torch.float32}
    assert all(weight.isfinite().all() for net in (generator, discriminator) for weight in net.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_losses": {"content": (1.0, None)}}, "image_losses is empty"),
        ({"pretrain_epochs": -1}, "pretrain_epochs=-1"),
        ({"adversary": {"penalty_interval": 0}}, "penalty_interval=0"),
    ],
)
def test_a_game_that_cannot_be_played_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        trainer(*networks(), **options)


# Resuming


class Run:
    """A whole training run of 2 + 2 epochs on random tiles: crops, both stages, average, schedules, checkpoints."""

    def __init__(self, folder, *, resume: bool = False):
        torch.manual_seed(1)
        generator = torch.Generator().manual_seed(2)
        tiles = torch.randint(256, (6, 3, 20, 24), dtype=torch.uint8, generator=generator)
        items = [{"id": str(i), "tile": tile} for i, tile in enumerate(tiles)]
        dataset = DeviceDataset(items, lambda item: {"id": item["id"], "image": item["tile"]}, progress=False)
        pairs = PairedCrops(
            Degradation(SCALE, noise=0.02, levels=255), [RandomFlip(), RandomQuarterTurn()], crop_size=16
        )
        loader = DeviceLoader(dataset, 2, shuffle=True, seed=3, transform=pairs)
        self.generator, self.discriminator = networks(spectral_norm=True)
        self.average = ModelEMA(self.generator, 0.9)
        optimizer = torch.optim.Adam(self.generator.parameters(), 1e-3)
        rival = torch.optim.Adam(self.discriminator.parameters(), 1e-3)
        objects = {
            "network": self.generator,
            "average": self.average,
            "optimizer": optimizer,
            "discriminator": self.discriminator,
            "discriminator_optimizer": rival,
        }
        handlers = [
            StagedLearningRate(optimizer, [(2, 1e-2, "one_cycle"), (2, 1e-3, "drop")]),
            StagedLearningRate(rival, [(2, 0.0, "constant"), (2, 2e-3, "drop")]),
            ResumeHandler(folder / "last.pt", objects, resume=resume),
            FinalCheckpoint(self.average.module, folder / "final.pt"),
        ]
        self.trainer = trainer(
            self.generator,
            self.discriminator,
            epochs=4,
            optimizer=optimizer,
            pretrain_epochs=2,
            train_data_loader=loader,
            rival=rival,
            adversary={"penalty": R1Penalty(1.0), "penalty_interval": 4},
            average=self.average,
            train_handlers=handlers,
        )

    def kill(self, iteration: int) -> None:
        def stop(engine):
            raise KeyboardInterrupt

        self.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=iteration), stop)
        with pytest.raises(KeyboardInterrupt):
            self.trainer.run()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Run:
    run = Run(tmp_path_factory.mktemp("whole"))
    run.trainer.run()
    return run


@pytest.mark.parametrize("iteration", [5, 7, 11], ids=["in stage one", "just after the switch", "in stage two"])
def test_a_killed_run_resumes_to_the_weights_of_an_uninterrupted_one(iteration, uninterrupted, tmp_path):
    Run(tmp_path).kill(iteration)
    torch.manual_seed(99)  # another process
    resumed = Run(tmp_path, resume=True)
    resumed.trainer.run()
    for name in ("generator", "discriminator", "average"):
        assert_equal_weights(getattr(resumed, name), getattr(uninterrupted, name), rtol=0, atol=0)
    assert_equal_weights(resumed.trainer.network, uninterrupted.trainer.network, rtol=0, atol=0)


# Several processes


def test_gradients_and_buffers_become_means_over_the_processes(monkeypatch):
    network = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1))
    for weight in network.parameters():
        weight.grad = torch.full_like(weight, 2.0)
    counter = network[1].num_batches_tracked.clone()

    def another_process(message):
        message += 4.0  # its gradients and statistics, all 4

    monkeypatch.setattr(gradients, "is_distributed", lambda: True)
    monkeypatch.setattr(torch.distributed, "all_reduce", another_process)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    average_over_ranks(network)
    assert all(torch.equal(weight.grad, torch.full_like(weight, 3.0)) for weight in network.parameters())
    assert network[1].running_mean.item() == 2.0 and network[1].running_var.item() == 2.5  # (0 + 4) / 2, (1 + 4) / 2
    assert torch.equal(network[1].num_batches_tracked, counter)


# Pairs


def test_crops_are_windows_of_their_tiles_from_the_first_corner_to_the_last():
    tiles = torch.arange(2 * 3 * 5 * 7, dtype=torch.int32).view(2, 3, 5, 7)
    first, last = take_crops(tiles, torch.tensor([[0.0, 0.0], [0.9999999, 0.9999999]]), 4)
    assert torch.equal(first, tiles[0, :, :4, :4])
    assert torch.equal(last, tiles[1, :, 1:, 3:])


def test_crops_of_16_bits_are_exact():
    tiles = torch.tensor([0, 1, 40000, 65535], dtype=torch.uint16).view(1, 1, 2, 2)
    assert torch.equal(take_crops(tiles, torch.tensor([[0.0, 0.6]]), 1).view(-1), tiles[0, 0, 0, 1:])


def test_a_tile_smaller_than_the_crop_is_refused_with_both_sizes():
    with pytest.raises(ValueError, match="5 x 7 pixels are smaller than crop_size=6"):
        take_crops(torch.zeros(1, 1, 5, 7), torch.zeros(1, 2), 6)


def test_a_pair_is_a_turned_crop_and_its_degradation():
    degradation = Degradation(SCALE, levels=255)
    pairs = PairedCrops(degradation, [RandomFlip(), RandomQuarterTurn()], crop_size=4)
    tile = torch.arange(49, dtype=torch.uint8).view(1, 1, 7, 7)
    for seed in range(8):
        pair = pairs({"image": tile, "id": ["a"]}, torch.Generator().manual_seed(seed))
        assert pair["id"] == ["a"]
        torch.testing.assert_close(pair["image"], degradation(pair["label"]), rtol=0, atol=0)
        crop = (pair["label"] * 255).round()[0, 0]
        corner = int(crop.min())
        window = tile[0, 0, corner // 7 : corner // 7 + 4, corner % 7 : corner % 7 + 4].float()
        turned = [torch.rot90(w, k) for w in (window, window.flip(0)) for k in range(4)]
        assert any(torch.equal(crop, other) for other in turned)


def test_pairs_depend_on_the_place_in_the_epoch_and_not_on_the_size_of_batches():
    pairs = PairedCrops(Degradation(SCALE), [RandomFlip()], crop_size=4)
    tiles = torch.randint(256, (6, 3, 9, 9), dtype=torch.uint8)
    whole = pairs.apply({"image": tiles}, pairs.draw(6, torch.Generator().manual_seed(4)))["label"]
    parts = pairs.draw(6, torch.Generator().manual_seed(4)).split(2)
    pieces = [pairs.apply({"image": tiles[2 * i : 2 * i + 2]}, part)["label"] for i, part in enumerate(parts)]
    assert torch.equal(whole, torch.cat(pieces))


def test_noise_of_whole_tiles_is_the_same_in_every_epoch_and_differs_among_batches():
    pairs = PairedCrops(Degradation(SCALE, noise=0.1))
    tiles = torch.full((4, 1, 8, 8), 128, dtype=torch.uint8)
    epochs = [pairs.draw(4, torch.Generator().manual_seed(seed)).split(2) for seed in (0, 1)]
    (a, b), (c, _) = ([pairs.apply({"image": tiles[:2]}, part)["image"] for part in parts] for parts in epochs)
    assert torch.equal(a, c) and not torch.equal(a, b)


def test_a_crop_that_is_no_multiple_of_the_scale_is_refused():
    with pytest.raises(ValueError, match="crop_size=10 must be a multiple of the scale, 4"):
        PairedCrops(Degradation(4), crop_size=10)


@pytest.mark.parametrize(("dtype", "levels"), [(torch.uint8, 255), (torch.uint16, 65535)])
def test_pixels_become_shares_of_the_largest_value_of_their_type(dtype, levels):
    item = ToUnitRanged()({"image": torch.tensor([0, 255, levels], dtype=torch.int32).to(dtype), "id": "a"})
    torch.testing.assert_close(item["image"], torch.tensor([0, 255 / levels, 1.0]))
    assert item["levels"] == levels and item["id"] == "a"


def test_other_types_have_no_unit_range():
    with pytest.raises(ValueError, match="torch.int32: expected uint8 or uint16"):
        ToUnitRanged()({"image": torch.zeros(1, dtype=torch.int32)})


@pytest.mark.parametrize("method", ["nearest", "bicubic", "lanczos"])
def test_enlargement_is_pillows_of_8_bit_pictures_up_to_rounding(method):
    # no overshoot: 8-bit pictures are clipped between Pillow's two passes, floats are not
    pixels = np.random.default_rng(0).integers(90, 166, (5, 7, 3), dtype=np.uint8)
    expected = Image.fromarray(pixels).resize((21, 15), getattr(Image.Resampling, method.upper()))
    images = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    result = (interpolate(images, 3, method=method).clamp(0, 1) * 255).round()
    assert np.abs(result[0].permute(1, 2, 0).numpy() - np.asarray(expected, dtype=np.float32)).max() <= 1


def test_unknown_interpolation_is_refused():
    with pytest.raises(ValueError, match="method='cubic' is unknown: choose one of nearest, bicubic, lanczos"):
        interpolate(torch.zeros(1, 1, 2, 2), 2, method="cubic")


# Losses


def test_consistency_sees_what_the_reduction_keeps_and_nothing_else():
    degradation = Degradation(SCALE)
    high = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    noise = torch.rand_like(high)
    invisible = noise - degradation.pseudo_inverse(degradation.reduce(noise))
    loss = ConsistencyLoss(degradation)
    assert loss(high + invisible, high) < 1e-12
    expected = (degradation.reduce(high + noise) - degradation.reduce(high)).square().mean()
    torch.testing.assert_close(loss(high + noise, high), expected.float())
    with pytest.raises(ValueError, match="differ in shape"):
        loss(high, high[:1])


def test_without_weights_there_is_no_content_loss_and_a_warning_says_how_to_get_one(caplog):
    assert content_loss(feature_weights=None) is None
    assert "--feature_weights" in caplog.text
    assert perceptual_score(feature_weights=None) is None


# Learning rates


def rates(plan: StagedLearningRate, epoch_length: int, iterations: int) -> list[float]:
    engine = Engine(lambda engine, batch: None)
    plan.attach(engine)
    seen: list[float] = []
    engine.add_event_handler(Events.ITERATION_STARTED, lambda: seen.append(plan.optimizer.param_groups[0]["lr"]))
    engine.run(range(epoch_length), max_epochs=iterations // epoch_length)
    return seen


def test_learning_rates_follow_the_stages_iteration_by_iteration():
    optimizer = torch.optim.SGD([torch.zeros(1)], 1.0)
    plan = StagedLearningRate(optimizer, [(1, 0.0, "constant"), (0, 5.0, "constant"), (2, 0.4, "drop")])
    assert rates(plan, 2, 8) == pytest.approx([0, 0, 0.4, 0.4, 0.04, 0.04, 0.04, 0.04])


def test_one_cycle_rises_for_a_tenth_and_falls_to_a_hundredth():
    plan = StagedLearningRate(torch.optim.SGD([torch.zeros(1)], 1.0), [(10, 2.0, "one_cycle")])
    assert [plan.rate(epoch) for epoch in (0, 0.5, 1, 5.5, 10)] == pytest.approx([0.02, 1.01, 2.0, 1.01, 0.02])


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([(1, 0.1, "cosine")], "one of one_cycle, constant, drop"),
        ([(-1, 0.1, "drop")], "not negative"),
        ([(0, 0.1, "drop")], "have no epoch"),
    ],
)
def test_stages_without_sense_are_refused(stages, message):
    with pytest.raises(ValueError, match=message):
        StagedLearningRate(torch.optim.SGD([torch.zeros(1)], 1.0), stages)


# Checkpoints of stages


def judged(folder, scores: list[dict], *, first: int = 1) -> nn.Module:
    """Validations from epoch `first` on, the network's bias being the epoch; stage one has two epochs."""
    network = nn.Linear(1, 1)
    handler = StageCheckpoints(network, folder, pretrain_epochs=2)
    for epoch, metrics in enumerate(scores, first):
        nn.init.constant_(network.bias, float(epoch))
        handler._judge(SimpleNamespace(state=SimpleNamespace(epoch=epoch, metrics=metrics)))
    return network


def epoch_of(path) -> int:
    return int(torch.load(path, weights_only=True)["bias"])


def test_stage_one_keeps_the_highest_psnr_and_stage_two_the_lowest_distance(tmp_path):
    psnr, distance = "val_psnr", "val_perceptual"
    judged(tmp_path, [{psnr: 25.0, distance: 0.1}, {psnr: 24.0, distance: 0.1}])
    assert epoch_of(tmp_path / "pretrained.pt") == epoch_of(tmp_path / "model.pt") == 1
    judged(tmp_path, [{psnr: 20.0, distance: d} for d in (0.3, 0.2, 0.25)], first=3)
    assert epoch_of(tmp_path / "pretrained.pt") == 1
    assert epoch_of(tmp_path / "model.pt") == 4
    assert json.loads((tmp_path / "best.json").read_text()) == {
        "pretrained": {"epoch": 1, "score": psnr, "value": 25.0},
        "adversarial": {"epoch": 4, "score": distance, "value": 0.2},
    }


def test_without_a_perceptual_score_stage_two_keeps_the_latest_weights(tmp_path):
    judged(tmp_path, [{"val_psnr": 25.0}, {"val_psnr": 26.0}, {"val_psnr": 20.0}, {"val_psnr": 19.0}])
    assert epoch_of(tmp_path / "pretrained.pt") == 2
    assert epoch_of(tmp_path / "model.pt") == 4


def test_a_score_that_is_not_a_number_is_never_the_best(tmp_path):
    judged(tmp_path, [{"val_psnr": float("nan")}, {"val_psnr": 20.0}])
    assert epoch_of(tmp_path / "pretrained.pt") == 2


def test_a_resumed_run_has_to_beat_its_earlier_epochs_but_not_those_it_repeats(tmp_path):
    judged(tmp_path, [{"val_psnr": 25.0}, {"val_psnr": 26.0}])
    judged(tmp_path, [{"val_psnr": 25.5}], first=2)  # killed in epoch 2, after its best was recorded
    assert epoch_of(tmp_path / "pretrained.pt") == 2
    assert json.loads((tmp_path / "best.json").read_text())["pretrained"]["value"] == 25.5
    judged(tmp_path, [{"val_psnr": 20.0}], first=1)  # begun anew
    assert epoch_of(tmp_path / "pretrained.pt") == 1


# Curves and alarms


class Writer:
    def __init__(self):
        self.points: list[tuple[str, float, int]] = []

    def add_scalar(self, name, value, step):
        self.points.append((name, round(value, 6), step))


def epoch_of_outputs(handler, outputs: list[dict], *, epochs: int = 1) -> None:
    engine = Engine(lambda engine, batch: batch)
    handler.attach(engine)
    engine.run(outputs, max_epochs=epochs)


def test_curves_are_means_since_the_last_point_and_lazy_terms_means_of_the_steps_that_have_them():
    writer = Writer()
    optimizer = torch.optim.SGD([torch.zeros(1)], 0.5)
    terms = [{"pixel": 1.0, "penalty": 8.0}, {"pixel": 3.0}, {"pixel": 7.0}]
    outputs = [{"terms": {name: torch.tensor(value) for name, value in step.items()}} for step in terms]
    epoch_of_outputs(TermCurves(writer, optimizers={"generator": optimizer}, interval=2), outputs)
    assert writer.points == [
        ("train_pixel", 2.0, 2),
        ("train_penalty", 8.0, 2),
        ("learning_rate_generator", 0.5, 2),
        ("train_pixel", 7.0, 3),
        ("learning_rate_generator", 0.5, 3),
    ]
    assert outputs[0]["terms"]["pixel"] == 1.0, "the engine's output was overwritten"


def test_a_nan_of_the_discriminator_stops_the_run():
    outputs = [{"loss": torch.tensor(1.0), "terms": {"discriminator": torch.tensor(float("nan"))}}]
    with pytest.raises(NonFiniteLossError, match="NaN or infinite in epoch 1"):
        epoch_of_outputs(NonFiniteTermGuard(), outputs)


def output(*, real: float = 0.7, fake: float = 0.3, kind: str = "working") -> dict:
    label = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    images = {
        "working": label * 0.8,
        "blank": label.mean((2, 3), keepdim=True).expand_as(label),
        "constant": label[:1].expand_as(label),
    }
    terms = {"real_score": torch.tensor(real), "fake_score": torch.tensor(fake)}
    return {"pred": images[kind], "label": label, "terms": terms}


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        ({"real": 0.999, "fake": 0.001}, "the discriminator is saturated, its mean probability 'real' is 0.999"),
        ({"real": 0.451, "fake": 0.449}, "does not tell real images from fakes, .* is 0.451 and 0.449"),
        ({"kind": "blank"}, "the generator's images are blank, with 0.0% of the contrast"),
        ({"kind": "constant"}, "nearly the same image for every input, with 0.0% of the variety"),
    ],
)
def test_alarms_ring_after_as_many_epochs_as_patience_has_and_not_for_a_working_game(broken, sentence, caplog):
    caplog.set_level(logging.WARNING)
    epoch_of_outputs(AdversarialAlarm(patience=2, interval=1), [output()], epochs=5)
    epoch_of_outputs(AdversarialAlarm(patience=2, interval=1), [output(**broken)], epochs=1)
    assert not caplog.records
    epoch_of_outputs(AdversarialAlarm(patience=2, interval=1), [output(**broken)], epochs=3)
    (record,) = caplog.records
    assert re.search(sentence, record.getMessage())
    assert "after epoch 2, for 2 epochs in a row" in caplog.text


def test_nobody_is_blind_before_there_is_a_discriminator(caplog):
    before = output()
    before["terms"].clear()
    epoch_of_outputs(AdversarialAlarm(patience=1, interval=1), [before])
    assert not caplog.records


def test_an_epoch_shorter_than_the_interval_is_judged_by_its_last_step(caplog):
    epoch_of_outputs(AdversarialAlarm(patience=1, interval=100), [output(), output(kind="blank")])
    assert "blank" in caplog.text


def test_detail_is_measured_within_images_and_among_them():
    label = output()["label"]
    torch.testing.assert_close(detail_ratios(0.5 * label, label), torch.tensor([0.5, 0.5]))
    assert detail_ratios(label[:1], label[:1]).tolist() == [1.0, 1.0]


def test_senseless_alarms_are_refused():
    for settings in ({"gap": 0}, {"chance": 1.0}, {"detail": -0.1}):
        ((name, value),) = settings.items()
        with pytest.raises(ValueError, match=f"{name}={value}"):
            AdversarialAlarm(**settings)

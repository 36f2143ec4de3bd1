"""The adversarial trainer against plain PyTorch, its stages, and resuming it."""

from __future__ import annotations

import copy
from contextlib import nullcontext

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from ignite.engine import Events
from monai.engines.utils import IterationEvents
from torch import nn

from monai_ext.data import DeviceDataset, DeviceLoader
from monai_ext.engines import BatchTrainer, ModelEMA, adversarial
from monai_ext.engines.adversarial import Adversary, PairedAdversarialTrainer
from monai_ext.handlers import FinalCheckpoint, ResumeHandler
from monai_ext.handlers.training.stages import StagedLearningRate
from monai_ext.losses.adversarial import LogisticAdversarialLoss, R1Penalty
from monai_ext.losses.consistency import ConsistencyLoss
from monai_ext.networks.sr_discriminator import SRDiscriminator
from monai_ext.networks.srresnet import SRResNet
from monai_ext.transforms import RandomFlip, RandomQuarterTurn
from monai_ext.transforms.degradation import Degradation
from monai_ext.transforms.pairs import PairedCrops

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


def test_without_weight_stage_two_is_a_training_by_the_image_losses_and_leaves_the_discriminator_alone():
    generator, discriminator = networks()
    reference, untouched = copy.deepcopy(generator), copy.deepcopy(discriminator)
    optimizer = torch.optim.SGD(reference.parameters(), 0.1)
    BatchTrainer("cpu", 2, Pairs(), reference, optimizer, nn.L1Loss(), precision="fp32").run()
    engine = trainer(generator, discriminator, epochs=2, adversary={"weight": 0.0, "penalty": R1Penalty(1.0)})
    engine.run()
    assert_equal_weights(generator, reference)
    assert_equal_weights(discriminator, untouched)
    assert set(engine.state.output["terms"]) == {"pixel"}


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
    with torch.no_grad():
        for weight in discriminator.parameters():  # as initialised it hardly depends on the image
            weight.mul_(4)
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
    assert_equal_weights(generator, plain[0], rtol=1e-4, atol=1e-5)
    assert_equal_weights(discriminator, plain[1], rtol=1e-4, atol=1e-5)


class Linear(nn.Module):
    """D(x) = w . x, whose gradient with respect to every image is w."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, -2.0, 0.5]))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (images * self.weight.view(1, 3, 1, 1)).sum((1, 2, 3))[:, None]


def test_a_lazy_penalty_pulls_once_in_an_interval_as_much_as_one_of_every_step():
    network = Linear()
    start = network.weight.detach().clone()
    images = torch.zeros(2, 3, 1, 1)  # logits 0, and no gradient but that of the penalty
    optimizer = torch.optim.SGD(network.parameters(), 0.01)
    adversary = Adversary(network, optimizer, penalty=R1Penalty(0.5), penalty_interval=4)
    for step, pulls in enumerate([1, 1, 1, 1, 2]):
        terms = adversary.update(images, images, step=step, precision=nullcontext())
        # gamma / 2 |w|^2 has the gradient gamma w; times the interval of 4 and the rate of 0.01
        torch.testing.assert_close(network.weight.detach(), start * (1 - 4 * 0.5 * 0.01) ** pulls)
        assert ("penalty" in terms) == (step in (0, 4))
        if step == 0:
            torch.testing.assert_close(terms["penalty"], 0.25 * start.square().sum())
        torch.testing.assert_close(terms["discriminator"], torch.tensor(2 * np.log(2), dtype=torch.float32))
        assert terms["real_score"] == terms["fake_score"] == 0.5


def test_the_defaults_of_an_adversary_are_those_of_the_papers():
    adversary = Adversary(Linear(), torch.optim.SGD([torch.zeros(1)], 1.0))
    assert (adversary.weight, adversary.penalty, adversary.penalty_interval) == (1e-3, None, 16)
    assert isinstance(adversary.loss, LogisticAdversarialLoss) and adversary.loss.label_smoothing == 0
    assert Adversary(Linear(), adversary.optimizer, penalty_interval=1).penalty_interval == 1


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


def test_both_networks_train_in_training_mode():
    pair = networks()
    modes = []
    for network in pair:
        network.eval()
        network.register_forward_hook(lambda module, *_: modes.append(module.training))
    trainer(*pair).run()
    assert len(modes) == 12 and all(modes)


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


def test_all_processes_begin_with_the_first_ones_networks_and_share_the_gradients_of_each_step(monkeypatch):
    copied, averaged = [], []
    monkeypatch.setattr(adversarial, "copy_from_first_rank", copied.append)
    monkeypatch.setattr(adversarial, "average_over_ranks", averaged.append)
    generator, discriminator = networks()
    trainer(generator, discriminator, epochs=2, pretrain_epochs=1).run()
    assert copied == [generator, discriminator]
    assert averaged == [generator] * 3 + [generator, discriminator] * 3


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
        ({"image_losses": {"content": (1.0, None), "pixel": (0.0, nn.L1Loss())}}, "image_losses is empty"),
        ({"pretrain_epochs": -1}, "pretrain_epochs=-1"),
        ({"adversary": {"penalty_interval": 0}}, "penalty_interval=0"),
    ],
)
def test_a_game_that_cannot_be_played_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        trainer(*networks(), **options)


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

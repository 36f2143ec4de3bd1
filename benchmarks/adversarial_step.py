"""Cost of a step of SRGAN's second stage, beside MONAI's GanTrainer.

GanTrainer runs the generator twice in a step and computes gradients of the discriminator's weights in the generator's
update, where they are not used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from monai.engines import GanTrainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks import loops
from benchmarks.measure import Cost, in_turn, middle, times_cheaper
from benchmarks.report import Result, Table
from benchmarks.workbench import Bench
from monai_ext.engines.adversarial import Adversary, PairedAdversarialTrainer
from monai_ext.engines.precision import autocast_dtype, has_bfloat16
from monai_ext.losses.adversarial import LogisticAdversarialLoss
from monai_ext.networks import SRDiscriminator, SRResNet

SCALE = 4
WEIGHT = 1e-3  # of the adversarial term
USUAL = "GanTrainer, float32"
OURS = "one generator pass, float32"
LAID_OUT = "one generator pass, float32, channels_last"
FAST = "one generator pass, bfloat16, channels_last"


class Pair:
    """Generator and discriminator of the paper, with a head for any size, and their optimisers."""

    def __init__(self, device: torch.device, *, features: int, blocks: int):
        torch.manual_seed(0)
        self.device = device
        self.generator = SRResNet(features=features, blocks=blocks, scale=SCALE).to(device)
        self.discriminator = SRDiscriminator(features=features, head="patch").to(device)
        self.optimizers = [
            torch.optim.Adam(network.parameters(), 1e-4, fused=True) for network in (self.generator, self.discriminator)
        ]
        self.pixel, self.game = nn.L1Loss(), LogisticAdversarialLoss()


def pictures(count: int, side: int) -> list[dict[str, Tensor]]:
    """Noise in pairs: image (3, side / 4, side / 4) and label (3, side, side)."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.rand(count, 3, side, side, generator=generator)
    return [{"image": nn.functional.avg_pool2d(label, SCALE), "label": label} for label in labels]


def our_trainer(pair: Pair, batches: DataLoader, *, epochs: int, **settings: Any) -> PairedAdversarialTrainer:
    """Ours, in stage two from the start."""
    optimizer, rival = pair.optimizers
    return PairedAdversarialTrainer(
        pair.device,
        epochs,
        batches,
        pair.generator,
        optimizer,
        pair.pixel,
        adversary=Adversary(pair.discriminator, rival, loss=pair.game, weight=WEIGHT),
        pretrain_epochs=0,
        image_losses={"pixel": (1.0, pair.pixel)},
        **settings,
    )


def usual_trainer(pair: Pair, batches: DataLoader, *, epochs: int) -> GanTrainer:
    """MONAI's, shown the low resolution as its latents; the same losses."""
    optimizer, rival = pair.optimizers
    shown: dict[str, Tensor] = {}

    def reals(batch: Mapping[str, Tensor], device: torch.device, *_: object, **__: object) -> Tensor:
        shown.update({key: batch[key].to(device) for key in ("image", "label")})
        return shown["label"]

    def discriminator_loss(fakes: Tensor, real: Tensor) -> Tensor:
        logits = pair.discriminator(real), pair.discriminator(fakes.detach())
        pairs = zip(logits, (True, False), strict=True)
        return sum(pair.game(logits, target_is_real=real, for_discriminator=True) for logits, real in pairs)

    def generator_loss(fakes: Tensor) -> Tensor:
        game = pair.game(pair.discriminator(fakes), target_is_real=True, for_discriminator=False)
        return pair.pixel(fakes, shown["label"]) + WEIGHT * game

    return GanTrainer(
        pair.device,
        epochs,
        batches,
        pair.generator,
        optimizer,
        generator_loss,
        pair.discriminator,
        rival,
        discriminator_loss,
        d_prepare_batch=reals,
        g_prepare_batch=lambda **_: shown["image"],
        decollate=False,
        optim_set_to_none=True,
    )


def trainers(bench: Bench) -> tuple[dict[str, Callable[[], Cost]], str]:
    """Name -> cost of a step, and the size of the work in words."""
    cuda = bench.device.type == "cuda"
    side, batch, steps = bench.pick((256, 8, 20) if cuda else (96, 2, 1), (32, 2, 1))
    features, blocks = bench.pick((64, 16), (8, 1))
    batches = DataLoader(pictures(steps * batch, side), batch_size=batch)

    def step(build: Callable, **settings: Any) -> Cost:
        pair = Pair(bench.device, features=features, blocks=blocks)
        return loops.cost_of_last_epoch(build(pair, batches, epochs=2, **settings)) / steps

    variants = {
        USUAL: partial(step, usual_trainer),
        OURS: partial(step, our_trainer, precision="fp32", channels_last=False),
        LAID_OUT: partial(step, our_trainer, precision="fp32"),
    }
    if has_bfloat16(bench.device):
        variants[FAST] = partial(step, our_trainer, precision="bf16")
    words = f"{side // SCALE} to {side} pixels, batch {batch}, SRResNet of {blocks} blocks with {features} features"
    return variants, words


def run(bench: Bench) -> Result:
    rounds = min(bench.rounds, 5)
    variants, words = trainers(bench)
    costs = in_turn(variants, rounds=rounds)
    clock = "wall" if bench.device.type == "cuda" else "cpu"
    faster = {name: times_cheaper(costs[name], costs[USUAL], clock) for name in costs}
    rows = [[name, f"{1000 * middle(costs[name], clock):.0f}", f"{faster[name]:.2f}"] for name in costs]
    table = Table(
        f"Stage two, {words}, pixel and adversarial loss, Adam; {clock} time, median of {rounds} rounds.",
        ["step", "ms", "x faster"],
        rows,
    )
    values = {"adversarial.same": faster[OURS], "adversarial.laid_out": faster[LAID_OUT]}
    notes = []
    if FAST in faster:
        pays = autocast_dtype(bench.device) is not None
        values |= {"adversarial.fast": faster[FAST if pays else LAID_OUT], "adversarial.bfloat16": float(pays)}
    else:
        notes.append("No bfloat16 row: this device does not compute in it.")
    if autocast_dtype(bench.device) is None:
        notes.append("The engines leave bfloat16 off on this device.")
    return Result("Adversarial step", [table], values, notes)

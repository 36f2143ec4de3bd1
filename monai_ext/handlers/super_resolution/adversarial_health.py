"""Warnings when an adversarial training has stopped working: discriminator or generator saturated, blind or blank."""

from __future__ import annotations

import torch
from torch import Tensor

from monai_ext.handlers.engine import Engine
from monai_ext.handlers.epochs import Alarm

__all__ = ["AdversarialAlarm", "detail_ratios"]


def detail_ratios(prediction: Tensor, target: Tensor) -> Tensor:
    """How much predictions (B, C, H, W) vary, as shares of what targets do: (2,), [within an image, among images].

    Square roots of the ratio of variances: near 1 for a working generator. The first is 0 for images of one colour, the
    second for the same image whatever the input; it is 1 for a batch of one image, which has nothing to compare.

    >>> images = torch.tensor([0.0, 1.0, 1.0, 0.0]).view(2, 1, 1, 2)
    >>> detail_ratios(images, images).tolist(), detail_ratios(images[:1].expand(2, 1, 1, 2), images).tolist()
    ([1.0, 1.0], [1.0, 0.0])
    """
    variances = []
    for images in (prediction.float(), target.float()):
        within = images.var((-2, -1), correction=0).mean()
        among = images.var(0, correction=0).mean() if len(images) > 1 else torch.ones_like(within)
        variances.append(torch.stack([within, among]))
    return (variances[0] / variances[1].clamp(min=1e-12)).sqrt()


class AdversarialAlarm(Alarm):
    """Warns when the discriminator is saturated or blind, or the generator blank or constant; for the trainer.

    Saturated: its mean probability "real" of real images exceeds that of fakes by more than `gap`, so that little can
    be learned from it. Blind: it exceeds it by less than `chance`, as before the discriminator has learned anything (or
    where nothing is left to distinguish). Blank: the generator's images have less than `detail` of the contrast of the
    real ones. Constant: they differ from each other less than that.

    Args:
        gap: in (0, 1]; with label smoothing a perfect discriminator reaches only 1 minus that.
        detail: see `detail_ratios`.
        chance: in [0, 1).
        patience, interval: see `Alarm`.
    """

    def __init__(
        self, *, gap: float = 0.97, detail: float = 0.1, chance: float = 0.01, patience: int = 3, interval: int = 10
    ):
        super().__init__(patience=patience, interval=interval)
        if not 0 < gap <= 1 or not 0 <= detail < 1 or not 0 <= chance < 1:
            raise ValueError(
                f"gap={gap}, detail={detail}, chance={chance}: gap must be in (0, 1], detail and chance in [0, 1)."
            )
        self.gap, self.detail, self.chance = gap, detail, chance

    @torch.no_grad()
    def collect(self, engine: Engine) -> None:
        output = engine.state.output
        ratios = detail_ratios(output["pred"], output["label"])
        terms = [output["terms"].get(name, torch.zeros_like(ratios[0])) for name in ("real_score", "fake_score")]
        self.rows.append(torch.cat([ratios, torch.stack(terms).to(ratios)]))

    def judge(self, engine: Engine) -> dict[str, str | None]:
        playing = "real_score" in engine.state.output["terms"]
        contrast, variety, real, fake = torch.stack(self.rows).mean(0).tolist()
        slower = "lower --adversarial_learning_rate or --adversarial_weight, or lengthen --pretrain_epochs"
        saturated = (
            f"the discriminator is saturated, its mean probability 'real' is {real:.3f} for real images and "
            f"{fake:.3f} for fakes, and the generator learns little from it: lower --discriminator_learning_rate, or "
            "set --label_smoothing 0.1 or --r1_gamma 1"
        )
        blind = (
            f"the discriminator does not distinguish real images from fakes, its mean probability 'real' is {real:.3f} "
            f"and {fake:.3f}, and the generator learns nothing from it: give it more steps by a smaller --batch_size, "
            "raise --discriminator_learning_rate, or lower --adversarial_weight"
        )
        blank = f"the generator's images are blank, with {contrast:.1%} of the contrast of real ones: {slower}"
        constant = (
            f"the generator gives nearly the same image for every input, with {variety:.1%} of the variety of real "
            f"ones: {slower}"
        )
        return {
            "saturated": saturated if real - fake > self.gap else None,
            "blind": blind if playing and real - fake < self.chance else None,
            "blank": blank if contrast < self.detail else None,
            "constant": constant if variety < self.detail else None,
        }

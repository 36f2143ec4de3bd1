"""Logistic loss of generator and discriminator, and the R1 gradient penalty that stabilises their training.

MONAI's `PatchAdversarialLoss` is the least-squares game (with `no_activation_leastsq=True`; its default bends the
logits first) and is called in the same way. Its other two criteria are not what they are called: "bce" clamps the log
of a sigmoid, so that a confident discriminator gives no gradient and autocast refuses it; "hinge" bounds the logits by
a tanh. Hence the logistic loss here.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_ext.formulas.checks import check_not_negative

__all__ = ["LogisticAdversarialLoss", "R1Penalty", "squared_gradient_norm"]


class LogisticAdversarialLoss(nn.Module):
    """Cross-entropy of logits of any shape with "real" or "fake", mean over all of them, in float32.

    The discriminator learns real -> log(1 + exp(-logit)), fake -> log(1 + exp(logit)); the generator learns
    log(1 + exp(-logit)) of its fakes, the non-saturating form (Goodfellow et al. 2014; Ledig et al. 2017, eq. 6).

    Called as loss(logits, target_is_real, for_discriminator), as MONAI's `PatchAdversarialLoss`.

    >>> loss = LogisticAdversarialLoss()
    >>> round(loss(torch.zeros(4, 1), target_is_real=True, for_discriminator=True).item(), 4)  # log 2: undecided
    0.6931

    Args:
        label_smoothing: the discriminator's label of a real image is 1 minus this (one-sided: Salimans et al. 2016).

    Raises:
        ValueError: a smoothing outside [0, 1); a generator that aims at "fake".
    """

    def __init__(self, *, label_smoothing: float = 0.0):
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing={label_smoothing} must be in [0, 1).")
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, target_is_real: bool, for_discriminator: bool) -> Tensor:
        if not for_discriminator and not target_is_real:
            raise ValueError("the target of a generator is real: use target_is_real=True.")
        logits = logits.float()
        if not target_is_real:
            return F.softplus(logits).mean()
        loss = F.softplus(-logits)
        if for_discriminator and self.label_smoothing:
            loss = loss + self.label_smoothing * logits  # cross-entropy with the label 1 - smoothing
        return loss.mean()


def squared_gradient_norm(logits: Tensor, images: Tensor) -> Tensor:
    """|d logit / d image|^2 of each image, (B,), float32, itself differentiable.

    Of a map of logits (B, 1, h, w) the mean over the map is taken first, so that weights mean the same for both heads.

    Args:
        logits: (B, ...), computed from `images`.
        images: (B, C, H, W), which required a gradient before that.

    Raises:
        ValueError: images that do not require a gradient, or not as many as logits.
    """
    if not images.requires_grad or len(logits) != len(images):
        raise ValueError(
            f"logits {tuple(logits.shape)} must come from images {tuple(images.shape)} that require a gradient: call "
            "images.requires_grad_() before the discriminator."
        )
    total = logits.float().flatten(1).mean(1).sum()
    (gradient,) = torch.autograd.grad(total, images, create_graph=True)
    return gradient.float().square().flatten(1).sum(1)


class R1Penalty(nn.Module):
    """gamma / 2 times the mean of |grad D(x)|^2 over real images x (Mescheder et al. 2018, eq. 9).

    Called as penalty(discriminator, real) with images (B, C, H, W); it runs the discriminator once more, in float32
    even under autocast, since half precision makes noise of second derivatives. Added every k-th step only, multiply it
    by k (Karras et al. 2020). A discriminator with batch norm mixes the gradients of a batch: prefer `norm=None`.

    Args:
        gamma: weight. Gradients are per pixel value in [0, 1]; their square grows with the number of pixels that
            matter, so larger images need a larger gamma; 10 is the paper's.

    Raises:
        ValueError: gamma negative or not finite.
    """

    def __init__(self, gamma: float = 10.0):
        super().__init__()
        self.gamma = check_not_negative("gamma", gamma)

    def forward(self, discriminator: nn.Module, real: Tensor) -> Tensor:
        with torch.autocast(real.device.type, enabled=False):
            images = real.detach().float().requires_grad_()
            return self.gamma / 2 * squared_gradient_norm(discriminator(images), images).mean()

"""Muon (Jordan et al. 2024) for convolutional networks: momentum with orthogonalised steps, and Adam for the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from monai_ext.runtime.settings import chosen

__all__ = ["OrthogonalMomentum", "convolution_matrices", "generator_optimizer", "orthogonalised"]

QUINTIC = (3.4445, -4.7750, 2.0315)  # Newton-Schulz coefficients of the reference: singular values end in 0.7 to 1.2


def orthogonalised(matrices: Tensor, *, steps: int = 5) -> Tensor:
    """About U V^T of each matrix U S V^T, (N, R, C), by Newton-Schulz iterations."""
    wide = matrices.mT if matrices.shape[-2] > matrices.shape[-1] else matrices
    x = wide / (wide.norm(dim=(-2, -1), keepdim=True) + 1e-12)
    a, b, c = QUINTIC
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if wide is not matrices else x


def convolution_matrices(network: nn.Module, *, smallest: int = 16, leave: str = "tail") -> list[nn.Parameter]:
    """Weights of convolutions between at least `smallest` maps in each group and `smallest` maps, but for those whose
    name begins with `leave`.

    First, last and depthwise convolutions and all vectors are thus left to Adam.
    """
    return [
        weight
        for name, weight in network.named_parameters()
        if weight.ndim == 4 and min(weight.shape[:2]) >= smallest and not name.startswith(leave)
    ]


class OrthogonalMomentum(torch.optim.Optimizer):
    """w <- w - lr * gain * sqrt(max(R, C)) * orthogonalised(Nesterov momentum) for `convolution_matrices`; else Adam.

    A weight (out, in, h, w) is a matrix of R = out rows and C = in h w columns. The factor makes its steps as large as
    those of Adam (Liu et al. 2025, "Moonlight", arXiv:2502.16982). `torch.optim.Muon` takes matrices alone; for these
    the steps are the same. Both kinds of parameters follow the learning rate that a scheduler sets.

    Args:
        network: whose parameters to optimise.
        lr: learning rate of the matrices.
        momentum: of the exponential average of gradients.
        gain: 0.2 in Moonlight, the root mean square of Adam's steps.
        adam_share: Adam's learning rate as a share of `lr`.
        betas, eps: of Adam.
    """

    def __init__(
        self,
        network: nn.Module,
        lr: float = 4e-3,
        *,
        momentum: float = 0.95,
        gain: float = 0.2,
        adam_share: float = 0.5,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-8,
    ):
        matrices = convolution_matrices(network)
        ids = {id(weight) for weight in matrices}
        rest = [parameter for parameter in network.parameters() if id(parameter) not in ids]
        groups: list[dict[str, Any]] = [{"params": matrices, "adam": False}, {"params": rest, "adam": True}]
        defaults = {"lr": lr, "momentum": momentum, "gain": gain, "adam_share": adam_share, "betas": betas, "eps": eps}
        super().__init__([group for group in groups if group["params"]], defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if weights:
                (self._adam_step if group["adam"] else self._orthogonal_step)(group, weights)
        return loss

    def _adam_step(self, group: dict[str, Any], weights: list[Tensor]) -> None:
        for weight in weights:
            if not self.state[weight]:
                self.state[weight] |= {
                    "step": torch.tensor(0.0),
                    "exp_avg": torch.zeros_like(weight),
                    "exp_avg_sq": torch.zeros_like(weight),
                }
        states = [self.state[weight] for weight in weights]
        adam(
            weights,
            [weight.grad for weight in weights],  # type: ignore[misc]
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"] * group["adam_share"],
            weight_decay=0.0,
            eps=group["eps"],
            maximize=False,
        )

    def _orthogonal_step(self, group: dict[str, Any], weights: list[Tensor]) -> None:
        stacks: dict[tuple[int, ...], list[tuple[Tensor, Tensor]]] = {}  # weights of one shape at once
        for weight in weights:
            gradient, state = weight.grad, self.state[weight]
            assert gradient is not None
            if not state:
                state["momentum"] = torch.zeros_like(gradient)
            average = state["momentum"].lerp_(gradient, 1 - group["momentum"])
            ahead = gradient.lerp(average, group["momentum"])
            stacks.setdefault(tuple(weight.shape), []).append((weight, ahead))
        for shape, pairs in stacks.items():
            matrices = torch.stack([ahead.reshape(shape[0], -1) for _, ahead in pairs])
            length = group["lr"] * group["gain"] * max(matrices.shape[-2:]) ** 0.5
            for (weight, _), direction in zip(pairs, orthogonalised(matrices), strict=True):
                weight.add_(direction.reshape(shape), alpha=-length)


def generator_optimizer(
    network: nn.Module, optimizer_name: str = "adam", *, lr: float, betas: tuple[float, float] = (0.9, 0.99)
) -> torch.optim.Optimizer:
    """ "adam", or "muon" (`OrthogonalMomentum`), of all parameters of a network.

    Raises:
        ValueError: another name.
    """
    makers: dict[str, Callable[[], torch.optim.Optimizer]] = {
        "adam": lambda: torch.optim.Adam(network.parameters(), lr, betas=betas, fused=True),
        "muon": lambda: OrthogonalMomentum(network, lr, betas=betas),
    }
    return chosen(makers, optimizer_name=optimizer_name)()

"""Methods for several raters by name: network and loss of each.

All of them are `RaterSampler`s trained on the same batches and scored by the same evaluator, so that a comparison
differs in the method alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import nn

from monai_ext.formulas.checks import check_choice, check_not_negative
from monai_ext.formulas.consensus import CONSENSUS_METHODS
from monai_ext.losses import (
    ConsensusLoss,
    MeanLoss,
    OrderedLoss,
    PerRaterLoss,
    PerStructureLoss,
    RaterELBOLoss,
    SampleEnergyLoss,
    SampleLikelihoodLoss,
    consensus_label,
    majority_label,
    mask_losses,
    soft_label,
)
from monai_ext.networks import (
    ConditionedHeads,
    ConsensusNet,
    DeepEnsemble,
    HierarchicalUNet,
    HolisticNet,
    LatentUNet,
    LevelSetNet,
    MonteCarloDropout,
    OrderedHeads,
    RaterEnsemble,
    RaterHeads,
    StochasticSegmentation,
    StructureMaps,
    segmentation_backbone,
)

__all__ = [
    "COMPOSED_METHODS",
    "PER_RATER_METHODS",
    "RATER_METHODS",
    "named_rater_loss",
    "rater_loss",
    "rater_network",
]

PER_RATER_METHODS = ("conditioned", "heads", "holistic", "holistic_shared", "holistic_faithful", "combined")
SAMPLED_METHODS = ("soft_label", "ordered", "prob_unet", "hierarchical", "energy", "ssn")
RATER_METHODS = (*PER_RATER_METHODS, "majority", *SAMPLED_METHODS, "deep_ensemble", "mc_dropout")
COMPOSED_METHODS = tuple(f"{kind}_{name}" for kind in ("deep_ensemble", "mc_dropout") for name in SAMPLED_METHODS[1:])
FAITHFUL = "prob_unet_faithful"  # the published network, which has a config of its own
WITHOUT_RATERS = (
    *RATER_METHODS[len(PER_RATER_METHODS) :],
    *COMPOSED_METHODS,
    FAITHFUL,
)  # these learn from all raters alike

ORDERED_HEADS = 4
UNIT_DROPOUT = 0.1  # after each convolution of mc_dropout
BACKBONE_FEATURES = 16  # of the backbones whose features a method conditions


def rater_network(
    method: str,
    *,
    raters: int,
    in_channels: int = 1,
    features: int = 16,
    dropout: float = 0.5,
    members: int = 5,
    backbone: str | Callable[..., nn.Module] = "basic_unet",
    encoder_weights: str | os.PathLike | None = None,
    spread: float = 1.0,
    spatial_dims: int = 2,
    spacing: Sequence[float] | None = None,
    structures: Sequence[str] | None = None,
    latent: int = 6,
    clicks: int = 0,
) -> nn.Module:
    """The network of a method, image (B, C, *spatial) -> logits (B, heads, *spatial), a `RaterSampler`.

    With K structures the logits are (B, heads, K, *spatial).

    * conditioned: one U-Net whose last layers are conditioned on an embedding of each rater, see `ConditionedHeads`.
    * heads: one U-Net with an output channel for each rater.
    * holistic: `HolisticNet`; holistic_shared: with one encoder and one decoder for all heads; holistic_faithful: as
      published.
    * combined: one U-Net for each rater ("U-Net combined").
    * majority, soft_label: one U-Net; the samples of the second are the level sets of its map.
    * ordered: one U-Net with `ORDERED_HEADS` heads for the masks of a case in order of size, see `OrderedHeads`.
    * prob_unet: `LatentUNet`, the probabilistic U-Net with prior and posterior on the features of the U-Net;
      hierarchical: `HierarchicalUNet`; energy: `LatentUNet` without posterior; ssn: `StochasticSegmentation`.
    * deep_ensemble: `members` U-Nets; mc_dropout: a U-Net whose dropout stays on. Both learn the soft label, which is
      what members trained on raters drawn at random learn on average. deep_ensemble_ordered, mc_dropout_ssn ...: the
      same of that method.

    The U-Nets are `segmentation_backbone`s; the holistic networks have encoders and decoders of their own.

    Args:
        method: one of `RATER_METHODS` or `COMPOSED_METHODS`.
        raters: raters R; heads of the methods that predict each of them.
        features: width F of the first stage.
        dropout: of the holistic networks, see `HolisticNet`.
        members: of the deep ensemble.
        backbone: by name, see `segmentation_backbone`; or what builds another one, called with `out_channels`: of
            images (B, C, *spatial) in [0, 1] it gives (B, out_channels, *spatial), without activation.
        encoder_weights: see `segmentation_backbone`.
        spread: of the level sets that are samples, see `level_sets`; 0 for the maps of the heads themselves, in methods
            that have heads. In methods with a latent a factor of the deviation of the noise.
        spatial_dims: 2 for images, 3 for volumes (H, W, D).
        spacing: size of a voxel along each axis, for volumes of thick slices, see `plan_levels`.
        structures: names of the structures that are predicted together; None for one alone.
        latent: numbers in the latent of prob_unet and energy.
        clicks: further channels of the images, see `DecodeRaters`.

    Raises:
        ValueError: no such method, or numbers that a network refuses.
    """
    check_method(method)
    in_channels += clicks
    axes: dict[str, Any] = {"spatial_dims": spatial_dims, "spacing": spacing}
    count = len(structures) if structures else None

    kind, base = method_parts(method)
    unit_dropout = UNIT_DROPOUT if kind == "mc_dropout" else 0.0

    def unet(heads: int = 1) -> nn.Module:
        if count is None:
            return backbone_of(heads)
        return StructureMaps(backbone_of(heads * count, initial_logit=0.0), count)

    def backbone_of(out_channels: int, **kwargs: Any) -> nn.Module:
        if callable(backbone):
            return backbone(out_channels=out_channels)
        return segmentation_backbone(
            backbone,
            in_channels=in_channels,
            out_channels=out_channels,
            features=features,
            dropout=unit_dropout,
            encoder_weights=encoder_weights,
            **axes,
            **kwargs,
        )

    def holistic(**variant: Any) -> nn.Module:
        return HolisticNet(raters, in_channels, features=features, dropout=dropout, structures=count, **axes, **variant)

    conditions: dict[str, Any] = {"features": BACKBONE_FEATURES, "structures": count, **axes}

    def of_features() -> nn.Module:
        return backbone_of(BACKBONE_FEATURES, initial_logit=0.0)

    def conditioned() -> nn.Module:
        return ConditionedHeads(of_features(), **conditions, raters=raters)

    networks: dict[str, Callable[[], nn.Module]] = {
        "conditioned": conditioned,
        "heads": lambda: RaterHeads(unet(raters)),
        "holistic": holistic,
        "holistic_shared": lambda: holistic(branches=1),
        "holistic_faithful": lambda: holistic(faithful=True),
        "combined": lambda: RaterEnsemble([unet() for _ in range(raters)]),
        "majority": lambda: ConsensusNet(unet()),
        "soft_label": lambda: LevelSetNet(unet()),
        "ordered": lambda: OrderedHeads(unet(ORDERED_HEADS)),
        "prob_unet": lambda: LatentUNet(of_features(), **conditions, latent=latent),
        "hierarchical": lambda: HierarchicalUNet(of_features(), **conditions),
        "energy": lambda: LatentUNet(of_features(), **conditions, latent=latent, posterior=False),
        "ssn": lambda: StochasticSegmentation(of_features(), **conditions),
    }

    def alone(name: str) -> nn.Module:
        network: Any = networks[name]()
        if hasattr(network, "spread"):
            network.spread = check_not_negative("spread", spread)
        return network

    if kind == "deep_ensemble":
        return DeepEnsemble([alone(base) for _ in range(members)])
    if kind == "mc_dropout":
        return MonteCarloDropout(ConsensusNet(unet()) if base == "soft_label" else alone(base))
    return alone(base)


def check_method(method: str) -> None:
    """Raise a ValueError where `method` is neither in `RATER_METHODS` nor in `COMPOSED_METHODS`."""
    if method not in (*RATER_METHODS, *COMPOSED_METHODS):
        raise ValueError(
            f"method={method!r} is not known: choose one of {', '.join(RATER_METHODS)}; deep_ensemble or mc_dropout "
            f"followed by _ and {', '.join(SAMPLED_METHODS[1:])}; or the config of {FAITHFUL}."
        )


def method_parts(method: str) -> tuple[str | None, str]:
    """What an ensemble or a network with dropout consists of: kind, None for other methods, and method.

    >>> method_parts("deep_ensemble"), method_parts("mc_dropout_ordered"), method_parts("heads")
    (('deep_ensemble', 'soft_label'), ('mc_dropout', 'ordered'), (None, 'heads'))
    """
    for kind in ("deep_ensemble", "mc_dropout"):
        if method.startswith(kind):
            return kind, method[len(kind) + 1 :] or "soft_label"
    return None, method


def rater_loss(
    method: str,
    losses: Callable | Sequence[Callable],
    *,
    structures: Sequence[str] | None = None,
    target: str | None = None,
    beta: float = 0.001,
    free_nats: float = 0.0,
) -> nn.Module:
    """The loss of a method: `losses`, added, of each head against its rater, or against the consensus.

    Methods that learn from their samples add what these are compared by, see `monai_ext.losses.rater_samples`.

    Args:
        method: as for `rater_network`; majority learns the majority vote, ordered the masks in order of size, the
            others without heads of raters the share of raters.
        losses: as `PerRaterLoss` takes them; they must bear soft labels (MONAI's Dice and Tversky: soft_label=True).
        structures: see `rater_network`; each structure counts as a case of its own.
        target: the consensus that a method without heads of raters learns, one of `CONSENSUS_METHODS` such as "staple";
            None: the method's own, as above.
        beta, free_nats: of prob_unet and hierarchical, see `RaterELBOLoss`.

    Raises:
        ValueError: no such method, no loss, or a target for a method that learns each rater or the order of masks.
    """
    check_method(method)
    kind, base = method_parts(method)
    if target is not None:
        check_choice("target", target, CONSENSUS_METHODS)
        if base not in ("majority", "soft_label"):
            raise ValueError(
                f"target={target!r} is a consensus, and the method {method} learns the raters' own masks: choose "
                "majority, soft_label, deep_ensemble or mc_dropout."
            )
    if kind == "deep_ensemble":
        options: dict[str, Any] = {"structures": structures, "target": target, "beta": beta, "free_nats": free_nats}
        return MeanLoss(rater_loss(base, losses, **options))
    count = len(structures) if structures else None
    if base in ("prob_unet", "hierarchical"):
        return RaterELBOLoss(losses, beta=beta, free_nats=free_nats, structures=count)
    if base in ("energy", "ssn"):
        return (SampleEnergyLoss if base == "energy" else SampleLikelihoodLoss)(losses, structures=count)
    loss: nn.Module
    if base in PER_RATER_METHODS:
        loss = PerRaterLoss(losses)
    elif base == "ordered":
        loss = OrderedLoss(losses)
    else:
        own = majority_label if base == "majority" else soft_label
        loss = ConsensusLoss(losses, consensus=partial(consensus_label, method=target) if target else own)
    return PerStructureLoss(loss, structures=count) if count else loss


def named_rater_loss(
    method: str,
    loss_name: str,
    **kwargs: Any,
) -> nn.Module:
    """`rater_loss` with the losses of `mask_losses`; kwargs go to the function that has an argument of the name."""
    own = {name: kwargs.pop(name) for name in ("structures", "target", "beta", "free_nats") if name in kwargs}
    return rater_loss(method, mask_losses(loss_name, **kwargs), **own)

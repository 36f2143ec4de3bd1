"""Trained networks by method name, with one interface for samples and uncertainty; weights to start a training from."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from monai_ext.formulas.images import LinearReduction
from monai_ext.handlers.training.weights import found_and_wanted, load_finite_weights, part_for
from monai_ext.networks.gated_sr_net import GatedBlock
from monai_ext.networks.latent_srresnet import BayesianSRResNet
from monai_ext.networks.srresnet import ResidualBlock, SubPixelNetwork
from monai_ext.networks.uncertain_sr import PointSuperResolution, UncertainSuperResolution, WeightEnsemble
from monai_ext.networks.variational import DropoutConv2d, has_uncertain_weights
from monai_ext.runtime.settings import as_bool

__all__ = ["SUPER_RESOLUTION_METHODS", "load_generator", "start_generator", "uncertain_network"]

POINT_METHODS = ("srresnet", "srgan", "mc_dropout", "ensemble")
SUPER_RESOLUTION_METHODS = ("bayesian", *POINT_METHODS)
GENERATOR = "generator."  # what names of a network with a latent begin with, and no generator's own
VARIATIONAL = ".log_deviation"  # parameters that a network of plain convolutions does not have


def uncertain_network(
    method: str,
    network: BayesianSRResNet,
    checkpoints: Sequence[str | Path],
    *,
    operator: LinearReduction | None = None,
    consistent: bool | str = True,
) -> UncertainSuperResolution:
    """A trained network that gives samples and uncertainty, in evaluation mode, where `network` is.

    * bayesian: `network` with the weights of one run of this kind; of several runs, their ensemble.
    * srresnet, srgan: its generator alone, with weights of a run of `srgan_aerial` with the overlay srresnet.json (of
      stage one, of stage two), and without dropout.
    * mc_dropout: the same with dropout kept on; the generator is built with `DropoutConv2d`.
    * ensemble: generators of several runs.

    Args:
        method: one of `SUPER_RESOLUTION_METHODS`.
        network: built as in its training; not changed.
        checkpoints: a file of weights for each member.
        operator, consistent: for the methods without a latent: an operator makes their outputs consistent with the
            input, unless `consistent` is False.

    Raises:
        ValueError: no such method, too few or too many checkpoints for it, a generator without dropout for mc_dropout
            or with variational weights for the others without a latent, or weights of another network.
        FileNotFoundError: no such checkpoint.
    """
    if method not in SUPER_RESOLUTION_METHODS:
        raise ValueError(f"method={method!r} is not known: choose one of {', '.join(SUPER_RESOLUTION_METHODS)}.")
    operator = operator if as_bool(consistent, "consistent") else None
    count = len(checkpoints)
    if (count < 2) if method == "ensemble" else (count < 1 or (count > 1 and method != "bayesian")):
        several = {"ensemble": "two or more checkpoints", "bayesian": "one checkpoint or more"}
        raise ValueError(
            f"method={method!r} takes {several.get(method, 'one checkpoint')}, got {count}: set --checkpoints."
        )
    if method == "mc_dropout" and not has_uncertain_weights(network.generator):
        raise ValueError("method='mc_dropout' needs a generator with dropout: set --weight_uncertainty dropout.")
    members: list[UncertainSuperResolution] = []
    for path in checkpoints:
        member = copy.deepcopy(network)
        if method == "bayesian":
            _load(member, path)
            members.append(member)
        else:
            _load(member.generator, path)
            if method != "mc_dropout":
                _make_deterministic(member.generator, method)
            members.append(PointSuperResolution(member.generator, operator))
    return (members[0] if count == 1 else WeightEnsemble(members)).eval()


def load_generator(network: BayesianSRResNet, path: str | Path | None, *, freeze: bool | str = False) -> None:
    """Let `network` begin with the weights that another run left; without a path nothing changes.

    Those of a run of `srgan_aerial` are its generator's, see `start_generator`: all else in `network` stays as it is.
    Those of a network of its own kind are all of it, such as for a second stage with batches of another size.
    Variational convolutions take the weights as means of theirs.

    Args:
        freeze: the generator's body keeps these weights: only its tail and what depends on the latent are trained.

    Raises:
        FileNotFoundError: no such checkpoint.
        ValueError: it is damaged, or of another network; or nothing to freeze.
    """
    freeze = as_bool(freeze, "freeze_generator")
    if path is None:
        if freeze:
            raise ValueError("freeze_generator keeps the generator as it begins: give --init_weights.")
        return
    if freeze:
        for part in (network.generator.head, network.generator.blocks, network.generator.merge):
            part.requires_grad_(False)
    state = load_finite_weights(path)
    if any(name.startswith(GENERATOR) for name in state):
        _fill(network, state, path)
    else:
        start_generator(network.generator, path)


@torch.no_grad()
def start_generator(generator: SubPixelNetwork, path: str | Path | None) -> None:
    """Let `generator` begin with the weights of one that has as many residual blocks, or fewer; see `load_generator`.

    Blocks that the other one does not have begin as the identity: the last convolution of each residual branch is zero,
    so that the deeper network starts with the shallower one's output (Net2DeeperNet, Chen et al. 2016,
    arXiv:1511.05641).

    Raises:
        FileNotFoundError: no such checkpoint.
        ValueError: it is damaged, or of a generator of another build, or of one with more blocks.
    """
    if path is None:
        return
    state = load_finite_weights(path)
    known = 1 + max((int(name.split(".")[1]) for name in state if re.match(r"blocks\.\d+\.", name)), default=-1)
    further = tuple(f"blocks.{index}." for index in range(known, len(generator.blocks)))
    _fill(generator, state, path, optional=further)
    for block in list(generator.blocks)[known:]:
        for end in block.branch_ends() if isinstance(block, (ResidualBlock, GatedBlock)) else ():
            for name, parameter in end.named_parameters():
                if name in ("weight", "bias"):
                    parameter.zero_()


def _make_deterministic(generator: nn.Module, method: str) -> None:
    for layer in generator.modules():
        if isinstance(layer, DropoutConv2d):
            layer.rate = 0.0
    if has_uncertain_weights(generator):
        raise ValueError(
            f"method={method!r} needs a generator with deterministic weights: set --weight_uncertainty none."
        )


def _load(network: nn.Module, path: str | Path) -> None:
    _fill(network, load_finite_weights(path), path)


def _fill(network: nn.Module, state: Mapping[str, Tensor], path: str | Path, *, optional: tuple[str, ...] = ()) -> None:
    """Load `state`, read from `path`; names that begin with one of `optional` may be missing from it."""
    wanted, state = network.state_dict(), part_for(network, state)
    needed = [name for name in wanted if not name.endswith(VARIATIONAL) and not name.startswith(optional)]
    missing = [name for name in needed if name not in state]
    other = [name for name, value in state.items() if name not in wanted or value.shape != wanted[name].shape]
    if missing or other:
        raise ValueError(
            f"checkpoint '{path}' is of another network ({len(missing)} of its {len(wanted)} tensors are missing and "
            f"{len(other)} do not fit; {found_and_wanted(network, state)}): set bands, generator_features, blocks, "
            "latent_channels and the like as in its training; srgan_aerial trains an SRResNet only with the overlay "
            "srresnet.json."
        )
    network.load_state_dict(state, strict=False)

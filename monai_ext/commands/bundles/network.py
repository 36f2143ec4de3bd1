"""The trained network of a bundle, from its folder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from monai.bundle import ConfigParser
from torch import nn

from monai_ext.handlers import interpolated_weights
from monai_ext.handlers.training.identity import settings_of_run
from monai_ext.handlers.training.weights import found_and_wanted, part_for
from monai_ext.networks.uncertain_sr import UncertainSuperResolution, WeightEnsemble
from monai_ext.storage.records import json_text, read_record

__all__ = ["load_bundle_network"]


def load_bundle_network(
    bundle: str | Path,
    weights: str | Path | Sequence[str | Path] | None = None,
    *,
    realism: float = 0.0,
    adversarial_weights: str | Path | None = None,
) -> tuple[nn.Module, str]:
    """`network_def` of configs/inference.json with the weights of models/model.pt, on the CPU in eval mode.

    Settings are those of the run of the weights, where a run.json lies beside them.

    Args:
        bundle: the bundle's folder.
        weights: another file of weights, or several for an ensemble of stochastic networks.
        realism: share of the weights of the adversarial stage, see `interpolated_weights`.
        adversarial_weights: their file; None: models/adversarial.pt.

    Returns:
        The network, and a digest (hexadecimal) of what it is made of.

    Raises:
        FileNotFoundError: the config or the weights are missing.
        ValueError: the config has no `network_def`, the weights are damaged or belong to another network, or there are
            several of a deterministic network.
    """
    bundle = Path(bundle)
    config = bundle / "configs" / "inference.json"
    if weights is None or isinstance(weights, (str, Path)):
        weights = [bundle / "models" / "model.pt" if weights is None else weights]
    if not config.is_file():
        raise FileNotFoundError(f"no configs/inference.json in the bundle '{bundle}': give --bundle a bundle's folder.")
    digest = hashlib.sha256(config.read_bytes())
    adversarial = Path(adversarial_weights or bundle / "models" / "adversarial.pt")
    networks = [_network(bundle, config, Path(path), adversarial, realism, digest) for path in weights]
    if len(networks) == 1:
        return networks[0].eval(), digest.hexdigest()
    members = [network for network in networks if isinstance(network, UncertainSuperResolution)]
    if len(members) < len(networks):
        raise ValueError(
            f"{len(networks)} files of weights, but {type(networks[0]).__name__} is deterministic: an ensemble "
            "needs a network such as that of bundles/bayesian_srgan_aerial; give --weights once."
        )
    return WeightEnsemble(members).eval(), digest.hexdigest()


def _network(
    bundle: Path, config: Path, path: Path, adversarial: Path, realism: float, digest: hashlib._Hash
) -> nn.Module:
    """The network with the weights in `path`, moved towards `adversarial`; what is read is added to `digest`."""
    if not path.is_file():
        raise FileNotFoundError(f"no weights at '{path}': train the bundle first, or name a file with --weights.")
    if realism and not adversarial.is_file():
        raise FileNotFoundError(f"no weights of an adversarial stage at '{adversarial}': leave --realism out.")
    read_record(config, dict, way_out="take it from the bundle again")  # MONAI's parser names no file
    parser = ConfigParser()
    parser.read_config(str(config))
    if parser.get("network_def") is None:
        raise ValueError(f"'{config}' has no network_def: it is not a config of a network.")
    parser["bundle_root"] = str(bundle)
    taken = settings_of_run(path, parser.get())
    parser.update(taken)
    digest.update(json_text(taken, sort_keys=True).encode() if taken else b"")
    network = parser.get_parsed_content("network_def")
    state = part_for(network, interpolated_weights(path, adversarial, realism))
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(
            f"the weights '{path}' do not fit the network_def of '{config}': {found_and_wanted(network, state)}; name "
            "weights of this bundle, or the bundle that they are of."
        ) from error
    digest.update(f"{realism}".encode() if realism else b"")
    for read in [path, adversarial] if realism else [path]:
        with read.open("rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
    return network

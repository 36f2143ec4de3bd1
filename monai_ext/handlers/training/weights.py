"""Read the weights of a finished run, of other programs, or between two runs; those of other networks are refused."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from monai_ext.networks.ensembles import DeepEnsemble, ProbabilityEnsemble
from monai_ext.networks.rater_sampler import RaterSampler
from monai_ext.runtime.settings import listed_paths
from monai_ext.storage.tensor_files import read_tensors

__all__ = [
    "found_and_wanted",
    "interpolated_weights",
    "load_checkpoint",
    "load_finite_weights",
    "load_weights",
    "not_finite",
    "part_for",
    "trained_network",
    "unwrapped",
    "with_weights",
]

# Names under which the weights of a network lie in files of other programs; averaged ones come first.
WRAPPERS = (
    "params_ema", "state_dict_ema", "model_ema", "params", "state_dict", "model_state_dict", "model", "generator",
    "net_g",
)  # fmt: skip
PREFIXES = ("module.", "_orig_mod.")
COUNTER = "n_averaged"  # of torch.optim.swa_utils.AveragedModel
NAMED = 3  # tensors in an error


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """What `torch.save` wrote to `path`, on the CPU, read with `weights_only=True` and compared with its check sums.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or holds more than tensors and plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at '{path}': train first, or name another with --ckpt_path.")
    return read_tensors(path, named=f"checkpoint '{path}'")


def load_finite_weights(path: str | Path) -> dict[str, Any]:
    """The state of a network that `load_checkpoint` reads, without NaN and infinities, see `unwrapped`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or some of its weights are NaN or infinite.
    """
    state = unwrapped(load_checkpoint(path))
    if not isinstance(state, Mapping):
        raise ValueError(f"'{path}' holds a {type(state).__name__}, not the weights of a network: name another file.")
    if broken := not_finite(state):
        raise ValueError(
            f"the weights '{path}' hold NaN or infinite values in {len(broken)} of {len(state)} tensors, such as "
            f"'{broken[0]}': their training failed, so take those of an earlier epoch or another run."
        )
    return dict(state)


def unwrapped(state: Any) -> Any:
    """The state of a network out of what other programs and wrappers put around it; anything else as it is.

    A table that has another one under one of `WRAPPERS` is opened, whatever stands beside it, and a prefix of all names
    that `DataParallel`, `AveragedModel` ("module.") or `torch.compile` ("_orig_mod.") adds is cut off.

    >>> import torch
    >>> unwrapped({"epoch": 3, "state_dict": {"module.bias": torch.zeros(1)}})
    {'bias': tensor([0.])}
    """
    while isinstance(state, Mapping):
        inner = next((state[name] for name in WRAPPERS if isinstance(state.get(name), Mapping) and state[name]), None)
        if inner is None:
            break
        state = inner
    if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
        return state
    if COUNTER in state:
        state = {name: value for name, value in state.items() if name != COUNTER}
    while prefix := next((each for each in PREFIXES if state and all(name.startswith(each) for name in state)), None):
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def part_for(network: nn.Module, state: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a state that is one of `network`, where a larger model has it under a prefix, such as "generator.".

    The state as it is, where it has the network's own names, or no such prefix, or more than one.
    """
    wanted = list(network.state_dict())
    if not wanted or wanted[0] in state:
        return state
    prefixes = [name.removesuffix(wanted[0]) for name in state if name.endswith(f".{wanted[0]}")]
    whole = [prefix for prefix in prefixes if all(prefix + name in state for name in wanted)]
    return {name: state[whole[0] + name] for name in wanted} if len(whole) == 1 else state


def found_and_wanted(network: nn.Module, state: Mapping[str, Any]) -> str:
    """A clause that names tensors of a state and of the network that they do not fit."""
    there, wanted = _shapes(state), _shapes(network.state_dict())
    own = {name: shape for name, shape in there.items() if wanted.get(name) != shape}
    missing = {name: shape for name, shape in wanted.items() if there.get(name) != shape}
    return f"it holds {_some(own)}, and the network has {_some(missing)}"


def _some(shapes: Mapping[str, tuple]) -> str:
    """The first names of tensors, with their shapes."""
    named = [f"'{name}' {'x'.join(map(str, shape))}".rstrip() for name, shape in list(shapes.items())[:NAMED]]
    more = f" and {len(shapes) - NAMED} more" if len(shapes) > NAMED else ""
    return f"{', '.join(named)}{more}" if named else "no others"


def not_finite(state: Mapping[str, Any]) -> list[str]:
    """Names of the tensors of a state that hold NaN or infinite values."""
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    return [name for name, value in tensors.items() if value.is_floating_point() and not value.isfinite().all()]


def interpolated_weights(path: str | Path, towards: str | Path, share: float) -> dict[str, Any]:
    """(1 - share) times the weights of `path` plus share times those of `towards`, in single precision.

    Network interpolation (Wang et al. 2018, ESRGAN): of a generator before and after its adversarial stage, it trades
    fidelity for texture. `towards` is not read for a share of 0.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: a share outside [0, 1], a damaged file, or files of different networks.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"realism={share}: choose a share from 0 (the first weights) to 1 (the others).")
    first = load_finite_weights(path)
    if not share:
        return first
    second = load_finite_weights(towards)
    if _shapes(first) != _shapes(second):
        raise ValueError(f"'{path}' and '{towards}' hold different networks: nothing lies between their weights.")
    return {name: _between(value, second[name], share) for name, value in first.items()}


def load_weights(
    network: nn.Module, path: str | Path | None, *, towards: str | Path | None = None, realism: float = 0.0
) -> None:
    """Give `network` the weights that `BestCheckpoint` or `FinalCheckpoint` saved.

    Args:
        path: of the checkpoint; None: the network keeps its own.
        towards, realism: a second checkpoint and the share of it, see `interpolated_weights`.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: it is damaged, or it holds another network.
    """
    if path is None:
        return
    state = load_finite_weights(path) if towards is None else interpolated_weights(path, towards, realism)
    state = dict(part_for(network, state))
    there, wanted = _shapes(state), _shapes(network.state_dict())
    if there != wanted:
        left_over = len(there.keys() - wanted.keys())
        more = f" and {left_over} of the checkpoint are left over" if left_over else ""
        raise ValueError(
            f"checkpoint '{path}' holds another network, {len(there.items() & wanted.items())} of the {len(wanted)} "
            f"tensors fit{more} ({found_and_wanted(network, state)}): name weights of this bundle, and set what shapes "
            "the network as in their training (see the run.json beside them)."
        )
    network.load_state_dict(state)


def trained_network(network: nn.Module, checkpoints: str | Path | Sequence[str | Path]) -> nn.Module:
    """`network` with the weights of one run, or an ensemble of copies of it with those of several, such as folds.

    The probabilities of the members are averaged, see `ProbabilityEnsemble`, and `DeepEnsemble` for methods of several
    raters.

    Args:
        checkpoints: one file of weights or several, see `load_weights` and `listed_paths`.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: none is named, one twice, or one is damaged or holds another network; or a method with a head for
            each rater.
    """
    paths = listed_paths(checkpoints)
    if len({path.absolute() for path in paths}) < len(paths) or not paths:
        raise ValueError(f"--checkpoints has {len(paths)} files, or one twice: name each member of an ensemble once.")
    if len(paths) == 1:
        load_weights(network, paths[0])
        return network
    members = [*with_weights(network, {str(path): path for path in paths}).values()]
    return (DeepEnsemble if isinstance(network, RaterSampler) else ProbabilityEnsemble)(members).eval()


def with_weights(network: nn.Module, files: Mapping[str, str | Path]) -> dict[str, nn.Module]:
    """Name -> a copy of `network` with the weights of that file, in evaluation mode; see `load_weights`."""
    copies = {name: copy.deepcopy(network).eval() for name in files}
    for name, path in files.items():
        load_weights(copies[name], path)
    return copies


def _between(first: Any, second: Any, share: float) -> Any:
    floating = isinstance(first, Tensor) and first.is_floating_point()
    return first.float().lerp(second.float(), share) if floating else first


def _shapes(state: Mapping) -> dict[str, tuple]:
    return {name: tuple(getattr(value, "shape", ())) for name, value in state.items()}

"""Weights of ImageNet networks, from a file or from torchvision's address."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn

from monai_ext.runtime.errors import one_line
from monai_ext.storage.fingerprint import file_sha256
from monai_ext.storage.tensor_files import DAMAGES, read_tensors

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "IMAGENET_URL", "load_encoder_weights", "read_weights"]

# torchvision's IMAGENET1K_V1; the digits before ".pth" begin the file's SHA-256 and are checked after the download.
IMAGENET_URL = "https://download.pytorch.org/models/mobilenet_v2-b0353104.pth"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of red, green and blue in [0, 1]


def read_weights(source: str | Path) -> dict[str, Tensor]:
    """State dict of `source` on the CPU, floating point entries as float32.

    Args:
        source: a file saved by `torch.save` (read with `weights_only=True`), or `"imagenet"` for torchvision's
            checkpoint, which is fetched once, verified by its hash and kept in torch hub's cache.

    Raises:
        FileNotFoundError: no such file, or no network and no cached copy; names the file to fetch.
        ValueError: the file, or the cached copy, is damaged, or holds no state dict. Nothing else comes out.
    """
    if str(source) == "imagenet":
        _check_cached(Path(torch.hub.get_dir()) / "checkpoints" / IMAGENET_URL.rpartition("/")[2])
        try:
            state = torch.hub.load_state_dict_from_url(
                IMAGENET_URL, map_location="cpu", check_hash=True, weights_only=True
            )
        except OSError as error:
            raise FileNotFoundError(
                f"cannot download encoder_weights='imagenet' ({error}): fetch {IMAGENET_URL} on another machine and "
                "pass the path of the file as encoder_weights."
            ) from error
        except DAMAGES as error:
            raise ValueError(
                f"what was downloaded from {IMAGENET_URL} is not that file ({one_line(error)}): try again, or fetch it "
                "on another machine and pass its path as encoder_weights."
            ) from None
    else:
        path = Path(source)
        if not path.is_file():
            raise FileNotFoundError(
                f"encoder_weights={str(source)!r} is neither a file nor 'imagenet': fetch {IMAGENET_URL}."
            )
        state = read_tensors(path, named=f"encoder_weights={str(source)!r}")
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(
            f"encoder_weights={str(source)!r} holds no state dict (names -> tensors): fetch {IMAGENET_URL}."
        )
    return {name: value.float() if value.is_floating_point() else value for name, value in state.items()}


def load_encoder_weights(encoder: nn.Module, source: str | Path, *, first: str, kind: str) -> None:
    """Load weights of ImageNet into an encoder; see `read_weights` for `source`.

    Entries that the encoder has not (classifiers) are dropped. For another number of input channels than 3 the first
    convolution repeats the RGB kernels, scaled by 3/C so that activations keep their size.

    Args:
        first: name of the weight of the first convolution.
        kind: what the weights should be of, for errors.

    Raises:
        ValueError: the weights lack a parameter or have another shape: names the parameter.
    """
    given, own = read_weights(source), encoder.state_dict()
    missing = [name for name in own if name not in given and not name.endswith("num_batches_tracked")]
    if missing:
        raise ValueError(
            f"encoder weights {str(source)!r} lack {missing[0]!r} ({len(missing)} of {len(own)} entries missing): "
            f"expected {kind} state dict."
        )
    channels = own[first].shape[1]
    if channels != given[first].shape[1]:
        repeated = given[first].repeat(1, math.ceil(channels / 3), 1, 1)[:, :channels]
        given[first] = repeated * (3 / channels)
    for name, value in own.items():
        if name in given and given[name].shape != value.shape:
            raise ValueError(
                f"encoder weights {str(source)!r}: {name!r} has shape {tuple(given[name].shape)}, this encoder "
                f"needs {tuple(value.shape)}: choose the `width` that the weights were trained with."
            )
    encoder.load_state_dict({name: given.get(name, value) for name, value in own.items()})


def _check_cached(path: Path) -> None:
    """torch hub compares a file with its hash when it downloads it, not when it takes it from its cache."""
    if path.is_file() and not file_sha256(path).startswith(path.stem.rpartition("-")[2]):
        raise ValueError(f"'{path}', in torch hub's cache, is damaged: remove it to fetch it again.")

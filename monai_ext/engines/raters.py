"""Training and validation with several raters of the same image.

A batch of `DecodeRaters` has an image (B, C, *spatial), a label (B, R, *spatial) and presence (B, R), True where the
rater marked the case; with K structures the label is (B, R K, *spatial) and presence (B, R, K).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from ignite.engine import Events
from monai.engines import PrepareBatch
from monai.engines.utils import IterationEvents
from monai.inferers import Inferer
from monai.utils import CommonKeys as Keys
from torch import Tensor, nn

from monai_ext.engines.batch_engines import BatchEvaluator
from monai_ext.formulas.grids import restored
from monai_ext.formulas.regions import paste_region
from monai_ext.formulas.temperature import check_temperature, tempered
from monai_ext.inferers.middle_first import predict_middle_first
from monai_ext.inferers.rater_windows import predict_by_windows
from monai_ext.networks.rater_sampler import AS_IT_IS, SYMMETRIES, RaterSampler
from monai_ext.networks.sampling import check_count
from monai_ext.runtime.settings import as_bool

__all__ = ["PrepareRaters", "RaterEvaluator", "RaterInferer"]


class PrepareRaters(PrepareBatch):
    """Batch -> (image, {"masks": (B, R, *spatial), "presence": (B, R)}), the target of the losses for several raters.

    With K structures it is {"masks": (B, R, K, *spatial), "presence": (B, R, K)}. A batch without label, as at
    inference, gives (image, None).

    Args:
        network: of a training; where it learns from its samples, it is called with the target as well.
    """

    def __init__(self, network: nn.Module | None = None):
        self.to_network = getattr(network, "learns_from_samples", False)

    def __call__(
        self,
        batchdata: Mapping[str, Any],
        device: torch.device | str | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple:
        image = batchdata[Keys.IMAGE].to(device=device, non_blocking=non_blocking, **kwargs)
        if Keys.LABEL not in batchdata:
            return image, None
        masks, presence = batchdata[Keys.LABEL], batchdata["presence"]
        if presence.ndim == 3:
            masks = masks.unflatten(1, presence.shape[1:])
        target = {
            "masks": masks.to(device=device, non_blocking=non_blocking),
            "presence": presence.to(device=device, non_blocking=non_blocking),
        }
        return (image, target, (), {"target": target}) if self.to_network else (image, target)


class RaterInferer(Inferer):
    """All that is scored of a `RaterSampler`, as its `predict` gives it.

    Returns {"probability": (B, 1, *spatial), the predicted share of raters; "samples": (B, n, *spatial)} and, of
    methods with a head for each rater, "heads" (B, R, *spatial), float32; with a window the samples are float16. With K
    structures they are (B, 1, K, *spatial) and so on. Masks are never passed to the network.

    A `RaterEvaluator` names the cases of each batch. What is random is then drawn by the seed and the name of the case
    alone, so that scores depend neither on the size of batches nor on the order or number of cases; methods that draw
    at random are applied to one case after the other. Without names draws follow one another from `restart` on.

    Args:
        samples: number of samples n.
        seed: of the samples.
        tta: test-time augmentation over the 8 flips and quarter turns of rows and columns: each method averages what
            it can, maps before samples are drawn from them, or samples of one noise.
        window: sides of the windows by which large images and volumes are predicted, see `predict_by_windows`; None:
            as a whole.
        overlap: of the windows, a share of their sides.
        search: predict the whole image only where its middle is empty, see `predict_middle_first`.
        middle: height and width of the middle for this; None: as without `search`.
        temperature: of the predicted share alone, not of samples and heads, see `monai_ext.formulas.temperature`.
    """

    def __init__(
        self,
        samples: int = 16,
        *,
        seed: int = 0,
        tta: bool | str = False,
        window: Sequence[int] | None = None,
        overlap: float = 0.25,
        search: bool | str = False,
        middle: Sequence[int] | None = None,
        temperature: float = 1.0,
    ):
        check_count("samples", samples)
        self.temperature = check_temperature(temperature)
        self.samples = samples
        self.seed = seed
        self.symmetries = SYMMETRIES if as_bool(tta, "tta") else AS_IT_IS
        self.window, self.overlap = window, overlap
        self.middle = middle if as_bool(search, "search") else None
        if window is not None and self.middle is not None:
            raise ValueError(f"search has no use where windows of {list(window)} cover the image: leave it out.")
        self.cases: Sequence[str] | None = None  # of the next batch
        self.restart()

    def restart(self) -> None:
        """Draw the first samples again, as at the beginning of each validation."""
        self.generator = torch.Generator().manual_seed(self.seed)
        self._one_by_one = False

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        if self.cases is None or len(self.cases) != len(inputs):
            return self._predicted(inputs, network, self.generator)
        generators = [self._of_case(name) for name in self.cases]
        if len(generators) == 1 or not self._one_by_one:
            before = generators[0].get_state()
            found = self._predicted(inputs, network, generators[0])
            if len(generators) == 1 or torch.equal(before, generators[0].get_state()):  # nothing is random
                return found
            self._one_by_one = True
            generators[0].set_state(before)
        pairs = zip(inputs.split(1), generators, strict=True)
        cases = [self._predicted(image, network, generator) for image, generator in pairs]
        return {name: torch.cat([case[name] for case in cases]) for name in cases[0]}

    def _of_case(self, name: str) -> torch.Generator:
        digest = hashlib.sha256(f"{self.seed} {name}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)

    def _predicted(self, inputs: Tensor, network: Callable[..., Any], generator: torch.Generator) -> dict[str, Tensor]:
        options: dict[str, Any] = {"symmetries": self.symmetries, "generator": generator}
        sampler = cast(RaterSampler, network)
        if self.window is not None:
            options |= {"window": self.window, "overlap": self.overlap}
            found = predict_by_windows(sampler, inputs, self.samples, **options)
        elif self.middle is not None:
            found = predict_middle_first(sampler, inputs, self.samples, middle=self.middle, **options)
        else:
            found = sampler.predict(inputs, self.samples, **options)
        output = {"probability": tempered(found.share, self.temperature), "samples": found.samples}
        return output if found.heads is None else output | {"heads": found.heads}


class RaterEvaluator(BatchEvaluator):
    """`BatchEvaluator` for several raters: its output's prediction is what `RaterInferer` returns.

    Predictions are brought to the grid of the masks where that is another one (see `restored`), so that masks kept as
    they are in their files are scored there; those for a region of interest are set into zeros.
    Every run draws the same samples, by the names of the cases where batches have an "id".

    Args:
        inferer: a `RaterInferer`.
        kwargs: as for `BatchEvaluator`; `prepare_batch` is `PrepareRaters()` unless given.
    """

    def __init__(
        self,
        device: torch.device | str,
        val_data_loader: Any,
        network: nn.Module,
        *,
        inferer: RaterInferer,
        **kwargs: Any,
    ):
        kwargs = {"prepare_batch": PrepareRaters()} | kwargs
        super().__init__(device, val_data_loader, network, inferer=inferer, **kwargs)
        self.add_event_handler(Events.EPOCH_STARTED, lambda: inferer.restart())
        self.add_event_handler(Events.GET_BATCH_COMPLETED, lambda: _name_cases(inferer, self.state.batch))
        self.add_event_handler(IterationEvents.FORWARD_COMPLETED, _at_size_of_masks)


def _name_cases(inferer: RaterInferer, batch: Mapping[str, Any]) -> None:
    names = batch.get("id")
    inferer.cases = None if names is None else [str(name) for name in names]


def _at_size_of_masks(engine: RaterEvaluator) -> None:
    output, batch = engine.state.output, engine.state.batch
    if output[Keys.LABEL] is None:
        return
    predictions, axes = output[Keys.PRED], output[Keys.IMAGE].ndim - 2
    size = output[Keys.LABEL]["masks"].shape[-axes:]
    if "label_is_whole" in batch:  # afterwards nobody may bring them back to the image again
        engine.state.batch = {name: values for name, values in batch.items() if name not in ("roi", "affine")}
    if "label_is_whole" in batch and "roi" in batch:
        regions = batch["roi"].tolist()
        output[Keys.PRED] = {name: _pasted(maps, regions, size) for name, maps in predictions.items()}
    elif "label_is_whole" in batch or any(maps.shape[-axes:] != size for maps in predictions.values()):
        output[Keys.PRED] = {name: _restored(maps, size, batch) for name, maps in predictions.items()}


def _pasted(maps: Tensor, regions: Sequence[Sequence[int]], size: torch.Size) -> Tensor:
    return torch.stack([paste_region(case, region, size) for case, region in zip(maps, regions, strict=True)])


def _restored(maps: Tensor, size: torch.Size, batch: Mapping[str, Any]) -> Tensor:
    """Maps (B, ..., *spatial) of the grid of the image on that of the masks, in their own type."""
    places = (batch["affine"].cpu().numpy(), batch["original_affine"].cpu().numpy()) if "affine" in batch else None
    rows = maps.flatten(1, -1 - len(size))
    whole = maps.new_empty((*rows.shape[:2], *size))
    for case, own in enumerate(rows):
        affine, original = (None, None) if places is None else (places[0][case], places[1][case])
        for row, values in enumerate(own):  # one after the other: samples of a volume are large
            found = restored(values[None], size, affine=affine, original=original)[0]
            whole[case, row] = found.clamp_(0, 1)  # weights may add up to 1 + 1e-7
    return whole.unflatten(1, maps.shape[1 : -len(size)])

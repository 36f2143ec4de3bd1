"""Checks against known distributions: do samples find all modes, and do calibrated intervals cover?

Modes: fields whose furrows run in one of four directions that the low resolution does not show; all four versions of a
field are known, so that it can be counted which of them samples find. Intervals: scenes drawn without end, so that the
coverage on scenes that took no part in the calibration is known as exactly as one likes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from monai_ext.commands.plotting import OKABE_ITO
from monai_ext.commands.uncertainty.phantom_training import train
from monai_ext.formulas.likelihoods import family_of
from monai_ext.losses.super_resolution_elbo import SuperResolutionELBO
from monai_ext.metrics.conformal import ConformalRule
from monai_ext.metrics.sample_sets import mode_recall, set_distances
from monai_ext.metrics.uncertainty_tables import UncertaintyTable, covered_share, uncertainty_table
from monai_ext.networks.latent_srresnet import BayesianSRResNet
from monai_ext.networks.srresnet import SRResNet
from monai_ext.networks.uncertain_sr import UncertainSuperResolution
from monai_ext.phantoms.modes import field_modes
from monai_ext.transforms.degradation import Degradation

__all__ = [
    "FoundModes",
    "KnownModes",
    "coverage_figure",
    "find_modes",
    "interval_coverage",
    "known_modes",
    "modes_figure",
    "train_on_modes",
]

SCALE = 4
LATENT_CHANNELS = 2
RATE = 3e-3
BATCH = 16
BETA = 12.0  # furrows have no noise, so that the bound itself would pay for any detail of the original
ASKED_AT_ONCE = 16
ALPHAS = (0.5, 0.3, 0.2, 0.1, 0.05)  # shares of values that an interval may miss


@dataclass(frozen=True)
class KnownModes:
    """Fields in each mode, `versions` (N, K, 3, s, s), and what all K of them reduce to, `low_res` (N, 3, h, w)."""

    versions: Tensor
    low_res: Tensor

    @property
    def apart(self) -> float:
        """Root mean square difference between two modes of a field, mean over fields."""
        return set_distances(self.versions, self.versions)[:, 0, 1:].mean().item()


@dataclass(frozen=True)
class FoundModes:
    """What samples found.

    Attributes:
        recall: share of the modes that some sample is nearer to than half the distance between modes.
        near: share of the samples that are as near to a mode, and so no mixture of several.
        shares: how often each of the K modes is the nearest one; 1/K each is right.
        recall_of_one: recall of the single output at the mean of the prior, of 1/K at most.
        samples: (N, n, 3, s, s).
    """

    recall: float
    near: float
    shares: tuple[float, ...]
    recall_of_one: float
    samples: Tensor


def known_modes(count: int, seed: int, *, side: int = 16) -> KnownModes:
    """`count` fields with a side of `side` pixels, colours drawn by `seed`."""
    versions = torch.stack([field_modes((side, side), layout_seed=(seed, i), field=side) for i in range(count)])
    return KnownModes(versions, Degradation(SCALE, levels=255)(versions[:, 0]))


def train_on_modes(fields: KnownModes, *, steps: int = 250, seed: int = 0) -> BayesianSRResNet:
    """A small network that was shown one version of a field at a time, drawn at random, in evaluation mode."""
    count, modes = fields.versions.shape[:2]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator = SRResNet(features=16, blocks=1, norm=None, residual=True, upsampling="direct")
        network = BayesianSRResNet(generator, Degradation(SCALE), latent_channels=LATENT_CHANNELS, texture_blocks=1)
        loss = SuperResolutionELBO(elbo_weight=0.1, free_nats=0.0, patch=fields.versions.shape[-1])

        def pair() -> tuple[Tensor, Tensor]:
            index, choice = torch.randint(count, (BATCH,)), torch.randint(modes, (BATCH,))
            return fields.low_res[index], fields.versions[index, choice]

        train(network, loss, torch.optim.Adam(network.parameters(), RATE), pair, steps=steps, beta=BETA)
    return network.eval()


@torch.no_grad()
def find_modes(
    network: UncertainSuperResolution, fields: KnownModes, *, samples: int = 32, seed: int = 0
) -> FoundModes:
    """Count which modes of each field `samples` samples are near."""
    drawn = network.sample(fields.low_res, samples, generator=torch.Generator().manual_seed(seed))
    radius = fields.apart / 2
    nearest, which = set_distances(drawn, fields.versions).min(2)  # (N, n)
    counts = torch.bincount(which.flatten(), minlength=fields.versions.shape[1])
    return FoundModes(
        recall=mode_recall(drawn, fields.versions, radius=radius).mean().item(),
        near=(nearest < radius).double().mean().item(),
        shares=tuple((counts / counts.sum()).tolist()),
        recall_of_one=mode_recall(network(fields.low_res)[:, None], fields.versions).mean().item(),
        samples=drawn,
    )


@torch.no_grad()
def interval_coverage(
    network: UncertainSuperResolution,
    degradation: Degradation,
    calibration: Tensor,
    test: Tensor,
    *,
    family: str,
    latent_samples: int = 32,
    seed: int = 0,
) -> list[dict[str, float]]:
    """Share of the values of `test` inside intervals, before and after calibration on other scenes, for each alpha.

    Before: the predicted distribution's central 1 - alpha. After: the factor of conformal risk control.

    Args:
        calibration, test: scenes (N, C, H, W) in [0, 1] that the network was not trained on.
        family: of the predicted distribution: what the network was trained for, see `family_of`.
        latent_samples: of the predicted variance.

    Returns:
        For each alpha "nominal", "before", "after" and "multiplier" of the standard deviation.
    """
    generator = torch.Generator().manual_seed(seed)
    tables = []
    for scenes in (calibration, test):
        parts = []
        for batch in scenes.split(ASKED_AT_ONCE):
            low_res = degradation(batch, generator=generator)
            found = network.uncertainty(low_res, weight_samples=1, latent_samples=latent_samples, generator=generator)
            parts.append(uncertainty_table(found["mean"], found["total"], batch))
        tables.append(UncertaintyTable(*(torch.cat(columns).sum(0) for columns in zip(*parts, strict=True))))
    rows = []
    for alpha in ALPHAS:
        factor = ConformalRule(alpha=alpha).choose(tables[0]).multiplier[0]
        usual = family_of(family).half_width(torch.tensor(1 - alpha, dtype=torch.float64)).item()
        before, after = (covered_share(tables[1].ratios[..., 0], m).mean().item() for m in (usual, factor))
        rows.append({"nominal": 1 - alpha, "before": before, "after": after, "multiplier": factor})
    return rows


def coverage_figure(rows: Sequence[Mapping[str, Any]], *, scenes: int) -> Figure:
    """Coverage found against nominal coverage, of `scenes` scenes."""
    figure = Figure(figsize=(4.0, 3.6), layout="constrained")
    axis = figure.subplots()
    nominal = [row["nominal"] for row in rows]
    axis.plot([0, 1], [0, 1], color="#999999", linewidth=0.8, label="nominal")
    axis.plot(nominal, [row["before"] for row in rows], "o--", color=OKABE_ITO[0], label="as predicted")
    axis.plot(nominal, [row["after"] for row in rows], "s-", color=OKABE_ITO[1], label="calibrated")
    lowest = min(min(row["nominal"], row["before"], row["after"]) for row in rows)
    axis.set(xlim=(lowest - 0.05, 1), ylim=(lowest - 0.05, 1))
    axis.set(xlabel="Nominal coverage", ylabel="Share of values inside", title=f"{scenes} scenes of other seeds")
    axis.title.set_fontsize(9)
    axis.legend(fontsize=8, loc="upper left")
    axis.grid(color="#dddddd", linewidth=0.6)
    return figure


def modes_figure(fields: KnownModes, found: FoundModes, *, rows: int = 3, samples: int = 6) -> Figure:
    """Low resolution, all modes, and samples of the first `rows` fields."""
    modes = fields.versions.shape[1]
    figure = Figure(figsize=(1.0 * (1 + modes + samples), 1.1 * rows + 0.4), layout="constrained")
    axes = figure.subplots(rows, 1 + modes + samples, squeeze=False)
    titles = ["input", *(f"mode {k + 1}" for k in range(modes)), *(f"sample {i + 1}" for i in range(samples))]
    for row, line in enumerate(axes):
        pictures = [fields.low_res[row], *fields.versions[row], *found.samples[row, :samples]]
        for axis, picture, title in zip(line, pictures, titles, strict=True):
            axis.imshow(picture.clamp(0, 1).permute(1, 2, 0), interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
            if row == 0:
                axis.set_title(title, fontsize=8)
    return figure

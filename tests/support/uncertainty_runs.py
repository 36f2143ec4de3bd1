"""A toy network with known errors, evaluated by the report of uncertainty."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F

from monai_ext.engines.uncertainty import UncertaintyEvaluator, UncertaintyInferer
from monai_ext.handlers.super_resolution.uncertainty import UncertaintyReport
from monai_ext.metrics.conformal import ConformalRule
from monai_ext.transforms.degradation import Degradation

ALEATORIC, AMBIGUITY = 0.03, 0.04  # true standard deviations
OVERCONFIDENCE = 2.0  # the toy says half of both
COUNTS = {"calibration": 120, "test": 40, "training": 20}


class Toy(torch.nn.Module):
    """Knows the answer but for plain noise, whose size it underrates; sure of dark places, doubtful in bright ones."""

    def uncertainty(self, low_res, *, weight_samples, latent_samples, generator):
        mean = F.interpolate(low_res, scale_factor=2.0)
        one = torch.ones_like(mean)
        parts = {
            "aleatoric": one * (ALEATORIC / OVERCONFIDENCE) ** 2,
            "ambiguity": one * (AMBIGUITY / OVERCONFIDENCE) ** 2,
            "epistemic": torch.where(mean > 0.5, 1e-4, 1e-5) * one,
        }
        return {"mean": mean, "total": sum(parts.values())} | parts

    def sample(self, low_res, n, *, generator):
        mean = F.interpolate(low_res, scale_factor=2.0)[:, None]
        noise = torch.randn(len(mean), n, *mean.shape[2:], generator=generator)
        return mean + AMBIGUITY / OVERCONFIDENCE * noise


class Loader(list):
    """Batches with the ids of a data set."""

    @property
    def dataset(self):
        return SimpleNamespace(ids=[name for batch in self for name in batch["id"]])


def tiles() -> tuple[list[dict], dict[str, str], dict[str, str]]:
    """Batches of 45 tiles, group and place of each; those learnt from are dark, and groups share batches."""
    generator = torch.Generator().manual_seed(0)
    names = [f"{group}_{i:02d}" for group, count in COUNTS.items() for i in range(count)]
    groups = {name: name.split("_")[0] for name in names}
    order = torch.randperm(len(names), generator=generator).tolist()
    names = [names[i] for i in order]
    dark = torch.tensor([groups[name] == "training" for name in names]).view(-1, 1, 1, 1)
    low_res = torch.where(dark, 0.3, 0.6) + 0.1 * torch.rand(len(names), 1, 8, 8, generator=generator)
    sd = math.hypot(ALEATORIC, AMBIGUITY)
    label = F.interpolate(low_res, scale_factor=2.0) + sd * torch.randn(len(names), 1, 16, 16, generator=generator)
    places = {name: f"place {name[-1]}" for name in names}
    batches = [
        {"id": names[i : i + 45], "image": low_res[i : i + 45], "label": label[i : i + 45]}
        for i in range(0, len(names), 45)
    ]
    return batches, groups, places


def grouped(groups: dict[str, str], places: dict[str, str] | None = None) -> list[dict[str, str]]:
    return [{"id": name, "group": group, "place": (places or {}).get(name, "")} for name, group in groups.items()]


def evaluator(handler: UncertaintyReport, batches: list[dict], samples: int = 4) -> UncertaintyEvaluator:
    inferer = UncertaintyInferer(weight_samples=3, latent_samples=2, samples=samples)
    return UncertaintyEvaluator(
        torch.device("cpu"), batches, Toy(), inferer=inferer, val_handlers=[handler], precision="fp32"
    )


def reported_run(folder: Path) -> Path:
    """A folder with the report of one evaluation; made twice, nothing is left of the first time."""
    batches, groups, places = tiles()
    handler = UncertaintyReport(
        folder,
        grouped(groups, places),
        rule=ConformalRule(alpha=0.1),
        calibration_path=folder / "models" / "calibration.json",
        family="gaussian",
        degradation=Degradation(scale=2),
        settings={"training_tiles": 20, "scale": 2, "noise": 0.0, "seed": 0},
    )
    engine = evaluator(handler, batches)
    engine.run()
    before = {path: path.read_bytes() for path in folder.rglob("*.*") if path.suffix in (".json", ".csv")}
    engine.run()
    assert before == {path: path.read_bytes() for path in before}
    return folder

"""`python -m weights BUNDLE --data_dir DIR`: make the weights that a bundle ships again from public data."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from monai_ext.commands.command_line import Computed, Positional, parse_options
from weights.recipes import RECIPES
from weights.steps import run_steps

__all__ = ["WeightsOptions", "main"]


@dataclass(frozen=True)
class WeightsOptions:
    """Make the weights that a bundle ships again: data, trainings, half precision, scores on what was held out.

    Steps that are done are skipped and an interrupted training goes on, so the same command continues.
    """

    bundle: Positional[Literal["lesion_unet", "qubiq_holistic", "prob_unet", "srgan_aerial", "bayesian_srgan_aerial"]]
    """whose weights to make"""
    data_dir: Path
    """folder of the public data sets, see weights/README.md"""
    output_dir: Computed[Path | None] = None
    """folder of runs and weights (made/BUNDLE)"""
    imagenet: str = "imagenet"
    """file of torchvision's MobileNetV2 weights, or imagenet to fetch them"""
    dry_run: bool = False
    """print the commands, run nothing"""


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 a step failed."""
    options = parse_options(WeightsOptions, sys.argv[1:] if arguments is None else arguments).options
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    output = options.output_dir or Path("made", options.bundle)
    try:
        run_steps(RECIPES[options.bundle](options.data_dir, output, options.imagenet), dry_run=options.dry_run)
    except (subprocess.CalledProcessError, FileNotFoundError) as error:
        print(f"weights: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

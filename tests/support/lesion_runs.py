"""The lesion bundle trained in seconds."""

from __future__ import annotations

from bundle_runs import BUNDLES, trainer_of

BUNDLE = BUNDLES / "lesion_unet"
TINY = {
    "spatial_size": [32, 64],
    "batch_size": 4,
    "max_epochs": 2,
    "log_interval": 2,
    "folds": 3,
    "network_def#width": 0.25,
    "network_def#decoder_channels": [16, 16, 16, 16, 16],
}
train = trainer_of(BUNDLE.name, TINY)

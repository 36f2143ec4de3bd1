"""What every training has: checkpoints, records, stages, weights."""

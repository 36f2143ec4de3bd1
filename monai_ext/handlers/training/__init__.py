"""Handlers of every training: checkpoints, records, curves, stages, weights."""

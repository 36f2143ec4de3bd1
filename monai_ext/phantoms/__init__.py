"""Synthetic data with known truth, for tests and demos."""

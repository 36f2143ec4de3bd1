"""What the package costs beside the field's usual ways, as ratios within one run: `python -m benchmarks`."""

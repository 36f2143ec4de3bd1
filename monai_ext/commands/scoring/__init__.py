"""`score` and `rater-table`."""

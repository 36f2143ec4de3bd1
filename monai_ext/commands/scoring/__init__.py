"""`score` and `rater_table`."""

"""`fetch_tiles` and `many_hr`."""

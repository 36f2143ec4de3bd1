"""`fetch-tiles` and `many-hr`."""

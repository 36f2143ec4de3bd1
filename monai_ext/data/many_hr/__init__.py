"""Data sets of one low-resolution image and many high-resolution ones."""

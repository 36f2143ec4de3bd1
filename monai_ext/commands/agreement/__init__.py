"""`consensus` and `agreement`: what several raters have in common, and where they differ."""

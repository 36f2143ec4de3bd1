"""`inspect`, `pack` and `reproduce`."""

"""Data sets decoded once and held on the device."""

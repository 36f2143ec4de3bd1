"""`upscale` and `viewer`."""

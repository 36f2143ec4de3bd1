"""`uncertainty-checks` and `uncertainty-report`."""

"""`uncertainty_checks` and `uncertainty_report`."""

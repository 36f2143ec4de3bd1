"""`compare` and `report`."""

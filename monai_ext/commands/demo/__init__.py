"""`demo`: one page for each bundle."""

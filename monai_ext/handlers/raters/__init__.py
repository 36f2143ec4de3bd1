"""Scores, pictures and alarms for several raters."""

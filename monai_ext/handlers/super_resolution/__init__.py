"""Scores, pictures, alarms and files for super-resolution."""

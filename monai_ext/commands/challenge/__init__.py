"""Whole challenges: every task trained and scored, and what is submitted."""

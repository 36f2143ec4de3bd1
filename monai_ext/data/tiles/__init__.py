"""Aerial tiles: fetched, listed, split by place, decoded."""

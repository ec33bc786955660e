"""Grids of comparisons."""

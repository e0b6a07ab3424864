"""Comparisons with other tools that do the same work."""

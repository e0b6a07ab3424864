"""Runs on the device; copied into every bundle."""

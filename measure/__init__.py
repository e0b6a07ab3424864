"""Engines -> predictions and latencies -> statistics -> verdict."""

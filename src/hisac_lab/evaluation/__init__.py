"""Metrics, slices, intervals and cost."""

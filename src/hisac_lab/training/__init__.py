"""Batches, the loop, checkpoints and resume, devices."""

"""Typed settings: one class per section of params.yaml."""

"""Ranking policies in a world with known click probabilities, and their statistics."""

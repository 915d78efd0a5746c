"""Embeddings as those of many short texts, which plain residual k-means divides badly."""

from __future__ import annotations

import numpy as np

TEXTS, DIM, ALIKE = 2800, 128, 120


def short_texts() -> np.ndarray:
    """Wide groups of unequal sizes, and ten each of a few texts that say nearly the same; unit rows (2800, 128).

    The later codes of a level go to the texts that are alike, and all others share the few that are left.
    """
    random = np.random.default_rng(5)
    width = np.arange(1, DIM + 1.0) ** -0.3
    subject = random.zipf(1.5, TEXTS) % 40
    texts = (0.5 * random.normal(size=(40, DIM))[subject] + random.normal(size=(TEXTS, DIM))) * width
    texts[:ALIKE] = np.repeat(texts[: ALIKE // 10], 10, axis=0) + 0.2 * random.normal(size=(ALIKE, DIM)) * width
    texts -= texts.mean(axis=0)
    unit: np.ndarray = (texts / np.linalg.norm(texts, axis=1, keepdims=True)).astype(np.float32)
    return unit

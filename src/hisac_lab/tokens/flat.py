"""Fitting flat codebooks beside the semantic IDs: one k-means for each width asked for, with a seed of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hisac_lab.base.artifacts import Array, load_array
from hisac_lab.base.progress import track
from hisac_lab.config.tokens import TokenizeConfig, flat_names
from hisac_lab.tokens.kmeans import kmeans, mini_batch_kmeans
from hisac_lab.tokens.methods import draw_rows

APART = 1 << 16  # from the seeds of the levels


def fit_flat(config: TokenizeConfig, vectors: Array, fresh: float = 1.0) -> dict[str, Array]:
    """Centers of each flat codebook by its name, (M, D) float32; one does not depend on which others there are.

    Args:
        config: The section `tokenize`.
        vectors: (n, D) float32 embeddings, none zero; may be memory-mapped.
        fresh: Share of the items that the earlier fit did not have, where there is one: it damps the steps.
    """
    names = flat_names(config.flat)
    if not names:
        return {}
    return {
        name: _fit(config, vectors, fresh, place, name)
        for place, name in track(enumerate(names), len(names), "tokenize", "flat codebooks")
    }


def _fit(config: TokenizeConfig, vectors: Array, fresh: float, place: int, name: str) -> Array:
    width = config.flat[place]
    random = np.random.default_rng([config.seed, APART + config.flat[:place].count(width), width])
    if config.previous is None and config.fit == "mini_batch":
        return mini_batch_kmeans(vectors, width, config.iterations, config.batch, random)
    rows = draw_rows(vectors, config.sample_per_code * width, config.seed)
    if config.previous is None:
        return kmeans(rows, width, config.iterations, random)
    before = np.array(load_array(Path(config.previous), f"{name}_vectors"))
    passes = max(1, round(fresh * config.iterations))
    return kmeans(rows, width, passes, random, before, damping=fresh) if fresh else before

"""The stage `tokenize` on embeddings made up by a test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from outputs import save_prepared

from hisac_lab.base.artifacts import save_arrays
from hisac_lab.config.tokens import TokenizeConfig, TokenizeLimits
from hisac_lab.tokens.tokenize import tokenize

OPEN = TokenizeLimits(
    min_use=0,
    min_evenness=0,
    min_occupancy=0,
    max_bucket_share=1,
    min_explained_variance=-1,
    min_neighbor_overlap=0,
    min_seed_agreement=-1,
)


def unit_vectors(count: int = 100, seed: int = 0) -> np.ndarray:
    """Rows of length one, six wide."""
    vectors = np.random.default_rng(seed).normal(size=(count, 6)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def tokenize_vectors(home: Path, vectors: np.ndarray, config: TokenizeConfig, out: str = "tokenize") -> Path:
    """The stage on embeddings of items "0", "1", ..., without categories."""
    for name in ("prepare", "embed", out):
        (home / name).mkdir(exist_ok=True)
    save_arrays(home / "embed", {"embeddings": vectors})
    pd.DataFrame({"item": [str(row) for row in range(len(vectors))]}).to_parquet(home / "prepare" / "items.parquet")
    save_prepared(home / "prepare")
    tokenize(config, prepared=home / "prepare", embedded=home / "embed", out=home / out)
    return home / out

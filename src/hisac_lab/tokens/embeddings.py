"""Item embeddings: the frozen semantic space in which quantisers and routing work.

Every method ends in centred, L2-normalised rows, so that squared distances lie in [0, 4] and one temperature fits
all (the papers leave the normalisation open: inferred).
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.numpy import load_file
from scipy import sparse
from tokenizers import Tokenizer

from hisac_lab.base.artifacts import Array, save_arrays, write_manifest
from hisac_lab.base.errors import UserError
from hisac_lab.config.tokens import EmbedConfig
from hisac_lab.events.store import EventStore

BATCH = 4096


def embed(config: EmbedConfig, prepared: Path, out: Path) -> None:
    """Writes `embeddings.npy`, (items, D) float32, centred and L2-normalised.

    Raises:
        UserError: An item has nothing to be embedded by.
    """
    store = EventStore.open(prepared)
    table = store.item_table
    vectors = text_vectors(table) if config.method == "text" else cooccurrence_vectors(config, store)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    empty = np.flatnonzero(norms[:, 0] == 0)
    if len(empty) and config.method == "text":
        raise UserError(
            prepared / "items.parquet",
            f"item {table['item'].iloc[empty[0]]!r} has no word the model knows, so it has no embedding",
            "give it a text or set embed.method: cooccurrence",
            "text",
        )
    known = norms[:, 0] > 0
    # Static word vectors share one large direction; without the mean, distances tell items apart.
    vectors[known] -= vectors[known].mean(axis=0)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0).astype(np.float32)
    save_arrays(out, {"embeddings": unit})
    write_manifest(out, method=config.method, items=len(unit), dim=unit.shape[1], items_without_embedding=len(empty))


def text_vectors(table: pd.DataFrame) -> Array:
    """Mean of the static word vectors of each item's text; (items, 256) float32.

    The vectors are WordLlama's `l2_supercat_256`, which ships inside the package `wordllama`; its own loader looks
    for the tokenizer elsewhere, so the two files are opened directly.
    """
    spec = find_spec("wordllama")
    if spec is None or spec.origin is None:
        raise UserError("environment", "package wordllama is missing", "install it or set embed.method: cooccurrence")
    home = Path(spec.origin).parent
    weights: Array = load_file(home / "weights" / "l2_supercat_256.safetensors")["embedding.weight"].astype(np.float32)
    description = json.loads((home / "tokenizers" / "l2_supercat_tokenizer_config.json").read_text())
    tokenizer = Tokenizer.from_str(json.dumps(description))
    texts = table["text"].tolist()
    vectors = np.zeros((len(texts), weights.shape[1]), np.float32)
    for start in range(0, len(texts), BATCH):
        encoded = tokenizer.encode_batch(texts[start : start + BATCH], add_special_tokens=False)
        for row, tokens in enumerate(encoded, start):
            if tokens.ids:
                vectors[row] = weights[tokens.ids].mean(axis=0)
    return vectors


def cooccurrence_vectors(config: EmbedConfig, store: EventStore) -> Array:
    """Positive PMI of items that stand close in training histories, by randomised SVD; (items, D) float32.

    Only events before the validation period count: the embedding is fitted, so it obeys the split. Items without
    such an event get the zero vector: they neither vote nor are routed.
    """
    from sklearn.utils.extmath import randomized_svd  # slow to import, and the default method has no use for it

    items, times = np.asarray(store.items), np.asarray(store.times)
    past = times < store.manifest["cuts"]["valid"]
    owner = np.repeat(np.arange(len(store.offsets) - 1), np.diff(store.offsets))[past]
    items = items[past]
    count = int(store.manifest["items"])
    pairs = sparse.csr_matrix((count, count), dtype=np.float64)
    for gap in range(1, config.cooccurrence_window + 1):
        together = owner[gap:] == owner[:-gap]
        left, right = items[gap:][together], items[:-gap][together]
        ones = np.full(len(left), 1.0 / gap)
        pairs = pairs + sparse.csr_matrix((ones, (left, right)), shape=(count, count))
    pairs = (pairs + pairs.T).tocoo()
    totals = np.asarray(pairs.sum(axis=1)).ravel()
    pmi = np.log(pairs.data * totals.sum() / (totals[pairs.row] * totals[pairs.col]))
    keep = pmi > 0
    matrix = sparse.csr_matrix((pmi[keep], (pairs.row[keep], pairs.col[keep])), shape=(count, count))
    width = min(config.cooccurrence_dim, count - 1)
    u, s, _ = randomized_svd(matrix, width, random_state=config.seed)
    vectors: Array = (u * np.sqrt(s)).astype(np.float32)
    return vectors

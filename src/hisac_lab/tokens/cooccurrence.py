"""Vectors of items by the company they keep in training histories."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy import sparse

from hisac_lab.base.artifacts import Array
from hisac_lab.config.tokens import EmbedConfig
from hisac_lab.events.store import EventStore

BATCH = 4096
EVENTS_AT_ONCE = 1 << 20


def cooccurrence_vectors(config: EmbedConfig, prepared: Path) -> Iterator[Array]:
    """Shifted positive PMI of items that stand close in training histories, by randomized SVD; (b, D) float32.

    Only events before the validation period count: the embedding is fitted, so it obeys the split. Of a log with
    feedback only positive events do: what else was shown together is the choice of a policy. Items without such an
    event get the zero vector: they neither vote nor are routed. Pairs are counted in blocks of events; the
    factorization itself holds one row per item.

    PMI(i, j) - log k, nothing below zero (Levy and Goldberg 2014); a pair at distance g counts 1 / g.
    """
    from sklearn.utils.extmath import randomized_svd  # slow to import, and the default method has no use for it

    pairs = _pairs(EventStore.open(prepared), config.cooccurrence_window).tocoo()
    count = pairs.shape[0]
    totals = np.asarray(pairs.sum(axis=1)).ravel()
    pmi = np.log(pairs.data * totals.sum() / (totals[pairs.row] * totals[pairs.col])) - np.log(
        config.cooccurrence_shift
    )
    keep = pmi > 0
    matrix = sparse.csr_matrix((pmi[keep], (pairs.row[keep], pairs.col[keep])), shape=(count, count))
    width = min(config.cooccurrence_dim, count - 1)
    u, s, _ = randomized_svd(matrix, width, random_state=config.seed)
    for start in range(0, count, BATCH):
        yield (u[start : start + BATCH] * np.sqrt(s)).astype(np.float32)


def _pairs(store: EventStore, window: int) -> sparse.csr_matrix:
    """Symmetric weights of the pairs inside the window; (items, items)."""
    count, cut, levels = store.manifest.items, store.manifest.cuts["valid"], store.manifest.feedback
    pairs = sparse.csr_matrix((count, count), dtype=np.float64)
    first = 0
    users = len(store.offsets) - 1
    while first < users:  # whole users, about a block of events at a time
        last = int(np.searchsorted(store.offsets, store.offsets[first] + EVENTS_AT_ONCE, side="right")) - 1
        last = min(max(last, first + 1), users)
        begin, end = int(store.offsets[first]), int(store.offsets[last])
        past = np.asarray(store.times[begin:end]) < cut
        if levels is not None and store.feedback is not None:
            past &= np.asarray(store.feedback[begin:end]) >= levels.positive
        items = np.asarray(store.items[begin:end])[past]
        owner = np.repeat(np.arange(last - first), np.diff(store.offsets[first : last + 1]))[past]
        for gap in range(1, window + 1):
            together = owner[gap:] == owner[:-gap]
            left, right = items[gap:][together], items[:-gap][together]
            weights = np.full(len(left), 1.0 / gap)
            pairs = pairs + sparse.csr_matrix((weights, (left, right)), shape=(count, count))
        first = last
    return pairs + pairs.T

"""Popularity: the positives that items had, as who knows no user would rank them."""

from __future__ import annotations

import numpy as np

from hisac_lab.base.artifacts import Array
from hisac_lab.events.records import POSITIVES
from hisac_lab.events.series import ItemSeries
from hisac_lab.events.store import EventStore


def popularity(store: EventStore, items: Array, times: Array) -> Array:
    """Positives of items strictly before the time unit of some times.

    In a log whose times are places in an order, which tell nothing of other users, those of the training samples.

    Args:
        store: The events.
        items: Their numbers, integers.
        times: Seconds; it broadcasts with the items.

    Returns:
        Of the shape of both, int64.
    """
    facts = store.manifest.context
    if POSITIVES not in facts.series:
        train = store.samples("train")
        counts = np.bincount(train["item"][train["label"] == 1], minlength=store.manifest.items)
        return np.asarray(counts[np.broadcast_arrays(items, times)[0]], np.int64)
    series = ItemSeries.open(store.path, POSITIVES, facts.half_lives)
    return np.asarray(series.at(items, times // facts.unit * facts.unit).count, np.int64)

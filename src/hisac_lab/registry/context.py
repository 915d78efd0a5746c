"""What a bundle keeps of the item series: one row per item, as it is after the log's last event."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hisac_lab.events.series import ItemSeries, Snapshot
from hisac_lab.events.store import EventStore
from hisac_lab.models.backbone import Ranker


def save_snapshots(bundle: Path, model: Ranker, store: EventStore) -> None:
    """Writes what the model reads of the item series, where it reads any.

    Raises:
        UserError: The store has none.
    """
    columns = model.context_columns
    for name in columns.series:
        ItemSeries.open(store.path, name, columns.facts.half_lives).snapshot().save(bundle, name)


def extend_snapshots(bundle: Path, model: Ranker, more: int, out: Path) -> None:
    """Writes a bundle's snapshots with rows for more items, as of items that nobody has met.

    Raises:
        UserError: A file is missing.
    """
    for name, known in snapshots(bundle, model).items():
        rows = (
            np.pad(part, [(0, more)] + [(0, 0)] * (part.ndim - 1)) for part in (known.count, known.newest, known.sums)
        )
        Snapshot(known.half_lives, *rows).save(out, name)


def snapshots(bundle: Path, model: Ranker) -> dict[str, Snapshot]:
    """What `save_snapshots` wrote, by series; nothing for a model that reads none.

    Raises:
        UserError: A file is missing.
    """
    columns = model.context_columns
    return {name: Snapshot.open(bundle, name, columns.facts.half_lives) for name in columns.series}

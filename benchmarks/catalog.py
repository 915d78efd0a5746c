"""A made-up log of many items, written a block at a time: its events, the table of items and their vectors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hisac_lab.base.artifacts import Array, save_blocks

EVENTS, EVENTS_PER_USER = 400_000, 100
WIDTH = 64  # of the vectors
TOPICS = 512  # at each of two levels
BLOCK = 1 << 18
FIRST_SECOND, SECONDS = 1_600_000_000, 400 * 86_400
WORDS = (
    "red blue green small large old new fast slow warm cold soft hard bright dark round flat sharp lamp chair table "
    "book phone shoe coat knife plate bottle clock mirror basket ladder guitar camera helmet bridge garden window"
).split()


def item_names(first: int, last: int) -> list[str]:
    """Ids of the items from `first` up to `last`: numbers in no order of the table."""
    return [str(10_000_000_000 + item * 7_919 % 1_000_003 * 10_000 + item // 1_000_003) for item in range(first, last)]


def write_events(path: Path, items: int, random: np.random.Generator) -> None:
    """Writes the events in time order as Parquet. Some items are common; all may occur."""
    total = EVENTS
    schema = pa.schema({"user_id": pa.int64(), "item_id": pa.int64(), "timestamp": pa.int64(), "rating": pa.int8()})
    with pq.ParquetWriter(path, schema) as writer:
        for first in range(0, total, BLOCK):
            count = min(BLOCK, total - first)
            item = (random.random(count) ** 2 * items).astype(np.int64)
            columns = {
                "user_id": random.integers(total // EVENTS_PER_USER, size=count),
                "item_id": 10_000_000_000 + item * 7_919 % 1_000_003 * 10_000 + item // 1_000_003,
                "timestamp": FIRST_SECOND + (first + np.arange(count)) * SECONDS // total,
                "rating": (random.random(count) < 0.4).astype(np.int8),
            }
            writer.write_table(pa.table(columns, schema))


def write_items(path: Path, items: int, random: np.random.Generator) -> None:
    """Writes the table of items as Parquet: id, a text of four words and a number, a category (the topic)."""
    words, schema = np.asarray(WORDS), pa.schema(dict.fromkeys(("item_id", "title", "category"), pa.string()))
    with pq.ParquetWriter(path, schema) as writer:
        for first in range(0, items, BLOCK):
            last = min(first + BLOCK, items)
            drawn = words[random.integers(len(words), size=(last - first, 4))]
            titles = [f"{' '.join(row)} {number}" for number, row in enumerate(drawn.tolist(), first)]
            kinds = [f"kind {topic}" for topic in _topics(first, last - first)[0].tolist()]
            columns = {"item_id": item_names(first, last), "title": titles, "category": kinds}
            writer.write_table(pa.table(columns, schema))


def write_vectors(folder: Path, items: int, random: np.random.Generator) -> None:
    """Writes `vectors.npy`, (items, 64) float32: a topic, a topic inside it, and what is the item's own."""
    large, small = (random.standard_normal((TOPICS, WIDTH), np.float32) for _ in range(2))

    def blocks() -> Iterator[Array]:
        for first in range(0, items, BLOCK):
            count = min(BLOCK, items - first)
            topics = _topics(first, count)
            own = random.standard_normal((count, WIDTH), np.float32)
            yield large[topics[0]] + 0.6 * small[topics[1]] + 0.4 * own

    save_blocks(folder, "vectors", items, blocks())


def _topics(first: int, count: int) -> Array:
    """Topics of both levels of a block of items: the category is the first; (2, count) int64."""
    topics: Array = np.random.default_rng(first).integers(TOPICS, size=(2, count))
    return topics


def write_log(folder: Path, items: int, seed: int) -> None:
    """Writes `events.parquet`, `items.parquet` and `vectors.npy` into `folder`."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    write_events(folder / "events.parquet", items, random)
    write_items(folder / "items.parquet", items, random)
    write_vectors(folder, items, random)

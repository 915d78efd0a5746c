"""The best AUC there is: that of the true probabilities, on any part of the log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hisac_lab.base.artifacts import Array
from hisac_lab.base.errors import UserError, explain_os_error

BINS = 1 << 16


class StreamingAUC:
    """Area under the ROC curve of scores in [0, 1], block by block, in constant memory.

    Scores are rounded to 1/65536 and ties count half, so it differs from the exact area by less than 1e-4.
    """

    def __init__(self) -> None:
        self._counts = np.zeros((2, BINS), np.int64)

    def add(self, labels: Array, scores: Array) -> None:
        """Takes one more block; labels 0 or 1, (n,), and scores (n,)."""
        places = np.minimum((scores * BINS).astype(np.int64), BINS - 1)
        for label in (0, 1):
            self._counts[label] += np.bincount(places[labels == label], minlength=BINS)

    @property
    def value(self) -> float | None:
        """The area so far; None while a class is empty."""
        negative, positive = self._counts.astype(float)
        pairs = negative.sum() * positive.sum()
        if not pairs:
            return None
        below = np.cumsum(negative) - negative / 2
        return float(positive @ below / pairs)


class Oracle:
    """AUCs of the truth.

    `probability` knows the user, `probability_recent` only what the last 50 clicks reveal (see `truth`); the two
    `..._anywhere` are the same without the position, for models that are not told it.

    Args:
        examined: Probability that each position is looked at; (slate,).
    """

    def __init__(self, examined: Array) -> None:
        self._examined = examined
        self._areas = {
            f"{name}{where}": StreamingAUC()
            for where in ("", "_anywhere")
            for name in ("probability", "probability_recent")
        }
        self._events, self._clicks, self._old = 0, 0, 0

    def add(self, columns: Mapping[str, Array], use: Array | None = None) -> None:
        """Takes one more block of exposures: columns of the log and its truth, and which rows count (None: all)."""
        names = ("click", "position", "old", "probability", "probability_recent")
        clicks, positions, old, *both = (columns[name] if use is None else columns[name][use] for name in names)
        examined = self._examined[positions]
        for name, scores in zip(names[-2:], both, strict=True):
            self._areas[name].add(clicks, scores)
            self._areas[f"{name}_anywhere"].add(clicks, scores / examined)
        self._events += len(clicks)
        self._clicks += int(clicks.sum())
        self._old += int(old.sum())

    def facts(self) -> dict[str, Any]:
        """Events, clicks, exposures of old subjects and the areas so far; an area is None while a class is empty."""
        areas = {name: None if area.value is None else round(area.value, 5) for name, area in self._areas.items()}
        return {"events": self._events, "clicks": self._clicks, "old": self._old, "auc": areas}


def oracle(folder: Path, examined: list[float], begin: int, end: int) -> dict[str, Any]:
    """AUCs of the truth on the exposures with begin <= time < end, in the memory of one row group.

    Args:
        folder: Output of `simulate`.
        examined: The fact of this name in its manifest.
        begin: First second.
        end: The second after the last.

    Raises:
        UserError: The log or its truth cannot be read.
    """
    areas = Oracle(np.asarray(examined))
    for columns in read_truth(folder):
        areas.add(columns, (columns["time"] >= begin) & (columns["time"] < end))
    return areas.facts()


def read_truth(folder: Path) -> Iterator[dict[str, Array]]:
    """Yields the log and its truth side by side, one row group at a time: columns by name.

    Raises:
        UserError: A file is missing or cannot be read.
    """
    paths = sorted((Path(folder) / "events").glob("part-*.parquet"))
    if not paths:
        raise UserError(Path(folder) / "events", "holds no part-*.parquet", "run the stage acquire again")
    for path in paths:
        try:
            with pq.ParquetFile(path) as events, pq.ParquetFile(folder / "truth" / path.name) as truth:
                for group in range(events.num_row_groups):
                    tables = events.read_row_group(group), truth.read_row_group(group)
                    yield {name: table[name].to_numpy() for table in tables for name in table.column_names}
        except OSError as error:
            raise explain_os_error(error, path) from error
        except pa.ArrowInvalid as error:
            raise UserError(path, f"is not whole ({error})", "run the stage acquire again") from error

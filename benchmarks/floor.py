"""The least that any preparation does: reads a CSV of events, sorts them by user and time, writes the columns.

    python benchmarks/floor.py plain LOG.csv FOLDER
    python benchmarks/floor.py tuned LOG.csv FOLDER

With pyarrow and NumPy alone, nothing checked, on one thread; `bench-prepare` compares with both. `plain` is what
pyarrow offers for it, ids left as text. `tuned` numbers users and items while it reads, and NumPy sorts the numbers.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

IDS = ("user_id", "item_id")
ONE_THREAD = pa.csv.ReadOptions(use_threads=False)


def plain(log: str, out: Path) -> None:
    """Writes one Parquet file."""
    table = pa.csv.read_csv(log, ONE_THREAD)
    pa.parquet.write_table(table.sort_by([(name, "ascending") for name in ("user_id", "timestamp")]), out / "events")


def tuned(log: str, out: Path) -> None:
    """Writes one NumPy file for each column, and the ids."""
    word = pa.dictionary(pa.int32(), pa.string())
    table = pa.csv.read_csv(
        log, ONE_THREAD, convert_options=pa.csv.ConvertOptions(column_types=dict.fromkeys(IDS, word))
    )
    columns = {}
    for name in table.column_names:
        column = table.column(name)
        if name in IDS:
            whole = column.unify_dictionaries().combine_chunks()
            np.save(out / f"{name}_ids.npy", whole.dictionary.to_numpy(zero_copy_only=False).astype(str))
            columns[name] = whole.indices.to_numpy()
        else:
            columns[name] = column.to_numpy()
    order = np.lexsort((columns["timestamp"], columns["user_id"]))
    for name, values in columns.items():
        np.save(out / f"{name}.npy", values[order])


if __name__ == "__main__":
    way, log, folder = sys.argv[1:]
    Path(folder).mkdir(exist_ok=True)
    {"plain": plain, "tuned": tuned}[way](log, Path(folder))

"""The least that any preparation does: reads a CSV of events, numbers users and items, sorts, writes the columns.

    python benchmarks/floor.py LOG.csv FOLDER

With pyarrow and NumPy alone, nothing checked, on one thread; `bench-prepare` compares with it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

IDS = ("user_id", "item_id")


def main(log: str, folder: str) -> None:
    """Writes one NumPy file for each column, events by user and time, and the ids."""
    word = pa.dictionary(pa.int32(), pa.string())
    options = pa.csv.ConvertOptions(column_types=dict.fromkeys(IDS, word))
    table = pa.csv.read_csv(log, pa.csv.ReadOptions(use_threads=False), convert_options=options)
    columns, out = {}, Path(folder)
    out.mkdir(exist_ok=True)
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
    main(*sys.argv[1:])

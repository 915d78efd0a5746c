"""The simulated world: exposures, and beside them the truth that no model sees."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from hisac_lab.base.artifacts import load_array
from hisac_lab.config.events import PrepareConfig
from hisac_lab.tables.columns import logged_role
from hisac_lab.tables.layouts.contract import LogColumn, RawLog, Vectors
from hisac_lab.tables.read import Block, Column, read
from hisac_lab.world import scene
from hisac_lab.world.records import Simulated

LOGGED, TRUE = ("position", "propensity"), ("probability", "probability_recent")
ANYWHERE = tuple(f"{name}_anywhere" for name in TRUE)
VECTOR_ROWS = 1 << 16


def world(folder: Path, config: PrepareConfig) -> RawLog:
    """Reads `events/part-*.parquet` and, row by row beside them, `truth/part-*.parquet`.

    The two `..._anywhere` are the true probabilities without the position's share: what counts for a model that is not
    told the position. Where the world has scenes, their hashed columns are there too.
    """
    facts = Simulated.open(folder)
    examined = np.asarray(facts.examined)
    columns = {
        "user": Column("user", "id"),
        "item": Column("item", "id"),
        "time": Column("time", "time"),
        "label": Column("click", "number", low=0, high=1),
        **{logged_role(name): Column(name, "number") for name in LOGGED},
    }
    rich = scene.COLUMNS if facts.rich else ()
    columns |= {logged_role(name): Column(name, "number", low=0, high=scene.CODES - 1) for name in rich}
    truth = {name: Column(name, "number", low=0, high=1) for name in TRUE}

    def blocks() -> Iterator[Block]:
        for path in sorted((folder / "events").iterdir()):
            beside = read(folder / "truth" / path.name, truth, None)
            for seen, hidden in zip(read(path, columns, None), beside, strict=True):
                looked = examined[seen.columns[logged_role("position")].astype(np.int64)]
                anywhere = {f"{name}_anywhere": hidden.columns[name] / looked for name in TRUE}
                yield replace(seen, columns=seen.columns | hidden.columns | anywhere)

    def items() -> pd.DataFrame:
        table = pd.read_parquet(folder / "items.parquet")
        return table.astype({"item": str})

    def vectors() -> Vectors:
        table = load_array(folder, "vectors")
        ids = items()["item"].tolist()
        for begin in range(0, len(table), VECTOR_ROWS):
            yield ids[begin : begin + VECTOR_ROWS], np.asarray(table[begin : begin + VECTOR_ROWS])

    fields = [name for name in items().columns if name not in ("item", "text")]
    return RawLog(
        blocks,
        items=items,
        fields=tuple(fields),
        vectors=vectors,
        extras=(*TRUE, *ANYWHERE),
        logged=dict.fromkeys(LOGGED, LogColumn()) | dict.fromkeys(rich, LogColumn(scene.CODES)),
        positive_from=1.0,
        complete=True,
    )

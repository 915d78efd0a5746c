"""KuaiRand (Pure, 1K, 27K): exposures of short videos, those by the usual policy and those at random.

Provenance: file names and columns of the logs from the published README; columns of the video features verified on the
file of Pure. https://kuairand.com
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd

from hisac_lab.base.errors import UserError
from hisac_lab.config.events import PrepareConfig
from hisac_lab.tables.layouts.contract import RawLog
from hisac_lab.tables.layouts.files import choose, choose_tasks, frame_of
from hisac_lab.tables.read import Block, Column, Layout, read

FEEDBACK = ("is_click", "long_view", "is_like", "is_follow", "is_comment", "is_forward", "is_hate", "is_profile_enter")
FEATURES = {
    "author": "author_id",
    "tag": "tag",
    "kind": "video_type",
    "upload": "upload_type",
    "music": "music_type",
}
UNKNOWN = "unknown"


def kuairand(folder: Path, config: PrepareConfig) -> RawLog:
    """Reads `log_standard_*`, `log_random_*` and `video_features_basic_*`; a random exposure has the flag `random`.

    The statistics files are not read: they count what happened after the requests too.
    """
    kind = choose(config, FEEDBACK)
    logs = [*sorted(folder.glob("log_standard_*")), *sorted(folder.glob("log_random_*"))]
    features = sorted(folder.glob("video_features_basic_*"))
    if not logs:
        raise UserError(folder / "log_standard_*.csv", "does not exist", "add the logs to what acquire.path names")
    columns = {
        "user": Column("user_id", "id"),
        "item": Column("video_id", "id"),
        "time": Column("time_ms", "time", "milliseconds"),
        "label": Column(kind, "number", low=0, high=1),
        "random": Column("is_rand", "number", low=0, high=1),
    }
    tasks = choose_tasks(config, FEEDBACK)
    columns |= tasks

    def blocks() -> Iterator[Block]:
        for path in logs:
            for block in read(path, columns, Layout()):
                yield replace(block, columns=block.columns | {"random": block.columns["random"] == 1})

    def items() -> pd.DataFrame:
        wanted = {"item": Column("video_id", "id")}
        wanted |= {name: Column(column, "text") for name, column in FEATURES.items()}
        table = pd.concat([frame_of(read(path, wanted, Layout())) for path in features], ignore_index=True)
        tags = table["tag"].str.split(",")
        for name in FEATURES:  # pandas wrote the publisher's missing integers as floats
            table[name] = table[name].str.strip().str.removesuffix(".0").replace("", UNKNOWN)
        table["tag"] = tags.str[0].str.strip().replace("", UNKNOWN)
        words = tags.map(lambda each: " ".join(f"tag {tag.strip()}" for tag in each if tag.strip()))
        text = words + " " + table["kind"] + " " + table["upload"] + " music " + table["music"]
        table.insert(1, "text", (text + " author " + table["author"]).str.strip())
        return table

    return RawLog(
        blocks,
        items=items if features else None,
        fields=tuple(FEATURES) if features else (),
        extras=tuple(tasks),
        positive_from=1.0,
    )

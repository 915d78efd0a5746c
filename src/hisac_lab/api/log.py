"""A raw log: a data set by name, a file, or a table in memory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hisac_lab.api.data import Data
from hisac_lab.api.settings import settings
from hisac_lab.api.workspace import Workspace
from hisac_lab.base.artifacts import files_below, sha256_file
from hisac_lab.base.errors import UserError
from hisac_lab.config.acquire import AcquireConfig
from hisac_lab.config.events import ColumnsConfig, PrepareConfig
from hisac_lab.events.ingest import ingest
from hisac_lab.events.prepare import prepare
from hisac_lab.events.shard import shard
from hisac_lab.sources.acquire import acquire
from hisac_lab.sources.records import Acquired

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".csv", ".tsv", ".parquet", ".gz", ".zst", ".bz2", ".xz", ".npy", ".zip")


@dataclass(frozen=True)
class Log:
    """A raw log, as it came.

    Attributes:
        workspace: Where outputs go.
        path: Output of the stage `acquire`.
        columns: What the columns of an own log are called.
    """

    workspace: Workspace
    path: Path
    columns: dict[str, Any]

    def prepare(self, **changes: Any) -> Data:
        """Makes histories, requests and samples, split in time.

        Args:
            changes: Settings of the section `prepare` that differ from the defaults, as `history_limit=10_000`.

        Raises:
            UserError: A setting or the log is wrong; the message names the setting, or the file and line.
        """
        if self.columns:
            changes = {"columns": self.columns, **changes}
        config = settings(PrepareConfig, changes, "prepare")
        key = [config.model_dump(mode="json"), Acquired.open(self.path).facts()]
        make = self.workspace.make
        ingested = make("ingest", key, lambda out: ingest(config, raw=self.path, out=out))
        shards = [make("shard", [key, index], partial(_shard, config, ingested, index)) for index in config.shards]
        build = partial(_prepare, config, ingested, shards)
        return Data(self.workspace, make("prepare", key, build))

    def __repr__(self) -> str:
        return f"Log({Acquired.open(self.path).dataset})"


def load(
    source: str | Path | pd.DataFrame,
    *,
    items: str | Path | pd.DataFrame | None = None,
    users: str | Path | pd.DataFrame | None = None,
    vectors: str | Path | None = None,
    folder: str | Path | None = None,
    columns: dict[str, Any] | None = None,
    **changes: Any,
) -> Log:
    """Opens a log.

    Args:
        source: Name of a data set ("movielens-100k", "world", ...), a file or folder of tables, or a table.
        items: Table of the items with their text, a file or in memory.
        users: Table of the users, whose columns `columns` names as user_fields and user_numbers.
        vectors: File of item vectors, .npy, one row per row of `items`.
        folder: Where outputs are kept; None: nowhere, they go with the objects.
        columns: What the columns are called where they are not user_id, item_id, timestamp, rating, title: settings of
            the section `prepare.columns`, as `{"user": "visitor", "label": None}`.
        changes: Further settings of the section `acquire`, as `path` for the official files of a public data set.

    Raises:
        UserError: A setting is wrong, or there is no such data set or file.
    """
    workspace = Workspace(folder)
    if isinstance(source, str) and not _names_a_file(source):
        named_settings: dict[str, Any] = {"dataset": source}
    else:
        named_settings = {"dataset": "own", "path": str(_file(workspace, "log", source))}
    if items is not None:
        named_settings["items_path"] = str(_file(workspace, "items", items))
    if users is not None:
        named_settings["users_path"] = str(_file(workspace, "users", users))
    if vectors is not None:
        named_settings["vectors_path"] = str(vectors)
    config = settings(AcquireConfig, {**named_settings, **changes}, "load")
    named = columns if columns is not None else {}
    settings(ColumnsConfig, named, "load", "columns")
    files = [
        Path(path)
        for path in (config.path, config.items_path, config.users_path, config.vectors_path)
        if path is not None
    ]
    key = [config.model_dump(mode="json"), [_contents(path) for path in files]]
    return Log(workspace, workspace.make("acquire", key, lambda out: acquire(config, out=out)), named)


def _shard(config: PrepareConfig, ingested: Path, index: int, out: Path) -> None:
    shard(config, ingested=ingested, index=index, out=out)


def _prepare(config: PrepareConfig, ingested: Path, shards: list[Path], out: Path) -> None:
    prepare(config, ingested=ingested, shards=shards, out=out)


def _names_a_file(source: str) -> bool:
    return Path(source).exists() or Path(source).suffix in SUFFIXES or "/" in source


def _file(workspace: Workspace, name: str, table: str | Path | pd.DataFrame) -> Path:
    """A table as a file; one in memory is written as Parquet."""
    if isinstance(table, str | Path):
        return Path(table)
    import pandas as pd

    if not isinstance(table, pd.DataFrame):
        raise UserError("load()", f"{name} is a {type(table).__name__}", "give a name, a path or a DataFrame", name)
    from hisac_lab.base.artifacts import write_manifest

    rows = pd.util.hash_pandas_object(table, index=False)
    key = [list(map(str, table.columns)), list(map(str, table.dtypes)), rows.to_numpy().tobytes().hex()]

    def build(out: Path) -> None:
        table.to_parquet(out / f"{name}.parquet", index=False)
        write_manifest(out, rows=len(table))

    return workspace.make("given", key, build) / f"{name}.parquet"


def _contents(path: Path) -> Any:
    """What a key holds of a file or folder; nothing of what is not there."""
    if path.is_dir():
        return {str(file.relative_to(path)): sha256_file(file) for file in files_below(path)}
    return sha256_file(path) if path.is_file() else None

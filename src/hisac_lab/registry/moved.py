"""A store whose folder was moved or copied: its addresses of files are absolute, and still name the old place.

They are set to the new one, so that runs and versions keep their files, which moved along, and nothing is written to
the old. What did not move along is mirrored anew (see `Mirror.find` and `ModelVersions.register`).
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from hisac_lab.base.progress import say
from hisac_lab.registry.versions import PROJECT

ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""Where MLflow keeps addresses of files: table and column."""
FILES, LOCAL = "/mlruns/", ("/", "file:///")


def heal(store: Path, home: Path, project: str | None) -> None:
    """Sets addresses below another folder's `mlruns` to this folder's, and says so; a store outside is left as it is.

    Args:
        store: The file of an SQLite store that MLflow can open.
        home: The project's folder, where MLflow keeps its files.
        project: The project's identity; a store that another one writes to as well is left as it is.
    """
    if not store.exists() or not store.resolve().is_relative_to(home.resolve()):
        return
    with closing(sqlite3.connect(store)) as base:
        tables = {name for (name,) in base.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if "experiments" not in tables:
            return
        if base.execute("SELECT 1 FROM tags WHERE key = ? AND value != ?", (PROJECT, project or "")).fetchone():
            return
        for old in sorted(_roots(base) - {str(home), home.as_uri()}):
            new = home.as_uri() if old.startswith("file:") else str(home)
            for table, column in ADDRESSES:
                change = f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?"
                start = old + FILES
                base.execute(change, (new, len(old) + 1, len(start), start))
            say(f"{store.name}: the project was at {old}, addresses of MLflow's files now name {home}")
        base.commit()


def _roots(base: sqlite3.Connection) -> set[str]:
    """Folders in whose `mlruns` experiments keep their files, as they do unless another place was chosen."""
    rows = base.execute("SELECT experiment_id, artifact_location FROM experiments").fetchall()
    local = [(str(location), f"{FILES}{number}") for number, location in rows if str(location).startswith(LOCAL)]
    return {location.removesuffix(end) for location, end in local if location.endswith(end)}

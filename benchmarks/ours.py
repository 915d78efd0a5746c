"""This project's preparation, stage by stage as the graph runs it, each stage measured."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml
from usage import Usage, run

SHARDS = (0, 1)


def write_params(folder: Path, **sections: dict[str, Any]) -> None:
    """Writes a params.yaml with these sections; all else is at its default."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "params.yaml").write_text(yaml.safe_dump({"compute": {}} | sections))


def stage(folder: Path, name: str, *options: str) -> Usage:
    """Runs one stage in `folder`, as dvc.yaml does.

    Raises:
        UserError: The stage refuses its input.
    """
    return run([Path(sys.executable).with_name("hisac-lab"), "stage", name, *options], folder)


def prepare(folder: Path, shards: tuple[int, ...] = SHARDS) -> dict[str, Usage]:
    """Runs what makes the event store of an acquired log: ingest, every shard, prepare; usage by stage.

    Raises:
        UserError: A stage refuses its input.
    """
    return {
        "ingest": stage(folder, "ingest"),
        **{f"shard {index}": stage(folder, "shard", "--index", str(index)) for index in shards},
        "prepare": stage(folder, "prepare"),
    }


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below `folder`."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

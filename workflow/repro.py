"""`dvc`, which reads and writes the record of one stage in dvc.lock, in place of all of them.

DVC parses the whole file for every job, and to keep the comments of a file that it changes it does so once more, by a
parser in Python: for this graph more than a second. The bytes here are those that it would write; a file that holds
more than records is left to DVC. And the file is replaced, not written in place: a kill leaves the old one.

`dvc.dvcfile.Lockfile` is no promised interface: DVC is pinned, and tests compare the bytes.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from dvc.cli import main
from dvc.dvcfile import Lockfile
from dvc.stage import PipelineStage
from dvc.stage.serialize import to_lockfile
from dvc.utils.serialize import dumps_yaml, parse_yaml
from dvc.utils.strictyaml import validate
from repair import HEAD, STAGE

from hisac_lab.base.artifacts import write_file

MORE = re.compile(r"^\S", re.MULTILINE)


def put_record(text: str, record: dict[str, Any]) -> str | None:
    """dvc.lock with the record of one stage in its old place, or at the end; None where more than records is in it.

    Args:
        text: Of the file.
        record: Name of the stage to what DVC keeps of it.
    """
    records = _records(text)
    if records is None:
        return None
    new = dumps_yaml({"stages": record}).partition("\n  ")[2]
    title = new.partition("\n")[0] + "\n"
    at = next((at for at, old in enumerate(records) if old.startswith(title)), len(records))
    records[at : at + 1] = [new]
    return HEAD + "".join(f"  {one}" for one in records)


def only(text: str, name: str) -> str | None:
    """dvc.lock with the record of one stage alone; None where it has none, or where more than records is in it."""
    found = [one for one in _records(text) or () if one.startswith(f"{name}:\n")]
    return f"{HEAD}  {found[0]}" if found else None


def _records(text: str) -> list[str] | None:
    head, body = text[: len(HEAD)], text[len(HEAD) :]
    return None if head != HEAD or MORE.search(body) else STAGE.split(body)[1:]


def load(self: Lockfile, **options: Any) -> tuple[Any, str]:
    """In place of `Lockfile._load`, where one stage alone is run: the last word of the command."""
    path = Path(self.path)
    text = only(path.read_text(), sys.argv[-1]) if path.exists() and "--single-item" in sys.argv else None
    if text is None:
        found: tuple[Any, str] = THEIR_LOAD(self, **options)
        return found
    return validate(parse_yaml(text, path), self.SCHEMA, path=str(path)), text


def dump_stages(self: Lockfile, stages: list[PipelineStage], **options: Any) -> None:
    """In place of `Lockfile.dump_stages`."""
    path = Path(self.path)
    before = after = path.read_text() if path.exists() else ""
    for stage in stages:
        put = put_record(after, to_lockfile(stage, **options))
        if put is None:
            THEIR_DUMP(self, stages, **options)
            return
        after = put
    if after != before:
        write_file(path, after)
        self.repo.scm_context.track_file(self.relpath)


THEIR_LOAD, THEIR_DUMP = Lockfile._load, Lockfile.dump_stages

if __name__ == "__main__":
    Lockfile._load, Lockfile.dump_stages = load, dump_stages
    sys.exit(main())

"""`dvc`, which puts the record of a stage in its place in dvc.lock, in place of reading and writing all of them.

To keep the comments of a file that it changes, DVC reads and writes dvc.lock by a parser in Python: for this graph more
than a second for every job. The bytes here are those that it would write; a file that holds more than records is left
to DVC. And the file is replaced, not written in place: a kill leaves the old one.

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
from dvc.utils.serialize import dumps_yaml
from repair import HEAD, STAGE

from hisac_lab.base.artifacts import write_file

MORE = re.compile(r"^\S", re.MULTILINE)


def put_record(text: str, record: dict[str, Any]) -> str | None:
    """dvc.lock with the record of one stage in its old place, or at the end; None where more than records is in it.

    Args:
        text: Of the file.
        record: Name of the stage to what DVC keeps of it.
    """
    head, body = text[: len(HEAD)], text[len(HEAD) :]
    if head != HEAD or MORE.search(body):
        return None
    _, *records = STAGE.split(body)
    new = dumps_yaml({"stages": record}).partition("\n  ")[2]
    title = new.partition("\n")[0] + "\n"
    at = next((at for at, old in enumerate(records) if old.startswith(title)), len(records))
    records[at : at + 1] = [new]
    return head + "".join(f"  {one}" for one in records)


def dump_stages(self: Lockfile, stages: list[PipelineStage], **options: Any) -> None:
    """In place of `Lockfile.dump_stages`."""
    path = Path(self.path)
    before = after = path.read_text() if path.exists() else ""
    for stage in stages:
        put = put_record(after, to_lockfile(stage, **options))
        if put is None:
            THEIRS(self, stages, **options)
            return
        after = put
    if after != before:
        write_file(path, after)
        self.repo.scm_context.track_file(self.relpath)


THEIRS = Lockfile.dump_stages

if __name__ == "__main__":
    Lockfile.dump_stages = dump_stages
    sys.exit(main())

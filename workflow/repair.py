"""What a killed DVC leaves half-written: the list of its locks and dvc.lock, which it writes in place.

Neither loss costs a computation: locks of a dead process mean nothing, and a stage that is missing from dvc.lock is
found again in DVC's run cache.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from dvc.exceptions import DvcException
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from dvc.utils.serialize import parse_yaml
from dvc.utils.strictyaml import validate

from hisac_lab.base.artifacts import write_file
from hisac_lab.base.errors import UserError

RWLOCK = Path(".dvc/tmp/rwlock")
LOCKFILE = Path("dvc.lock")
HEAD = "schema: '2.0'\nstages:\n"
STAGE = re.compile(r"^  (?=\S)", re.MULTILINE)  # where the record of a stage begins


def repair_rwlock() -> None:
    """Drops a torn list of DVC's locks; DVC reads it only when it may write it."""
    RWLOCK.unlink(missing_ok=True)


def repair_lockfile() -> None:
    """Drops the last record of a torn dvc.lock, with one line; to be called while no DVC process may write the file.

    Raises:
        UserError: The file is broken in another way (a merge, an editor); it is left as it is.
    """
    if not LOCKFILE.exists():
        return
    text = LOCKFILE.read_bytes().decode(errors="replace")
    if _is_whole(text):
        return
    starts = [match.start() for match in STAGE.finditer(text)]
    finished = text[: starts[-1]] if starts else ""
    if not (_is_dvcs(text) and (finished in ("", HEAD) or _is_whole(finished))):
        raise UserError(
            str(LOCKFILE),
            "this is not what DVC writes",
            f"fetch it back (git checkout {LOCKFILE}) or remove it: what has run is found again in DVC's cache",
        )
    if finished in ("", HEAD):
        LOCKFILE.unlink()
    else:
        write_file(LOCKFILE, finished)
    lost = text[starts[-1] :].partition(":\n")[0].strip() if starts else "every stage"
    print(
        f"hisac-lab: {LOCKFILE}: DVC was killed while it wrote it; {lost} is judged anew", file=sys.stderr, flush=True
    )


def _is_dvcs(text: str) -> bool:
    if not text.startswith(HEAD):
        return HEAD.startswith(text)
    # records are indented; a conflict of a merge, for one, is not
    return all(line[:1] in ("", " ") for line in text.removeprefix(HEAD).split("\n"))


def _is_whole(text: str) -> bool:
    try:
        validate(parse_yaml(text, LOCKFILE), COMPILED_LOCKFILE_SCHEMA, path=str(LOCKFILE))
    except DvcException:
        return False
    return True

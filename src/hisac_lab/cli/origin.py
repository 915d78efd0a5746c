"""Whether the raw log of this machine is still the one that the stage `acquire` has read.

The log is the user's: DVC does not follow it, and a folder of artifacts can be here without it. What was read is noted
in `.work` by size and time of each file, so that a start looks at no content that has not moved.
"""

from __future__ import annotations

import json
from pathlib import Path

from hisac_lab.base.artifacts import sha256_file, write_json
from hisac_lab.base.errors import UserError
from hisac_lab.cli.paths import ARTIFACTS, WORK
from hisac_lab.config.acquire import AcquireConfig
from hisac_lab.config.base import PARAMS_FILE, load_section
from hisac_lab.sources.records import Acquired
from hisac_lab.tables.files import named_by

NOTE = WORK / "origin.json"
TAKE = "`dvc repro --force --single-item acquire` takes the new one, the graph does the rest"


def note(config: AcquireConfig) -> None:
    """Remembers the log as it is; to be called when it has been read."""
    write_json(NOTE, {str(path): _stamp(path) for path in _files(config)})


def changed() -> str | None:
    """One line when the log is not the one that was read; None when it is, or is not here.

    A file of the same size and another time is read, if its content is known; so is each where nothing is noted.
    """
    try:
        config, acquired = load_section("acquire", AcquireConfig), Acquired.open(ARTIFACTS.acquire)
        stamps: dict[str, list[int]] = json.loads(NOTE.read_text()) if NOTE.is_file() else {}
    except (UserError, ValueError, OSError):  # whoever needs them says so
        return None
    files = _files(config)
    if config.dataset != "own" and not stamps:
        return None
    for path in files:
        if stamps.get(str(path)) == _stamp(path):
            continue
        if config.dataset != "own" or sha256_file(path) not in acquired.files.values():
            return f"acquire.path: {path} is not what {ARTIFACTS.acquire} was made of; {TAKE}"
    if files and (gone := set(stamps) - {str(path) for path in files}):
        return f"acquire.path: {min(gone)}, of which {ARTIFACTS.acquire} was made, is no longer there; {TAKE}"
    if files and {str(path): _stamp(path) for path in files} != stamps:
        note(config)
    return None


def appended() -> list[Path]:
    """Files of an own log that the stage `acquire` has not read; nothing is written.

    All are, where it has not run. Tables of items and users may be written anew; they are among the files.

    Raises:
        UserError: The log is no own one, or a file of it that was read was changed or is gone.
    """
    config = load_section("acquire", AcquireConfig)
    if config.dataset != "own" or config.path is None:
        what = f"is {config.dataset}: only a log of your own has days"
        raise UserError(PARAMS_FILE, what, "name a folder of it (acquire.dataset: own)", "acquire.dataset")
    files = {path: sha256_file(path) for path in _files(config)}
    read = Acquired.open(ARTIFACTS.acquire).files if (ARTIFACTS.acquire / Acquired.FILE).is_file() else {}
    lost = [name for name, digest in read.items() if name.startswith("events/") and digest not in files.values()]
    if lost:
        what = f"{Path(lost[0]).name} was read, and was changed since or is gone: days are appended, not rewritten"
        hint = "restore it, or take the log as it is now: `dvc repro --force --single-item acquire`"
        raise UserError(config.path, what, hint)
    return [path for path, digest in files.items() if digest not in read.values()]


def _stamp(path: Path) -> list[int]:
    facts = path.stat()
    return [facts.st_size, facts.st_mtime_ns]


def _files(config: AcquireConfig) -> list[Path]:
    """Every file that the settings name and that is here, sorted."""
    named = [config.path, config.items_path, config.users_path, config.vectors_path]
    files = {file for name in named if name is not None for file in named_by(Path(name))}
    return sorted(path for path in files if path.is_file())

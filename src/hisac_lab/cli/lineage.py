"""Which code and which settings the outputs that are here were made with: by git, and by dvc.lock, which ran them."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hisac_lab.base.errors import UserError
from hisac_lab.cli import settings
from hisac_lab.cli.locks import Lock
from hisac_lab.cli.params import Params, parsed, plain
from hisac_lab.cli.paths import GRAPH, LOCK
from hisac_lab.cli.reproduce import read
from hisac_lab.config.base import PARAMS_FILE
from hisac_lab.registry.origin import Change

CODE = "src"
LAST = ("register", "report")
"""While these run, dvc.lock speaks of their run before."""


def commit() -> str:
    """The commit that is checked out, with a plus sign where the code that stages ran is not all in it.

    Settings, dvc.lock and reports are no code: they change from run to run, and are kept beside a version.
    """
    head = git("rev-parse", "HEAD")
    if head is None:
        return ""
    code = _code()
    changed = git("status", "--porcelain", "--", str(GRAPH), *(code or [CODE]))
    as_they_ran = all(_md5_of(Path(path)) in ran for path, ran in code.items() if ran)
    return head.strip() + ("+" if changed or not as_they_ran else "")


def git(*words: str, where: Path | None = None) -> str | None:
    """What git prints; None when it fails, or is not here."""
    try:
        done = subprocess.run(["git", *words], cwd=where, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None


def changes(params: Params) -> dict[str, Change]:
    """Settings that differ from their defaults, as the stages ran with them; the others as params.yaml has them.

    Args:
        params: The whole file.
    """
    content: dict[str, Any] = params.model_dump(mode="json")
    for key, values in _settings().items():
        above, _, last = key.rpartition(".")
        section = _at(content, above)
        if isinstance(section, dict) and section.get(last) not in values:
            section[last] = values[-1]
    try:
        ran = parsed(content, PARAMS_FILE)
    except UserError:  # dvc.lock is of settings that this version does not know
        ran = params
    written, changed = ran.model_dump(mode="json"), dict[str, Change]()
    for key, one in settings.every(ran).items():
        if one.changed:
            sides = {} if one.value is settings.ABSENT else {"value": _at(written, key)}
            sides |= {} if one.default is settings.ABSENT else {"default": plain(one.default)}
            changed[key] = Change(**sides)
    return changed


def _lock() -> Lock:
    try:
        return read(str(LOCK))
    except UserError:  # there is none yet, or it is torn
        return {}


def _settings() -> dict[str, list[Any]]:
    """Each setting with its values in dvc.lock, which also holds instances of stages that are no more."""
    values: dict[str, list[Any]] = {}
    for stage, entry in _lock().items():
        for key, value in entry.settings.items() if stage not in LAST else ():
            values.setdefault(key, []).append(value)
    return values


def _code() -> dict[str, list[str | None]]:
    """Each file and folder of code that stages run, with its MD5's in dvc.lock; none where only the last ones do."""
    digests: dict[str, list[str | None]] = {}
    for stage, entry in _lock().items():
        for path, md5 in entry.deps.items():
            if path.startswith(f"{CODE}/"):
                digests.setdefault(path, []).extend([md5] if stage not in LAST else [])
    return digests


def _md5_of(path: Path) -> str | None:
    """Of a file or folder, as DVC writes it; None where there is none."""
    if path.is_file():
        return hashlib.md5(path.read_bytes()).hexdigest()
    if not path.is_dir():
        return None
    files = [file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    listed = [{"md5": _md5_of(file), "relpath": file.relative_to(path).as_posix()} for file in files]
    listing = json.dumps(sorted(listed, key=lambda entry: str(entry["relpath"])), sort_keys=True)
    return f"{hashlib.md5(listing.encode()).hexdigest()}.dir"


def _at(content: Any, key: str) -> Any:
    """What stands at a dotted key; None where nothing does."""
    for step in key.split(".") if key else ():
        content = content.get(step) if isinstance(content, Mapping) else None
    return content

"""Whether outputs are, byte for byte, what dvc.lock says: DVC restores from its cache without looking at content."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hisac_lab.base.errors import UserError
from hisac_lab.cli.paths import LOCK
from hisac_lab.config.base import read_yaml


def verify(stage: str | None, *, repair: bool) -> list[str]:
    """Reads the outputs that are here and compares them with dvc.lock.

    Args:
        stage: DVC's address of one stage; None: all.
        repair: Removes what is damaged, also from DVC's cache, so that the next run computes it.

    Returns:
        One line for each damaged output.

    Raises:
        UserError: There is no dvc.lock, or no such stage in it.
    """
    if not LOCK.exists():
        raise UserError(LOCK, "does not exist", "run the graph first")
    stages: dict[str, Any] = read_yaml(LOCK)["stages"]
    if stage is not None and stage not in stages:
        raise UserError(LOCK, f"knows no stage {stage!r}", "run it first")
    cache, lines = _cache(), []
    for name in stages if stage is None else [stage]:
        for out in stages[name].get("outs", []):
            path = Path(out["path"])
            wrong = [] if not path.exists() else list(_damaged(path, str(out["md5"]), cache))
            if not wrong:
                continue
            lines.append(f"{path}: {wrong[0][0]} is not what {LOCK} says of stage {name} ({len(wrong)} such files)")
            if repair:
                for _, digest in wrong:
                    _object(cache, digest).unlink(missing_ok=True)
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    return lines


def _damaged(path: Path, digest: str, cache: Path) -> Iterator[tuple[Path, str]]:
    """Files whose content is not of their digest, with the digest."""
    if not digest.endswith(".dir"):
        if _md5(path) != digest:
            yield path, digest
        return
    listing = _object(cache, digest)
    try:
        content = listing.read_bytes()
    except OSError:  # outputs without their cache cannot be told; `dvc status` says what is missing
        return
    if hashlib.md5(content).hexdigest() != digest.removesuffix(".dir"):
        yield listing, digest
        return
    for entry in json.loads(content):
        file = path / entry["relpath"]
        if file.exists() and _md5(file) != entry["md5"]:
            yield file, entry["md5"]


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _object(cache: Path, digest: str) -> Path:
    return cache / digest[:2] / digest[2:]


def _cache() -> Path:
    from dvc.repo import Repo

    with Repo() as repo:
        return Path(repo.cache.local.path)

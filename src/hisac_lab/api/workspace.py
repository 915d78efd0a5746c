"""Where the front door keeps what it makes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from hisac_lab.base.artifacts import MANIFEST, digest_of, sha256_tree, stage_output

SOURCE = Path(__file__).parents[1]


class Workspace:
    """A folder of outputs, each under the digest of what it is made of.

    Args:
        folder: Where they lie; None: a folder of its own, which goes when nothing refers to it any more.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self._kept = tempfile.TemporaryDirectory(prefix="hisac-lab-") if folder is None else None
        self.path = Path(self._kept.name if self._kept else folder or ".")

    def make(self, step: str, key: Any, build: Callable[[Path], object]) -> Path:
        """The output of a step, made unless it is there; never half of one.

        Args:
            step: What it is called.
            key: All that the output depends on but the code, as JSON has it.
            build: Writes the output into an empty folder.

        Returns:
            Its folder.
        """
        place = self.path / step / digest_of({"key": key, "code": code()})
        if not (place / MANIFEST).exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            with stage_output(place) as out:
                build(out)
        return place


@cache
def code() -> str:
    """Digest of this package's code."""
    return sha256_tree(SOURCE)

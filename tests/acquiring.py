"""What the tests of acquiring share: running the stage, and a server made of a sentence."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests

from hisac_lab.base.artifacts import read_manifest, stage_output
from hisac_lab.config.acquire import AcquireConfig
from hisac_lab.sources.acquire import acquire


def run_acquire(config: AcquireConfig, place: Path) -> dict[str, Any]:
    """Runs the stage into `place/acquire`; gives its manifest."""
    with stage_output(place / "acquire") as out:
        acquire(config, out=out)
    return read_manifest(place / "acquire")


def left_in(place: Path) -> list[str]:
    """Names of what lies in a folder."""
    return sorted(path.name for path in place.iterdir())


class Answer:
    """What `requests.get` gives: a body in blocks, broken off after `whole` of them when `trouble` is given."""

    def __init__(self, body: bytes, status: int = 200, trouble: BaseException | None = None) -> None:
        self.body, self.status, self.trouble = body, status, trouble

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *_: object) -> None: ...

    def raise_for_status(self) -> None:
        if self.status >= 400:
            raise requests.HTTPError(f"{self.status} Server Error")

    def iter_content(self, size: int) -> Iterator[bytes]:
        stream = io.BytesIO(self.body)
        while block := stream.read(size):
            yield block
            if self.trouble:
                raise self.trouble

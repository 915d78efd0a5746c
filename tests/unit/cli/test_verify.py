"""Outputs that are not what dvc.lock says are told, file by file, and removed with their cache when that is asked."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import yaml
from kit import says

from hisac_lab.cli import verify as command
from hisac_lab.cli.verify import verify

FILES = {"codes.npy": b"codes", "deep/manifest.json": b"{}"}


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder and a file as outputs, both in a cache."""
    monkeypatch.chdir(tmp_path)
    cache = tmp_path / "cache"
    monkeypatch.setattr(command, "_cache", lambda: cache)
    listing = json.dumps([{"md5": md5(content), "relpath": name} for name, content in FILES.items()]).encode()
    digests = {md5(listing) + ".dir": listing, md5(b"page"): b"page"}
    for digest, content in [*digests.items(), *((md5(content), content) for content in FILES.values())]:
        (cache / digest[:2]).mkdir(parents=True, exist_ok=True)
        (cache / digest[:2] / digest[2:]).write_bytes(content)
    for name, content in FILES.items():
        (tmp_path / "artifacts/tokenize" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "artifacts/tokenize" / name).write_bytes(content)
    (tmp_path / "report.html").write_bytes(b"page")
    folder, page = digests
    stages = {
        "tokenize": {"outs": [{"path": "artifacts/tokenize", "md5": folder}]},
        "report": {"outs": [{"path": "report.html", "md5": page}]},
    }
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))
    return cache


def test_whole_outputs_and_those_that_are_not_here_are_no_fault(cache: Path) -> None:
    assert verify(None, repair=True) == []
    Path("report.html").unlink()
    assert verify("report", repair=False) == []


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_told_and_goes_with_its_cache(cache: Path, name: str) -> None:
    Path("artifacts/tokenize", name).write_bytes(b"codez")
    (line,) = verify("tokenize", repair=False)
    assert (
        line
        == f"artifacts/tokenize: artifacts/tokenize/{name} is not what dvc.lock says of stage tokenize (1 such files)"
    )
    assert verify("report", repair=False) == []
    assert verify(None, repair=True) == [line]
    assert not Path("artifacts/tokenize").exists()
    digest = md5(FILES[name])
    assert not (cache / digest[:2] / digest[2:]).exists()
    assert Path("report.html").exists()


def test_a_damaged_file_or_listing_is_told(cache: Path) -> None:
    Path("report.html").write_bytes(b"pagf")
    assert len(verify(None, repair=False)) == 1
    (listing,) = cache.rglob("*.dir")
    listing.write_bytes(listing.read_bytes() + b" ")
    assert len(verify(None, repair=True)) == 2
    assert not listing.exists()


def test_without_a_lock_or_a_stage_it_is_one_line(cache: Path) -> None:
    with says("dvc.lock", "knows no stage 'tokens'", "run it first"):
        verify("tokens", repair=False)
    Path("dvc.lock").unlink()
    with says("dvc.lock", "does not exist", "run the graph first"):
        verify(None, repair=False)

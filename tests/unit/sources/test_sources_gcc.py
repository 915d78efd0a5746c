"""Acquiring gcc-changelog: every form of the source archive gives the same tables, and no name gets out."""

from __future__ import annotations

import hashlib
import io
import os
import re
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import requests
from acquiring import Answer, left_in, run_acquire
from kit import says

from hisac_lab.base.artifacts import sha256_file
from hisac_lab.config.acquire import AcquireConfig
from hisac_lab.sources import acquire as sources

CHANGELOGS = {
    "ChangeLog": "2022-01-02  Ada Lovelace  <ada@engine.example>\n\n\t* README: Update.\n",
    "gcc/ChangeLog": "2022-01-01  Charles Babbage  <charles@engine.example>\n\n\t* mill.c: New file.\n",
    "gcc/FSFChangeLog": "2001-01-01  Grace Hopper  <grace@navy.example>\n\n\t* old.c: New file.\n",
    "gcc/mill.c": "int main;",
}


def _tar(path: Path, files: dict[str, bytes], mode: str) -> Path:
    with tarfile.open(path, mode) as box:  # type: ignore[call-overload]
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            box.addfile(entry, io.BytesIO(content))
    return path


def _package(path: Path, data: Path) -> Path:
    """A Debian package with this data archive."""
    members = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", data.name: data.read_bytes()}
    body = b"!<arch>\n"
    for name, content in members.items():
        body += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode() + content
        body += b"\n" * (len(content) % 2)
    path.write_bytes(body)
    return path


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A source archive with two ChangeLogs; its checksums are the expected ones."""
    files = {f"gcc-12.2.0/{name}": text.encode() for name, text in CHANGELOGS.items()}
    path = _tar(tmp_path / "gcc-12.2.0.tar.xz", files, "w:xz")
    monkeypatch.setattr(sources, "GCC_SHA256", sha256_file(path))
    digest = hashlib.sha256()
    for name in ("ChangeLog", "gcc/ChangeLog"):
        digest.update(f"{name} {hashlib.sha256(CHANGELOGS[name].encode()).hexdigest()}\n".encode())
    monkeypatch.setattr(sources, "CHANGELOGS_SHA256", digest.hexdigest())
    return path


@pytest.fixture
def package(release: Path, tmp_path: Path) -> Path:
    """A Debian package that has the source archive inside."""
    inner = {
        "./usr/src/gcc-12/gcc-12.2.0-dfsg.tar.xz": release.read_bytes(),
        "./usr/src/gcc-12/gm2-20220506.tar.xz": b"not looked into",
    }
    return _package(tmp_path / "gcc-12-source_12.2.0_all.deb", _tar(tmp_path / "data.tar.xz", inner, "w:xz"))


def _gcc(*order: str, path: Path | None = None) -> AcquireConfig:
    config = AcquireConfig(dataset="gcc-changelog", path=None if path is None else str(path))
    return config.model_copy(update={"sources": order})


def test_every_form_of_the_changelogs_gives_the_same_bytes(release: Path, package: Path, tmp_path: Path) -> None:
    for name, text in CHANGELOGS.items():
        for top in ("tree", "outer/gcc-12.2.0"):
            (tmp_path / top / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / top / name).write_text(text)
    (tmp_path / "installed").mkdir()
    (tmp_path / "installed" / "gcc-12.2.0-dfsg.tar.xz").write_bytes(release.read_bytes())
    plain = _tar(tmp_path / "plain.tar.gz", {name: text.encode() for name, text in CHANGELOGS.items()}, "w:gz")
    found = [release, package, plain, *(tmp_path / name for name in ("tree", "outer", "installed"))]
    manifests = [run_acquire(_gcc("path", path=path), tmp_path) for path in found]
    assert all(manifest == manifests[0] for manifest in manifests)
    assert manifests[0]["layout"] == "gcc-changelog"
    assert manifests[0]["counts"] == {"events": 2, "users": 2, "items": 2}
    assert manifests[0]["source"]["changelogs"] == 2
    assert "any medium without royalty" in manifests[0]["source"]["license"]
    assert left_in(tmp_path / "acquire") == ["events.parquet", "items.parquet", "manifest.json"]


def test_no_name_and_no_address_reaches_the_output(release: Path, tmp_path: Path) -> None:
    run_acquire(_gcc("path", path=release), tmp_path)
    everything = b"".join(path.read_bytes() for path in (tmp_path / "acquire").iterdir())
    for word in (b"Lovelace", b"Babbage", b"@engine"):
        assert word not in everything


def test_the_release_is_downloaded_from_the_first_server_that_answers(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def get(url: str, **_: Any) -> Answer:
        asked.append(url)
        return Answer(release.read_bytes() if len(asked) > 1 else b"<html>sign in</html>")

    monkeypatch.setattr(requests, "get", get)
    assert run_acquire(_gcc("archive"), tmp_path)["counts"]["events"] == 2
    assert asked == list(sources.GCC_URLS)


def test_an_address_of_your_own_is_asked_instead(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = "https://mirror.example/gcc-12.2.0.tar.xz"
    pages = {mirror: Answer(release.read_bytes())}
    monkeypatch.setattr(requests, "get", lambda url, **_: pages[url])
    config = _gcc("archive").model_copy(update={"archive_url": mirror})
    assert run_acquire(config, tmp_path)["counts"]["events"] == 2


def test_debians_package_serves(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = []

    def run(command: list[str], cwd: Path, **_: Any) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        (cwd / package.name).write_bytes(package.read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    assert run_acquire(_gcc("wheel", "package"), tmp_path)["counts"]["events"] == 2
    assert commands == [["apt-get", "download", "--quiet=2", "gcc-12-source"]]


def test_without_apt_the_package_is_no_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        raise FileNotFoundError(command[0])

    monkeypatch.setattr(subprocess, "run", run)
    with says(
        "acquire.sources", "package: apt-get download gcc-12-source failed", "not installed", "gcc-12.2.0.tar.xz"
    ):
        run_acquire(_gcc("package"), tmp_path)


def test_another_release_serves_as_path_only(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sources, "CHANGELOGS_SHA256", "of the real one")
    monkeypatch.setattr(requests, "get", lambda url, **_: Answer(release.read_bytes()))
    with says("acquire.sources", "archive: its ChangeLogs are not those of GCC 12.2.0"):
        run_acquire(_gcc("archive"), tmp_path)
    run_acquire(_gcc("path", path=release), tmp_path)
    assert "not the ChangeLogs of GCC 12.2.0" in capsys.readouterr().err


def test_sources_without_changelogs_are_told(tmp_path: Path) -> None:
    other = _tar(tmp_path / "other.tar.gz", {"ChangeLog": b"2022-01-01  A\n"}, "w:gz")
    with says("acquire.sources", "path: no ChangeLogs of GCC in it"):
        run_acquire(_gcc("path", path=other), tmp_path)


GCC = os.environ.get("HISAC_LAB_GCC", "")


@pytest.mark.skipif(not GCC, reason="HISAC_LAB_GCC names no source archive of GCC 12.2.0")
def test_the_real_changelogs_give_the_published_benchmark(tmp_path: Path) -> None:
    manifest = run_acquire(_gcc("path", path=Path(GCC)), tmp_path)
    assert manifest["source"]["sha256"] == sources.CHANGELOGS_SHA256
    for name, published in {"events": 653_090, "users": 2_513, "items": 121_914}.items():
        assert abs(manifest["counts"][name] / published - 1) <= 0.005
    events, items = (pd.read_parquet(tmp_path / "acquire" / f"{name}.parquet") for name in ("events", "items"))
    assert events["timestamp"].is_unique
    assert set(events["action"]) == {"new", "remove", "rename", "modify"}
    address = re.compile(r"[\w.%+!-]+@[\w-]")
    assert not events["text"].str.contains(address).any()
    assert not items["path"].str.contains("@").any()

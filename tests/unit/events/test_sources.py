"""Acquiring: sources are tried in order, and only bytes with the right checksum become an input."""

from __future__ import annotations

import io
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import requests
from kit import HEADER, says
from tiny import write_atomic, write_movielens

from hisac_lab.base.artifacts import read_manifest, sha256_file, stage_output
from hisac_lab.config.events import AcquireConfig
from hisac_lab.events import sources

Source = Literal["path", "archive", "wheel"]


def _run(config: AcquireConfig, place: Path) -> dict[str, Any]:
    with stage_output(place / "acquire") as out:
        sources.acquire(config, out)
    return read_manifest(place / "acquire")


def _config(*order: Source, path: Path | None = None) -> AcquireConfig:
    return AcquireConfig(sources=order, path=None if path is None else str(path))


def _left(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A folder with a log in the official layout."""
    write_movielens(tmp_path / "log")
    return tmp_path / "log"


@pytest.fixture
def archive(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The log as GroupLens packs it; its checksum is the expected one."""
    path = tmp_path / "ml-100k.zip"
    with zipfile.ZipFile(path, "w") as box:
        for name in ("u.data", "u.item"):
            box.write(log / name, f"ml-100k/{name}")
        box.writestr("ml-100k/README", "not wanted")
    monkeypatch.setattr(sources, "ARCHIVE_SHA256", sha256_file(path))
    return path


class _Answer:
    """What `requests.get` gives: a body in blocks, broken off after `whole` of them when `trouble` is given."""

    def __init__(self, body: bytes, status: int = 200, trouble: BaseException | None = None) -> None:
        self.body, self.status, self.trouble = body, status, trouble

    def __enter__(self) -> _Answer:
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


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], list[str]]:
    """Lets `requests.get` answer with what is given; returns the addresses asked for."""

    def start(answer: _Answer | Exception) -> list[str]:
        asked: list[str] = []

        def get(url: str, **options: Any) -> _Answer:
            asked.append(url)
            assert options == {"stream": True, "timeout": AcquireConfig().timeout_seconds}
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(requests, "get", get)
        return asked

    return start


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[list[str]]]:
    """Lets `pip download` put down a wheel or fail; returns the commands run."""

    def start(wheel: Path | None = None, words: str = "") -> list[list[str]]:
        commands: list[list[str]] = []

        def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
            commands.append(command)
            if wheel:
                (Path(command[-1]) / "recbole.whl").write_bytes(wheel.read_bytes())
            return subprocess.CompletedProcess(command, 0 if wheel else 1, "", words)

        monkeypatch.setattr(subprocess, "run", run)
        return commands

    return start


def test_a_folder_serves_as_path(log: Path, tmp_path: Path) -> None:
    manifest = _run(_config("path", path=log), tmp_path)
    assert manifest["layout"] == "movielens-official"
    assert manifest["files"] == {name: sha256_file(log / name) for name in ("u.data", "u.item")}
    assert _left(tmp_path / "acquire") == ["manifest.json", "u.data", "u.item"]


def test_an_unpacked_archive_serves_with_its_own_folder(log: Path, tmp_path: Path) -> None:
    (tmp_path / "outer").mkdir()
    log.rename(tmp_path / "outer" / "ml-100k")
    assert _run(_config("path", path=tmp_path / "outer"), tmp_path)["layout"] == "movielens-official"


def test_the_atomic_layout_serves_as_path(tmp_path: Path) -> None:
    write_atomic(tmp_path / "log")
    assert _run(_config("path", path=tmp_path / "log"), tmp_path)["layout"] == "recbole-atomic"


def test_an_archive_with_the_right_checksum_serves(archive: Path, log: Path, tmp_path: Path) -> None:
    assert _run(_config("path", path=archive), tmp_path)["layout"] == "movielens-official"
    assert (tmp_path / "acquire" / "u.data").read_bytes() == (log / "u.data").read_bytes()
    assert _left(tmp_path / "acquire") == ["manifest.json", "u.data", "u.item"]


def test_a_tampered_archive_never_becomes_input(archive: Path, tmp_path: Path) -> None:
    body = bytearray(archive.read_bytes())
    body[100] ^= 1
    archive.write_bytes(body)
    with says("params.yaml", "acquire.sources", "path: ml-100k.zip has sha256", "expected", "put ml-100k.zip"):
        _run(_config("path", path=archive), tmp_path)
    assert not (tmp_path / "acquire").exists()


def test_a_download_is_checked_and_unpacked(archive: Path, tmp_path: Path, serve: Callable[[Any], list[str]]) -> None:
    asked = serve(_Answer(archive.read_bytes()))
    assert _run(_config("archive"), tmp_path)["layout"] == "movielens-official"
    assert asked == [AcquireConfig().archive_url]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (requests.ConnectionError("no route"), "does not answer (ConnectionError)"),
        (requests.Timeout("silence"), "does not answer (Timeout)"),
        (_Answer(b"", 503), "does not answer (HTTPError)"),
        (_Answer(b"<html>sign in</html>"), "has sha256"),
        (_Answer(b""), "has sha256"),
        (_Answer(b"0" * (1 << 17), trouble=requests.ConnectionError("cut")), "does not answer (ConnectionError)"),
        (_Answer(b"0" * (1 << 17), trouble=requests.exceptions.ChunkedEncodingError()), "(ChunkedEncodingError)"),
    ],
    ids=["unreachable", "silent", "down", "portal page", "empty", "interrupted", "cut off"],
)
def test_a_download_that_fails_leaves_nothing(
    tmp_path: Path, serve: Callable[[Any], list[str]], answer: Any, words: str
) -> None:
    serve(answer)
    with says("params.yaml", "acquire.sources", words):
        _run(_config("archive"), tmp_path)
    assert _left(tmp_path) == []


def test_a_download_broken_off_by_hand_leaves_nothing(tmp_path: Path, serve: Callable[[Any], list[str]]) -> None:
    serve(_Answer(b"0" * (1 << 17), trouble=KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        _run(_config("archive"), tmp_path)
    assert _left(tmp_path) == []


def test_a_wheel_with_the_right_checksum_serves(
    tmp_path: Path, pip: Callable[..., list[list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_atomic(tmp_path / "log")
    wheel = tmp_path / "any.whl"
    with zipfile.ZipFile(wheel, "w") as box:
        for name in ("ml-100k.inter", "ml-100k.item"):
            box.write(tmp_path / "log" / name, f"recbole/dataset_example/ml-100k/{name}")
    monkeypatch.setattr(sources, "WHEEL_SHA256", sha256_file(wheel))
    commands = pip(wheel)
    assert _run(_config("wheel"), tmp_path)["layout"] == "recbole-atomic"
    assert "recbole==1.2.1" in commands[0]
    assert "--no-deps" in commands[0]


def test_a_wheel_with_another_checksum_is_refused(
    archive: Path, tmp_path: Path, pip: Callable[..., list[list[str]]]
) -> None:
    pip(archive)
    with says("acquire.sources", "wheel: recbole.whl has sha256"):
        _run(_config("wheel"), tmp_path)
    assert not (tmp_path / "acquire").exists()


def test_the_refusal_of_pip_is_passed_on(tmp_path: Path, pip: Callable[..., list[list[str]]]) -> None:
    pip(words="WARNING: retrying\nERROR: No matching distribution found\n")
    with says("acquire.sources", "wheel: pip download", "ERROR: No matching distribution found"):
        _run(_config("wheel"), tmp_path)


def test_sources_are_tried_in_the_order_given_and_no_further_than_needed(
    archive: Path,
    log: Path,
    tmp_path: Path,
    serve: Callable[[Any], list[str]],
    pip: Callable[..., list[list[str]]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    commands = pip(words="ERROR: none")
    asked = serve(requests.ConnectionError())
    _run(_config("wheel", "archive", "path", path=log), tmp_path)
    said = [line.split(":")[1].split()[0] for line in capsys.readouterr().err.splitlines()]
    assert said == ["wheel", "archive", "movielens-100k"]
    assert (len(commands), len(asked)) == (1, 1)
    _run(_config("path", "archive", "wheel", path=log), tmp_path)
    assert (len(commands), len(asked)) == (1, 1)


def test_an_unset_path_falls_through_to_the_next_source(
    archive: Path, tmp_path: Path, serve: Callable[[Any], list[str]]
) -> None:
    asked = serve(_Answer(archive.read_bytes()))
    _run(_config("path", "archive"), tmp_path)
    assert len(asked) == 1


def test_when_no_source_serves_all_refusals_are_told(
    tmp_path: Path, serve: Callable[[Any], list[str]], pip: Callable[..., list[list[str]]]
) -> None:
    serve(requests.Timeout())
    pip(words="ERROR: none")
    with says("acquire.sources", "path: acquire.path is null", "archive: https", "wheel: pip", "acquire.path"):
        _run(AcquireConfig(), tmp_path)
    assert _left(tmp_path) == []


def test_a_folder_without_the_files_says_what_is_expected(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    with says("acquire.sources", "no u.data+u.item or ml-100k.inter+ml-100k.item"):
        _run(_config("path", path=tmp_path / "log"), tmp_path)


def test_an_empty_file_in_a_folder_is_refused(log: Path, tmp_path: Path) -> None:
    (log / "u.data").write_bytes(b"")
    with says("u.data", "is empty"):
        _run(_config("path", path=log), tmp_path)


def test_a_path_that_does_not_exist_is_an_error_not_a_fallback(tmp_path: Path) -> None:
    with says("params.yaml", "acquire.path", "nowhere", "does not exist"):
        _run(_config("path", "wheel", path=tmp_path / "nowhere"), tmp_path)


def _own(tmp_path: Path, name: str = "log.csv", content: str = HEADER + "u,a,4,1\n", items: str | None = None) -> None:
    (tmp_path / name).write_text(content)
    config = AcquireConfig(dataset="csv", path=str(tmp_path / name), items_path=items and str(tmp_path / items))
    _run(config, tmp_path)


@pytest.mark.parametrize(
    ("name", "kept"), [("my.csv", "events.csv"), ("a.tsv", "events.tsv"), ("b.csv.gz", "events.csv.gz")]
)
def test_an_own_log_is_copied_and_keeps_its_suffix(tmp_path: Path, name: str, kept: str) -> None:
    _own(tmp_path, name)
    assert _left(tmp_path / "acquire") == [kept, "manifest.json"]
    assert read_manifest(tmp_path / "acquire")["layout"] == "csv"


def test_an_own_item_table_comes_along(tmp_path: Path) -> None:
    (tmp_path / "titles.csv").write_text("item_id,title\na,Red\n")
    _own(tmp_path, items="titles.csv")
    assert _left(tmp_path / "acquire") == ["events.csv", "items.csv", "manifest.json"]


def test_bad_paths_of_an_own_log_name_the_key(tmp_path: Path) -> None:
    with says("params.yaml", "acquire.path", "is null"):
        _run(AcquireConfig(dataset="csv"), tmp_path)
    with says("params.yaml", "acquire.path", "is no file"):
        _run(AcquireConfig(dataset="csv", path=str(tmp_path)), tmp_path)
    with says("params.yaml", "acquire.items_path", "gone.csv", "is no file"):
        _own(tmp_path, items="gone.csv")
    with says("acquire.path", "is empty"):
        _own(tmp_path, content="")
    with says("params.yaml", "acquire.path", "has no suffix", ".csv"):
        _own(tmp_path, "log")
    assert not (tmp_path / "acquire").exists()

"""Acquiring: sources are tried in order, and only bytes with the right checksum become an input."""

from __future__ import annotations

import os
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import requests
from acquiring import Answer, left_in, run_acquire
from kit import HEADER, says
from tiny import write_atomic, write_movielens

from hisac_lab.base.artifacts import read_manifest, sha256_file
from hisac_lab.config.acquire import AcquireConfig
from hisac_lab.sources import acquire as sources

Source = Literal["path", "archive", "wheel"]


def _config(*order: Source, path: Path | None = None) -> AcquireConfig:
    return AcquireConfig(sources=order, path=None if path is None else str(path))


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


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], list[str]]:
    """Lets `requests.get` answer with what is given; returns the addresses asked for."""

    def start(answer: Answer | Exception) -> list[str]:
        asked: list[str] = []

        def get(url: str, **options: Any) -> Answer:
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

        def run(command: list[str], cwd: Path, **_: Any) -> subprocess.CompletedProcess[str]:
            commands.append(command)
            if wheel:
                (cwd / command[-1] / "recbole.whl").write_bytes(wheel.read_bytes())
            return subprocess.CompletedProcess(command, 0 if wheel else 1, "", words)

        monkeypatch.setattr(subprocess, "run", run)
        return commands

    return start


def test_a_folder_serves_as_path(log: Path, tmp_path: Path) -> None:
    manifest = run_acquire(_config("path", path=log), tmp_path)
    assert manifest["layout"] == "movielens-official"
    assert manifest["files"] == {name: sha256_file(log / name) for name in ("u.data", "u.item")}
    assert left_in(tmp_path / "acquire") == ["manifest.json", "u.data", "u.item"]


def test_an_unpacked_archive_serves_with_its_own_folder(log: Path, tmp_path: Path) -> None:
    (tmp_path / "outer").mkdir()
    log.rename(tmp_path / "outer" / "ml-100k")
    assert run_acquire(_config("path", path=tmp_path / "outer"), tmp_path)["layout"] == "movielens-official"


def test_the_atomic_layout_serves_as_path(tmp_path: Path) -> None:
    write_atomic(tmp_path / "log")
    assert run_acquire(_config("path", path=tmp_path / "log"), tmp_path)["layout"] == "recbole-atomic"


def test_an_archive_with_the_right_checksum_serves(archive: Path, log: Path, tmp_path: Path) -> None:
    assert run_acquire(_config("path", path=archive), tmp_path)["layout"] == "movielens-official"
    assert (tmp_path / "acquire" / "u.data").read_bytes() == (log / "u.data").read_bytes()
    assert left_in(tmp_path / "acquire") == ["manifest.json", "u.data", "u.item"]


def test_a_tampered_archive_never_becomes_input(archive: Path, tmp_path: Path) -> None:
    body = bytearray(archive.read_bytes())
    body[100] ^= 1
    archive.write_bytes(body)
    with says("settings", "acquire.sources", "path: ml-100k.zip has sha256", "expected", "put ml-100k.zip"):
        run_acquire(_config("path", path=archive), tmp_path)
    assert not (tmp_path / "acquire").exists()


def test_a_download_is_checked_and_unpacked(archive: Path, tmp_path: Path, serve: Callable[[Any], list[str]]) -> None:
    asked = serve(Answer(archive.read_bytes()))
    assert run_acquire(_config("archive"), tmp_path)["layout"] == "movielens-official"
    assert asked == [sources.MOVIELENS_URL]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (requests.ConnectionError("no route"), "does not answer (ConnectionError)"),
        (requests.Timeout("silence"), "does not answer (Timeout)"),
        (Answer(b"", 503), "does not answer (HTTPError)"),
        (Answer(b"<html>sign in</html>"), "has sha256"),
        (Answer(b""), "has sha256"),
        (Answer(b"0" * (1 << 17), trouble=requests.ConnectionError("cut")), "does not answer (ConnectionError)"),
        (Answer(b"0" * (1 << 17), trouble=requests.exceptions.ChunkedEncodingError()), "(ChunkedEncodingError)"),
    ],
    ids=["unreachable", "silent", "down", "portal page", "empty", "interrupted", "cut off"],
)
def test_a_download_that_fails_leaves_nothing(
    tmp_path: Path, serve: Callable[[Any], list[str]], answer: Any, words: str
) -> None:
    serve(answer)
    with says("settings", "acquire.sources", words):
        run_acquire(_config("archive"), tmp_path)
    assert left_in(tmp_path) == []


def test_a_download_broken_off_by_hand_leaves_nothing(tmp_path: Path, serve: Callable[[Any], list[str]]) -> None:
    serve(Answer(b"0" * (1 << 17), trouble=KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        run_acquire(_config("archive"), tmp_path)
    assert left_in(tmp_path) == []


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
    assert run_acquire(_config("wheel"), tmp_path)["layout"] == "recbole-atomic"
    assert "recbole==1.2.1" in commands[0]
    assert "--no-deps" in commands[0]


def test_a_wheel_with_another_checksum_is_refused(
    archive: Path, tmp_path: Path, pip: Callable[..., list[list[str]]]
) -> None:
    pip(archive)
    with says("acquire.sources", "wheel: recbole.whl has sha256"):
        run_acquire(_config("wheel"), tmp_path)
    assert not (tmp_path / "acquire").exists()


def test_a_wheel_is_found_wherever_the_stage_stands(
    tmp_path: Path, pip: Callable[..., list[list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_atomic(tmp_path / "log")
    wheel = tmp_path / "any.whl"
    with zipfile.ZipFile(wheel, "w") as box:
        for name in ("ml-100k.inter", "ml-100k.item"):
            box.write(tmp_path / "log" / name, name)
    monkeypatch.setattr(sources, "WHEEL_SHA256", sha256_file(wheel))
    pip(wheel)
    monkeypatch.chdir(tmp_path)
    assert run_acquire(_config("wheel"), Path("artifacts"))["layout"] == "recbole-atomic"


def test_the_refusal_of_pip_is_passed_on(tmp_path: Path, pip: Callable[..., list[list[str]]]) -> None:
    pip(words="WARNING: retrying\nERROR: No matching distribution found\n")
    with says("acquire.sources", "wheel: pip download", "ERROR: No matching distribution found"):
        run_acquire(_config("wheel"), tmp_path)


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
    run_acquire(_config("wheel", "archive", "path", path=log), tmp_path)
    said = [line.split(":")[1].split()[0] for line in capsys.readouterr().err.splitlines()]
    assert said == ["pip", "wheel", "fetching", "archive", "movielens-100k"]
    assert (len(commands), len(asked)) == (1, 1)
    run_acquire(_config("path", "archive", "wheel", path=log), tmp_path)
    assert (len(commands), len(asked)) == (1, 1)


def test_an_unset_path_falls_through_to_the_next_source(
    archive: Path, tmp_path: Path, serve: Callable[[Any], list[str]]
) -> None:
    asked = serve(Answer(archive.read_bytes()))
    run_acquire(_config("path", "archive"), tmp_path)
    assert len(asked) == 1


def test_when_no_source_serves_all_refusals_are_told(
    tmp_path: Path, serve: Callable[[Any], list[str]], pip: Callable[..., list[list[str]]]
) -> None:
    serve(requests.Timeout())
    pip(words="ERROR: none")
    with says("acquire.sources", "path: acquire.path is null", "archive: https", "wheel: pip", "acquire.path"):
        run_acquire(AcquireConfig(), tmp_path)
    assert left_in(tmp_path) == []


def test_a_folder_without_the_files_says_what_is_expected(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    with says("acquire.sources", "no u.data+u.item or ml-100k.inter+ml-100k.item"):
        run_acquire(_config("path", path=tmp_path / "log"), tmp_path)


def test_an_empty_file_in_a_folder_is_refused(log: Path, tmp_path: Path) -> None:
    (log / "u.data").write_bytes(b"")
    with says("u.data", "is empty"):
        run_acquire(_config("path", path=log), tmp_path)


def test_a_path_that_does_not_exist_is_an_error_not_a_fallback(tmp_path: Path) -> None:
    with says("settings", "acquire.path", "nowhere", "does not exist"):
        run_acquire(_config("path", "wheel", path=tmp_path / "nowhere"), tmp_path)


def _own(tmp_path: Path, name: str = "log.csv", content: str = HEADER + "u,a,4,1\n", **more: Any) -> None:
    (tmp_path / name).write_text(content)
    run_acquire(AcquireConfig(dataset="own", path=str(tmp_path / name), **more), tmp_path)


@pytest.mark.parametrize("name", ["my.csv", "a.tsv", "b.csv.gz", "c.parquet", "d.csv.zst"])
def test_an_own_log_is_copied_under_its_name(tmp_path: Path, name: str) -> None:
    _own(tmp_path, name)
    assert left_in(tmp_path / "acquire" / "events") == [name]
    manifest = read_manifest(tmp_path / "acquire")
    assert (manifest["dataset"], manifest["layout"]) == ("own", "own")
    assert manifest["files"] == {f"events/{name}": sha256_file(tmp_path / name)}


@pytest.mark.parametrize("pattern", ["", "2026-*/part.csv"])
def test_many_files_are_taken_in_the_order_of_their_paths(tmp_path: Path, pattern: str) -> None:
    for month in ("2026-02", "2026-01"):
        (tmp_path / "logs" / month).mkdir(parents=True)
        (tmp_path / "logs" / month / "part.csv").write_text(f"{HEADER}{month},a,4,1\n")
    (tmp_path / "logs" / "README.md").write_text("not wanted")
    run_acquire(AcquireConfig(dataset="own", path=str(tmp_path / "logs" / pattern)), tmp_path)
    taken = tmp_path / "acquire" / "events"
    assert left_in(taken) == ["0000-part.csv", "0001-part.csv"]
    assert "2026-01" in (taken / "0000-part.csv").read_text()


def test_an_own_item_table_and_vectors_come_along(tmp_path: Path) -> None:
    (tmp_path / "titles.csv.gz").write_bytes(b"any")
    (tmp_path / "any.npy").write_bytes(b"any")
    _own(tmp_path, items_path=str(tmp_path / "titles.csv.gz"), vectors_path=str(tmp_path / "any.npy"))
    assert left_in(tmp_path / "acquire") == ["events", "items.csv.gz", "manifest.json", "vectors.npy"]


def test_an_own_table_of_users_is_copied_and_digested(tmp_path: Path) -> None:
    for name in ("people.csv", "people.tsv.gz"):
        (tmp_path / name).write_text("user_id,age\nu,30\n")
        _own(tmp_path, users_path=str(tmp_path / name))
        taken = name.replace("people", "users")
        assert (tmp_path / "acquire" / taken).read_bytes() == (tmp_path / name).read_bytes()
        assert read_manifest(tmp_path / "acquire")["files"][taken] == sha256_file(tmp_path / name)


@pytest.mark.parametrize("layout", ["movielens-official", "recbole-atomic"])
def test_movielens_brings_its_table_of_users_where_it_is_there(tmp_path: Path, log: Path, layout: str) -> None:
    if layout == "recbole-atomic":
        log = tmp_path / "atomic"
        write_atomic(log)
    assert set(run_acquire(_config("path", path=log), tmp_path)["files"]) == set(sources.LAYOUTS[layout])
    name = sources.PEOPLE[layout]
    (log / name).write_text("1|24|M|technician|85711\n")
    manifest = run_acquire(_config("path", path=log), tmp_path)
    assert manifest["layout"] == layout
    assert manifest["files"][name] == sha256_file(log / name)
    (log / name).write_text("")
    with says(str(log), name, "is empty"):
        run_acquire(_config("path", path=log), tmp_path)


def test_bad_paths_of_an_own_log_name_the_key(tmp_path: Path) -> None:
    with says("settings", "acquire.path", "is null"):
        run_acquire(AcquireConfig(dataset="own"), tmp_path)
    with says("settings", "acquire.path", "gone.csv", "is no file"):
        run_acquire(AcquireConfig(dataset="own", path=str(tmp_path / "gone.csv")), tmp_path)
    with says("settings", "acquire.path", "names no table"):
        run_acquire(AcquireConfig(dataset="own", path=str(tmp_path)), tmp_path)
    with says("settings", "acquire.path", "names no table"):
        run_acquire(AcquireConfig(dataset="own", path=str(tmp_path / "*.csv")), tmp_path)
    with says("settings", "acquire.items_path", "gone.csv", "is no file"):
        _own(tmp_path, items_path=str(tmp_path / "gone.csv"))
    with says("settings", "acquire.items_path", "is no file"):
        _own(tmp_path, items_path=str(tmp_path))
    with says("settings", "acquire.users_path", "gone.csv", "is no file"):
        _own(tmp_path, users_path=str(tmp_path / "gone.csv"))
    with says("settings", "acquire.vectors_path", "is no .npy file"):
        _own(tmp_path, vectors_path=str(tmp_path / "log.csv"))
    with says("acquire.path", "is empty"):
        _own(tmp_path, content="")
    with says("settings", "acquire.path", "has no suffix", ".csv"):
        _own(tmp_path, "log")
    assert not (tmp_path / "acquire").exists()


def test_published_files_come_out_of_an_archive_without_their_folders(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "ml-32m.zip", "w") as box:
        for name in ("ratings.csv", "movies.csv", "links.csv", "README.txt"):
            box.writestr(f"ml-32m/{name}", name)
    manifest = run_acquire(AcquireConfig(dataset="movielens", path=str(tmp_path / "ml-32m.zip")), tmp_path)
    assert manifest["layout"] == "movielens"
    assert left_in(tmp_path / "acquire") == ["manifest.json", "movies.csv", "ratings.csv"]
    assert (tmp_path / "acquire" / "movies.csv").read_text() == "movies.csv"


@pytest.mark.parametrize("name", ["UserBehavior.csv", "UserBehavior.csv.gz"])
def test_a_published_file_alone_serves(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"any")
    run_acquire(AcquireConfig(dataset="taobao-userbehavior", path=str(tmp_path / name)), tmp_path)
    assert (tmp_path / "acquire" / name).read_bytes() == b"any"


def test_a_published_set_says_what_it_misses(tmp_path: Path) -> None:
    with says("settings", "acquire.path", "is null", "kuairand does not bring itself"):
        run_acquire(AcquireConfig(dataset="kuairand"), tmp_path)
    with says("settings", "acquire.path", "nowhere", "does not exist"):
        run_acquire(AcquireConfig(dataset="kuairand", path=str(tmp_path / "nowhere")), tmp_path)
    (tmp_path / "data").mkdir()
    with says("data", "acquire.path", "holds no file of kuairand", "log_standard_*.csv"):
        run_acquire(AcquireConfig(dataset="kuairand", path=str(tmp_path / "data")), tmp_path)
    for edition in ("50m", "500m", "sequential"):
        (tmp_path / "yambda" / edition).mkdir(parents=True)
        (tmp_path / "yambda" / edition / "multi_event.parquet").write_bytes(b"any")
    with says("yambda", "multi_event.parquet twice (500m/multi_event.parquet and 50m/multi_event.parquet)"):
        run_acquire(AcquireConfig(dataset="yambda", path=str(tmp_path / "yambda")), tmp_path)
    assert left_in(tmp_path) == ["data", "yambda"]


def test_a_data_set_is_not_read_from_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "out").mkdir()
    with says("pipe", "acquire.path", "is a pipe or a device"):
        sources.acquire(AcquireConfig(dataset="gcc-changelog", path=str(tmp_path / "pipe")), out=tmp_path / "out")

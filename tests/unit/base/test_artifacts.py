"""Artifacts: whole or not there at all, and the same bytes for the same value."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kit import BACKBONE, MODELS, make_items, says

from hisac_lab.base import artifacts
from hisac_lab.inference.bundle import save_model
from hisac_lab.models.catalog import build


class _Break(Exception):
    pass


def _fail(
    path: Path, trouble: BaseException | type[BaseException], write: Callable[[Path], object] | None = None
) -> None:
    with artifacts.stage_output(path) as out:
        (out / "file").write_text("half")
        if write:
            write(out)
        raise trouble


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def test_a_stage_that_ends_well_leaves_its_directory_and_nothing_else(tmp_path: Path) -> None:
    with artifacts.stage_output(tmp_path / "deep" / "stage") as out:
        (out / "a").write_text("1")
        assert not (tmp_path / "deep" / "stage").exists()
    assert _names(tmp_path) == ["a", "deep", "stage"]


def test_a_stage_replaces_all_of_its_old_content(tmp_path: Path) -> None:
    for name in ("old", "new"):
        with artifacts.stage_output(tmp_path / "stage") as out:
            (out / name).write_text(name)
    assert _names(tmp_path) == ["new", "stage"]


@pytest.mark.parametrize("trouble", [_Break, KeyboardInterrupt, SystemExit])
def test_a_stage_that_fails_leaves_nothing(tmp_path: Path, trouble: type[BaseException]) -> None:
    with pytest.raises(trouble):
        _fail(tmp_path / "stage", trouble)
    assert _names(tmp_path) == []


def test_old_content_survives_a_failure(tmp_path: Path) -> None:
    with artifacts.stage_output(tmp_path / "stage") as out:
        (out / "file").write_text("old")
    with pytest.raises(_Break):
        _fail(tmp_path / "stage", _Break)
    assert _names(tmp_path) == ["file", "stage"]
    assert (tmp_path / "stage" / "file").read_text() == "old"


def test_a_draft_left_by_a_kill_is_swept_away(tmp_path: Path) -> None:
    draft = tmp_path / ".stage.tmp"
    draft.mkdir()
    (draft / "half").write_text("half")
    with artifacts.stage_output(tmp_path / "stage") as out:
        (out / "whole").write_text("whole")
    assert _names(tmp_path) == ["stage", "whole"]


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "folder" / "file"
    artifacts.write_file(path, "old")

    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with says(str(path), "no space left", "free some space"):
        artifacts.write_file(path, "new")
    assert path.read_text() == "old"
    assert _names(tmp_path) == ["file", "folder"]


def test_whoever_reads_the_old_file_still_has_it_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    artifacts.write_file(path, "old")
    with path.open() as reader:
        artifacts.write_file(path, "new")
        assert reader.read() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_in_a_stage_names_the_place(tmp_path: Path, number: int) -> None:
    with says(str(tmp_path / "stage"), "no space left"):
        _fail(tmp_path / "stage", OSError(number, os.strerror(number)))
    assert _names(tmp_path) == []


def _model(out: Path) -> None:
    items = make_items()
    save_model(out, build(MODELS["hisac"], BACKBONE, items, 0), MODELS["hisac"], items)


def _many(out: Path) -> None:
    for number in range(40):
        artifacts.save_arrays(out, {f"a{number}": np.zeros(1000)})


def _ballast_and_model(out: Path) -> None:
    (out / "ballast").write_bytes(b"0" * 50_000)
    _model(out)


WRITERS: dict[str, Callable[[Path], object]] = {
    "a large array": lambda out: artifacts.save_arrays(out, {"big": np.zeros(100_000)}),
    "many arrays": _many,
    "parquet": lambda out: pd.DataFrame({"a": np.random.default_rng(0).random(100_000)}).to_parquet(out / "t.parquet"),
    "csv": lambda out: pd.DataFrame({"a": np.random.default_rng(0).random(100_000)}).to_csv(out / "t.csv"),
    "json": lambda out: artifacts.write_json(out / "a.json", list(range(100_000))),
    "a model": _ballast_and_model,
}


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file system of 64 KiB."""
    place = tmp_path_factory.mktemp("disk")
    options = ["-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(["mount", *options], capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a small file system")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("kind", WRITERS)
def test_a_full_disk_leaves_nothing_and_says_so(small_disk: Path, kind: str) -> None:
    with says(str(small_disk), "no space left"):
        _fail(small_disk / "stage", AssertionError("it fitted"), WRITERS[kind])
    assert _names(small_disk) == []


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "there"), "permission denied"),
        (FileNotFoundError(errno.ENOENT, "No such file", "there"), "does not exist"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "there"), "Is a directory"),
    ],
)
def test_trouble_with_a_file_names_that_file(tmp_path: Path, trouble: OSError, words: str) -> None:
    with says("there", words):
        _fail(tmp_path / "stage", trouble)


def test_json_is_the_same_bytes_for_the_same_value() -> None:
    one = artifacts.dump_json({"b": [1, 2.5], "a": {"é": None, "c": True}})
    assert one == artifacts.dump_json({"a": {"c": True, "é": None}, "b": [1, 2.5]})
    assert one == '{\n  "a": {\n    "c": true,\n    "é": null\n  },\n  "b": [\n    1,\n    2.5\n  ]\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        artifacts.dump_json({"a": float("nan")})


def test_digests_follow_the_value_not_the_order_of_keys() -> None:
    assert artifacts.digest_of({"a": 1, "b": 2}) == artifacts.digest_of({"b": 2, "a": 1})
    assert artifacts.digest_of({"a": 1}) != artifacts.digest_of({"a": 2})


def test_what_was_written_as_json_is_read_back(tmp_path: Path) -> None:
    artifacts.write_manifest(tmp_path, b=1, a=[True, "x"])
    assert artifacts.read_manifest(tmp_path) == {"arithmetic": "portable", "a": [True, "x"], "b": 1}


@pytest.mark.parametrize(("content", "words"), [(None, "does not exist"), ("{", "is not JSON"), ("", "is not JSON")])
def test_a_missing_or_broken_manifest_says_which_and_what_to_do(
    tmp_path: Path, content: str | None, words: str
) -> None:
    if content is not None:
        (tmp_path / "manifest.json").write_text(content)
    with says(str(tmp_path / "manifest.json"), words, "the stage that makes it"):
        artifacts.read_manifest(tmp_path)


def test_arrays_come_back_read_only_and_equal(tmp_path: Path) -> None:
    arrays: dict[str, np.ndarray] = {"a": np.arange(6).reshape(2, 3), "empty": np.zeros((0, 2), np.int32)}
    artifacts.save_arrays(tmp_path, arrays)
    for name, array in arrays.items():
        found = artifacts.load_array(tmp_path, name)
        np.testing.assert_array_equal(found, array)
        assert found.dtype == array.dtype
    with pytest.raises(ValueError, match="read-only"):
        artifacts.load_array(tmp_path, "a")[0, 0] = 1
    with says("missing.npy", "does not exist"):
        artifacts.load_array(tmp_path, "missing")


def test_a_copy_has_the_content_and_no_marks_of_an_engine(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    (one / "sub").mkdir(parents=True)
    for name in ("a", "sub/b", "left", artifacts.MARK, f"sub/{artifacts.MARK}"):
        (one / name).touch()
    two.mkdir()
    artifacts.copy_tree(one, two, "lef*")
    assert sorted(path.relative_to(two).as_posix() for path in two.rglob("*") if path.is_file()) == ["a", "sub/b"]
    assert artifacts.files_below(two) == [two / "a", two / "sub/b"]


def test_a_tree_has_the_digest_of_its_names_and_contents_alone(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder / "sub").mkdir(parents=True)
        (tmp_path / folder / "a.py").write_text("a")
        (tmp_path / folder / "sub" / "b.py").write_text("b")
    one, two = tmp_path / "one", tmp_path / "two"
    (two / "__pycache__").mkdir()
    (two / "__pycache__" / "a.cpython-311.pyc").write_bytes(b"compiled")
    (two / ".snakemake_timestamp").touch()
    assert artifacts.sha256_tree(one) == artifacts.sha256_tree(two)
    before = artifacts.sha256_tree(two)
    (two / "a.py").rename(two / "c.py")
    assert artifacts.sha256_tree(two) != before
    (two / "c.py").rename(two / "a.py")
    (two / "a.py").write_text("A")
    assert artifacts.sha256_tree(two) != before


def test_the_digest_of_a_file_is_its_sha256(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert artifacts.sha256_file(tmp_path / "file") == digest

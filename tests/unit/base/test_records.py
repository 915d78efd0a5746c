"""Records: the same bytes as a manifest of a mapping, and one line for what is not as it should be."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest
from kit import says
from pydantic import Field

from hisac_lab.base.artifacts import MANIFEST, write_json, write_manifest
from hisac_lab.base.errors import UserError
from hisac_lab.base.records import Output, Record, Stored


class _Part(Record):
    first: int = Field(alias="from")
    share: float | None = None


class _Made(Output):
    count: int
    parts: dict[str, _Part]
    nothing: float | None


FACTS = {"count": 3, "parts": {"a": {"from": 1}, "b": {"from": 2, "share": None}}, "nothing": None, "more": [1.0, 1]}


def test_a_record_is_written_as_its_mapping_is(tmp_path: Path) -> None:
    for name in ("mapping", "record", "again"):
        (tmp_path / name).mkdir()
    write_manifest(tmp_path / "mapping", **FACTS)
    _Made.of(FACTS, "here").save(tmp_path / "record")
    _Made.open(tmp_path / "record").save(tmp_path / "again")
    texts = {(tmp_path / name / MANIFEST).read_bytes() for name in ("mapping", "record", "again")}
    assert len(texts) == 1


def test_a_record_is_frozen_and_keeps_what_it_does_not_name(tmp_path: Path) -> None:
    write_manifest(tmp_path, **FACTS)
    made = _Made.open(tmp_path)
    assert made.arithmetic == "portable"
    assert made.parts["b"].first == 2
    assert made.facts() == FACTS | {"arithmetic": "portable"}
    with pytest.raises(ValueError, match="frozen"):
        made.count = 4  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"count": "many"}, "count"), ({"parts": {"a": {}}}, "parts.a.from"), ({"nothing": "x"}, "nothing")],
)
def test_a_wrong_or_missing_key_is_one_line(tmp_path: Path, changes: dict[str, object], field: str) -> None:
    write_manifest(tmp_path, **(FACTS | changes))
    with says(f"{MANIFEST}: {field}: ", "run the stage that makes it again"):
        _Made.open(tmp_path)


def test_a_manifest_without_its_arithmetic_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / MANIFEST, FACTS)
    with pytest.raises(UserError, match="arithmetic: field required"):
        _Made.open(tmp_path)


def test_a_stage_that_has_not_run_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        _Made.open(tmp_path)


def test_a_number_that_is_not_finite_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not finite"):
        _Made.of(FACTS | {"nothing": float("nan")}, "here").save(tmp_path)


class _Chosen(Stored):
    FILE: ClassVar[str] = "chosen.json"

    model: str
    seed: int | None = None


def test_a_record_beside_the_manifest_has_a_file_of_its_own(tmp_path: Path) -> None:
    _Chosen(model="a").save(tmp_path)
    assert (tmp_path / "chosen.json").read_text() == '{\n  "model": "a"\n}\n'
    assert _Chosen.open(tmp_path) == _Chosen(model="a")
    with says("chosen.json", "does not exist"):
        _Chosen.open(tmp_path / "nowhere")


def test_a_list_and_lines_of_records_are_read_one_by_one(tmp_path: Path) -> None:
    records = (_Chosen(model="a", seed=1), _Chosen(model="b"))
    _Chosen.write_list(tmp_path / "list.json", records)
    assert _Chosen.read_list(tmp_path / "list.json") == records
    (tmp_path / "lines.jsonl").write_text('{"model": "a", "seed": 1}\n{"model": "b"}\n')
    assert _Chosen.read_lines(tmp_path / "lines.jsonl") == records


@pytest.mark.parametrize(
    ("text", "words"),
    [('{"model": 1}\n', ("model: ", "string")), ("{\n", ("is not JSON lines",)), (None, ("not exist",))],
)
def test_lines_that_are_no_records_are_one_line(tmp_path: Path, text: str | None, words: tuple[str, ...]) -> None:
    if text is not None:
        (tmp_path / "lines.jsonl").write_text(text)
    with says("lines.jsonl", *words):
        _Chosen.read_lines(tmp_path / "lines.jsonl")

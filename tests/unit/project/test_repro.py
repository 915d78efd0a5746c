"""workflow/repro.py: the record of a stage in dvc.lock, as DVC reads it, in the bytes that it would write."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from dvc.utils.serialize import dumps_yaml, modify_yaml, parse_yaml

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "workflow"))
from repro import only, put_record  # noqa: E402


def record(md5: str) -> dict[str, object]:
    """What DVC notes of a stage, long lines and text of several lines among it."""
    return {
        "cmd": "hisac-lab stage train " + "--word " * 40,
        "deps": [{"path": f"src/{one}", "hash": "md5", "md5": md5 * 16, "size": 12} for one in range(3)],
        "params": {"params.yaml": {"section": {"text": "two\n  lines: é # no\n", "empty": "", "list": [1, None, 0.1]}}},
        "outs": [{"path": "artifacts/out", "hash": "md5", "md5": md5 * 16 + ".dir", "size": 1, "nfiles": 2}],
    }


STAGES = ["acquire", "shard@0", "train@din_50-0", "train@din_50-0-1", "report"]
WHOLE = dumps_yaml({"schema": "2.0", "stages": {name: record("0a") for name in STAGES}})


@pytest.mark.parametrize("name", [*STAGES, "train@din_50", "123", "new"])
def test_a_record_is_put_where_dvc_puts_it_to_the_byte(name: str, tmp_path: Path) -> None:
    lock = tmp_path / "dvc.lock"
    lock.write_text(WHOLE)
    with modify_yaml(str(lock)) as data:
        data["stages"].update({name: record("1b")})
    ours = put_record(WHOLE, {name: record("1b")})
    assert ours == lock.read_text()
    assert ours != WHOLE


@pytest.mark.parametrize(
    "text", ["", "schema: '2.0'\n", WHOLE + "datasets: []\n", f"# mine\n{WHOLE}", WHOLE + "<<<<<<"]
)
def test_a_file_that_holds_more_than_records_is_left_to_dvc(text: str) -> None:
    assert put_record(text, {"report": record("1b")}) is None
    assert only(text, "report") is None


@pytest.mark.parametrize("name", STAGES)
def test_a_record_is_read_alone_as_in_the_whole_file(name: str) -> None:
    text = only(WHOLE, name)
    assert text is not None
    whole = parse_yaml(WHOLE, "dvc.lock")
    assert parse_yaml(text, "dvc.lock") == {**whole, "stages": {name: whole["stages"][name]}}


@pytest.mark.parametrize("name", ["new", "train@din_50", "123", "code --force"])
def test_a_stage_without_a_record_is_left_to_dvc(name: str) -> None:
    assert only(WHOLE, name) is None

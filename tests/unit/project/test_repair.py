"""workflow/repair.py: a dvc.lock that a kill tore, wherever it was torn."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from dvc.utils.serialize import dumps_yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from hisac_lab.base.errors import UserError

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "workflow"))
from repair import HEAD, repair_lockfile  # noqa: E402


def record(name: str) -> dict[str, object]:
    """What DVC notes of a stage, with values that are hard to cut: digits, long lines, several lines."""
    return {
        "cmd": f"hisac-lab stage {name} " + "--word " * 40,
        "deps": [{"path": f"src/{one}", "hash": "md5", "md5": "1234567890" * 3, "size": 12} for one in range(20)],
        "params": {"params.yaml": {"section": {"text": "two\n  lines: é\n", "empty": "", "list": [1, None, True]}}},
        "outs": [{"path": f"artifacts/{name}", "hash": "md5", "md5": "0a" * 16 + ".dir", "size": 1, "nfiles": 2}],
    }


STAGES = ["acquire", "prepare", "train@din_50-0", "train@hisac-0", "report"]
WHOLE = dumps_yaml({"schema": "2.0", "stages": {name: record(name) for name in STAGES}})


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "dvc.lock"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(st.integers(0, len(WHOLE)))
@example(0)
@example(len("schema: '2.0'"))
@example(len("schema: '2.0'\nsta"))
@example(len(HEAD))
@example(len(HEAD) + 1)
@example(len(HEAD) + 20)
@example(8192)
@example(len(WHOLE))
def test_a_torn_lock_keeps_every_whole_record(lock: Path, cut: int) -> None:
    lock.write_text(WHOLE[:cut])
    repair_lockfile()
    kept = lock.read_text() if lock.exists() else HEAD
    assert WHOLE.startswith(kept)
    lost = WHOLE[len(kept) : cut]
    assert len([line for line in lost.split("\n") if line[:2] == "  " and line[2:3].strip()]) <= 1
    stages = YAML(typ="safe").load(kept).get("stages") or {}  # DVC takes a head without stages
    assert all("cmd" in stage for stage in stages.values())
    repair_lockfile()  # a second time there is nothing to repair
    assert (lock.read_text() if lock.exists() else HEAD) == kept


def test_what_is_dropped_is_named(lock: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock.write_text(WHOLE[: WHOLE.index("  prepare:\n") + len("  prepare:\n    cm")])
    repair_lockfile()
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "hisac-lab: dvc.lock: DVC was killed while it wrote it; prepare is judged anew"
    assert not list(lock.parent.glob(".*"))


@pytest.mark.parametrize(
    "broken",
    [
        WHOLE + "<<<<<<< HEAD\n",
        WHOLE.replace("    cmd:", "    command:", 1),
        WHOLE.replace("schema: '2.0'", "schema: '9.0'"),
        "\x00" * 40,
        "notes: []\n",
        "  a note",
    ],
    ids=["a merge", "a field", "a schema", "zeros", "another file", "a note"],
)
def test_what_a_kill_cannot_leave_is_left_as_it_is(lock: Path, broken: str) -> None:
    lock.write_text(broken)
    with pytest.raises(UserError, match=r"^dvc.lock: .*git checkout dvc.lock"):
        repair_lockfile()
    assert lock.read_text() == broken


def test_no_lock_is_no_trouble(lock: Path) -> None:
    repair_lockfile()
    assert not lock.exists()

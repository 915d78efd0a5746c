"""A raw log that is replaced in place is told, with the command that takes the new one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hisac_lab.base.artifacts import stage_output
from hisac_lab.cli import origin
from hisac_lab.cli.params import defaults
from hisac_lab.cli.paths import ARTIFACTS
from hisac_lab.config.acquire import AcquireConfig
from hisac_lab.sources.acquire import acquire

ROWS = "user_id,item_id,timestamp\nu,a,1\nu,b,2\n"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AcquireConfig:
    """A folder with a log that has been read."""
    monkeypatch.chdir(tmp_path)
    Path("log").mkdir()
    Path("log/one.csv").write_text(ROWS)
    Path("log/two.csv").write_text(ROWS.replace("a", "c"))
    text = defaults().replace("dataset: movielens-100k", "dataset: own").replace("  path:  #", "  path: log  #", 1)
    Path("params.yaml").write_text(text)
    config = AcquireConfig(dataset="own", path="log")
    with stage_output(ARTIFACTS.acquire) as out:
        acquire(config, out=out)
    origin.note(config)
    return config


def test_a_log_as_it_was_read_is_not_mentioned(config: AcquireConfig) -> None:
    assert origin.changed() is None


@pytest.mark.parametrize("text", [ROWS.replace("b", "d"), ROWS + "u,e,3\n"], ids=["same size", "longer"])
@pytest.mark.parametrize("noted", [True, False])
def test_a_replaced_log_is_told_with_the_way_to_take_it(config: AcquireConfig, text: str, noted: bool) -> None:
    Path("log/two.csv").write_text(text)
    if not noted:
        origin.NOTE.unlink()
    line = origin.changed()
    assert line is not None
    assert "log/two.csv is not what artifacts/acquire was made of" in line
    assert "dvc repro --force --single-item acquire" in line


def test_a_touched_or_copied_log_of_the_same_content_is_read_once(config: AcquireConfig) -> None:
    os.utime("log/one.csv", (1, 1))
    before = origin.NOTE.read_text()
    assert origin.changed() is None
    assert origin.NOTE.read_text() != before
    assert origin.changed() is None


def test_a_new_or_lost_file_is_told(config: AcquireConfig) -> None:
    Path("log/three.csv").write_text(ROWS + "u,z,9\n")
    assert "log/three.csv is not what" in str(origin.changed())
    Path("log/three.csv").unlink()
    Path("log/two.csv").unlink()
    assert "log/two.csv, of which artifacts/acquire was made, is no longer there" in str(origin.changed())


def test_artifacts_without_their_log_are_no_fault(config: AcquireConfig) -> None:
    Path("log").rename("elsewhere")
    assert origin.changed() is None
    origin.NOTE.unlink()
    assert origin.changed() is None

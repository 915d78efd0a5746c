"""Two runs side by side: what differs is told, and numbers of different protocols share no table."""

from __future__ import annotations

from pathlib import Path

import pytest
from finished import edit, make

from hisac_lab.base.stages import Artifacts
from hisac_lab.config.promotion import PromotionConfig
from hisac_lab.report.against import Side, sections
from hisac_lab.report.collect import collect
from hisac_lab.report.document import Note, Section, Table


@pytest.fixture
def other(tmp_path: Path) -> Artifacts:
    """Another run, which a test may change."""
    return make(tmp_path / "other")


def _sections(this: Artifacts, that: Artifacts, **settings: str) -> dict[str, Section]:
    ours = Side("this run", collect(this, PromotionConfig()), {"train.epochs": "3", "train.seed": "0"})
    theirs = Side("that run", collect(that, PromotionConfig()), settings)
    return {part.key: part for part in sections(ours, theirs)}


def _tables(section: Section) -> list[Table]:
    return [block for block in section.blocks if isinstance(block, Table)]


def test_only_settings_that_differ_are_listed(inputs: Artifacts, other: Artifacts) -> None:
    found = _sections(inputs, other, **{"train.epochs": "5", "train.seed": "0"})["settings"]
    (only,) = _tables(found)
    assert [[cell.text for cell in row] for row in only.rows] == [["`train.epochs`", "3", "5"]]
    equal = _sections(inputs, other, **{"train.epochs": "3", "train.seed": "0"})["settings"]
    assert equal.blocks == (Note("All 2 settings are equal."),)
    assert _sections(inputs, other)["settings"].blocks == (Note("No params.yaml stands beside that run."),)


def test_runs_of_one_protocol_share_a_table(inputs: Artifacts, other: Artifacts) -> None:
    aucs = _tables(_sections(inputs, other)["results"])[0]
    assert aucs.columns == ("model", "this run", "that run", "difference")
    assert [row[0].text for row in aucs.rows] == ["base", "new"]
    assert aucs.rows[1][1].text == "0.7100"


def test_runs_of_different_protocols_never_share_a_table_of_results(inputs: Artifacts, other: Artifacts) -> None:
    edit(other.evaluate / "manifest.json", fingerprint="another")
    found = _sections(inputs, other)["results"]
    assert isinstance(found.blocks[0], Note)
    assert "another: their numbers are not comparable" in found.blocks[0].text
    for each in _tables(found):
        assert not {"this run", "that run"} & set(each.columns)


def test_tests_of_different_kinds_never_share_a_table_of_lifts(inputs: Artifacts, other: Artifacts) -> None:
    assert len(_tables(_sections(inputs, other)["abtest"])) == 1
    edit(other.abtest / "manifest.json", test_fingerprint="another")
    assert len(_tables(_sections(inputs, other)["abtest"])) == 2


def test_what_differs_in_the_data_is_strong(inputs: Artifacts, other: Artifacts) -> None:
    edit(other.prepare / "manifest.json", events=99)
    (facts,) = _tables(_sections(inputs, other)["data"])
    assert [row[0].text for row in facts.rows if row[2].strong] == ["events"]

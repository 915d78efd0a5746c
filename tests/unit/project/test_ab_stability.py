"""The benchmark of verdicts: what is repeated, and how many agree."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from clicking import by_phase
from finished import AA, ab_result, make
from kit import says
from scripts import load

from hisac_lab.abtest import ground, people
from hisac_lab.abtest.people import Log
from hisac_lab.abtest.records import ABTests
from hisac_lab.config.abtest import ABTestConfig, Family
from hisac_lab.events.store import EventStore

CONFIG = ABTestConfig(visits=2, pool=20, slate=5)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load("ab_stability", monkeypatch)


def told(script: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch, *verdicts: str) -> list[ABTestConfig]:
    """The settings of all repetitions, which have these verdicts in turn."""
    (folder / "params.yaml").write_text("abtest:\n  control: popularity\n")
    asked, given = list[ABTestConfig](), cycle(verdicts)

    def tested(_: Path, config: ABTestConfig) -> ABTests:
        asked.append(config)
        found = {"new": ab_result(0.01, next(given))}
        return ABTests.of(
            {"control": config.control, "evidence": "fitted", "checks": (), "tests": found, "aa": AA, "seeds": {}}
            | {"margin": 0.005, "caveat": "none"},
            folder,
        )

    monkeypatch.setattr(script, "_tested", tested)
    make(folder / "artifacts")
    return asked


def test_the_share_counts_the_commonest_verdict_of_repetitions_that_have_one(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = told(script, tmp_path, monkeypatch, "better", "better", "undecided", "no verdict", "better")
    lines, share = script.stability([tmp_path])
    assert len(asked) == 2 * (6 + 4 + 5)
    assert {config.control for config in asked} == {"popularity", "base"}
    assert len({(config.seed, config.split_salt) for config in asked}) == 6 + 4
    assert share == pytest.approx(9 / 12)
    assert sum("9 better, 3 undecided, 3 no verdict" in line and "| 9 of 12 |" in line for line in lines) == 2
    assert lines[-1] == "Of 24 repetitions with a verdict 75.0% have the commonest (wanted: 95%)."


def test_projects_without_any_verdict_have_no_share(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(script, tmp_path, monkeypatch, "no verdict")
    with says("--stability", "no repetition has a verdict"):
        script.stability([tmp_path])


def test_all_folders_are_looked_at_before_the_first_test(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(tmp_path / "made").root.parent
    asked = told(script, made, monkeypatch, "better")
    with says("manifest.json", "does not exist"):
        script.stability([made, tmp_path / "absent"])
    assert not asked


def test_other_pools_are_drawn_for_the_stage_alone(script: ModuleType, store: EventStore) -> None:
    log = Log.of(store)

    def pools() -> Any:
        return people.asked_about(store, log, CONFIG, True)[1]

    own = pools()
    for seed, same in ((None, True), (CONFIG.seed, True), (100, False)):
        with script._other_pools(seed):
            assert np.array_equal(pools(), own) == same
    np.testing.assert_array_equal(pools(), own)


def test_worlds_are_fitted_once_for_each_family_and_seed(script: ModuleType) -> None:
    made, nodes = by_phase(each=15, users=20, phase=5)
    small = CONFIG.model_copy(update={"world_dim": 2, "world_penalties": (8.0,), "world_trees": 2})
    asked: list[tuple[Family, int]] = [("factors", 0), ("trees", 0), ("factors", 1), ("factors", 0), ("trees", 0)]
    fit = ground.fit
    with script._kept_worlds():
        worlds = [ground.fit(family, made, nodes, small.model_copy(update={"seed": seed})) for family, seed in asked]
        first, trees, other, again, more = worlds
        assert (first is again, trees is more, first is other) == (True, True, False)
        assert first.refits(1, 0) is again.refits(1, 0)
        assert first.refits(1, 0) is not trees.refits(1, 0)
    assert ground.fit is fit

"""Off-policy estimates in the report: a table of their own, and no drawn test beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from finished import ab_result, build, edit

from hisac_lab.base.stages import Artifacts


def test_replay_has_its_estimates_and_nothing_of_a_simulated_test(inputs: Artifacts, tmp_path: Path) -> None:
    test = ab_result(0.012, "better")
    lift = test["lift"] | {"value": 0.02}
    replay: dict[str, Any] = {"exposures": 1234, "effective": 210.5, "effective_control": 300.0, "clipped": 0.25}
    replay |= {"lifts": {"ips": lift, "doubly_robust": test["lift"], "clusters": lift}}
    changes = {"new": test | {"draw": None, "replay": replay}}
    edit(inputs.abtest / "abtest.json", tests=changes, evidence="replay", checks=[])
    edit(inputs.abtest / "manifest.json", worlds=[])
    _, twin, _, _ = build(inputs, tmp_path)
    assert "| new | doubly robust | +1.20 % [+0.80 %, +1.60 %] | 1,234 | 210.5 | 300.0 | 25.0 % |" in twin
    assert "| new | semantic IDs as actions | +2.00 %" in twin
    assert "sample-ratio p" not in twin
    assert "It judges by clicks on logged exposures, weighted by their propensities, and all" in twin


def test_a_simulated_test_has_no_off_policy_estimates(inputs: Artifacts, tmp_path: Path) -> None:
    _, twin, _, _ = build(inputs, tmp_path)
    assert "Off-policy" not in twin
    assert "sample-ratio p" in twin

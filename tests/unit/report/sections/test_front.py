"""The Pareto front: who is on it, and who is dominated by whom."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from finished import Built, build, edit, texts
from hypothesis import given
from hypothesis import strategies as st

from hisac_lab.base.stages import Artifacts
from hisac_lab.evaluation.records import SLATE, ServingCost
from hisac_lab.report.sections.leaderboard.front import standings

POINTS = st.lists(st.tuples(st.integers(1, 6), st.integers(0, 5)), min_size=1, max_size=8)


def _facts(points: list[tuple[int, int]]) -> Any:
    models = {
        f"m{place}": SimpleNamespace(
            cost=SimpleNamespace(state_bytes=float(state)), auc=SimpleNamespace(value=auc / 10)
        )
        for place, (state, auc) in enumerate(points)
    }
    return SimpleNamespace(scores=SimpleNamespace(models=models))


def _dominates(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one[0] <= other[0] and one[1] >= other[1] and one != other


@given(POINTS)
def test_on_the_front_are_those_whom_none_dominates(points: list[tuple[int, int]]) -> None:
    found = {each.name: each.by for each in standings(_facts(points))}
    assert set(found) == {f"m{place}" for place in range(len(points))}
    for place, point in enumerate(points):
        over = [other for other in points if _dominates(other, point)]
        by = found[f"m{place}"]
        assert (by is None) == (not over)
        if by is not None:
            chosen = points[int(by[1:])]
            assert _dominates(chosen, point)
            assert chosen[1] == max(auc for _, auc in over)
            assert found[by] is None


def test_a_difference_that_is_not_shown_dominates() -> None:
    facts = _facts([(2, 7), (1, 7)])
    facts.scores.models["m0"].auc.value += 0.00001
    assert {each.name: each.by for each in standings(facts)} == {"m1": None, "m0": "m1"}


def test_the_page_has_the_front_as_table_and_chart(inputs: Artifacts, tmp_path: Path) -> None:
    _, twin, _, figures = build(inputs, tmp_path)
    assert "| base | 4,000 | 0.7000 | dominated by `new` | −0.0100 |" in twin
    assert "| new | 4,000 | 0.7100 | **on the front** |" in twin
    assert "Bytes of user state" in texts(figures["quality_and_state"])
    models = json.loads((inputs.evaluate / "metrics.json").read_text())["models"]
    models["base"]["cost"]["state_bytes"] = 100.0
    edit(inputs.evaluate / "metrics.json", models=models)
    _, twin, _, figures = build(inputs, tmp_path)
    assert "| base | 100 | 0.7000 | **on the front** |" in twin
    assert "Bytes of user state, logarithmic" in texts(figures["quality_and_state"])


def test_a_whole_request_is_one_encoding_and_all_its_candidates(built: Built) -> None:
    cost = ServingCost(state_bytes=1.0, encode_macs=250_000.0, candidate_macs=50_000.0)
    assert cost.request_macs == 250_000 + 500 * 50_000 == 25_250_000
    assert SLATE == 500
    row = next(line for line in built[1].splitlines() if line.startswith("| new | 1,234 |"))
    assert row.split(" | ")[-1].strip(" |") == "25,250,000"

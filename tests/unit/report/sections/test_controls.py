"""Controls: a page says by itself when a model that reads the item alone, or the user alone, leads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from finished import build, edit, pairs_of, scores, write_run

from hisac_lab.base.stages import Artifacts

RULE = "A board on which an item-only control leads says nothing about interests"


def _page(inputs: Artifacts, out: Path, controls: dict[str, tuple[str, float]], p: float = 0.01) -> str:
    """The page of `base` (0.70), `new` (0.71) and controls: what each reads, and its AUC."""
    models = json.loads((inputs.evaluate / "metrics.json").read_text())["models"]
    for name, (side, auc) in controls.items():
        models[name] = scores(auc, auc - 0.7) | {"control": side}
    edit(inputs.evaluate / "metrics.json", models=models, pairs=pairs_of(models, p))
    for name, (_, auc) in controls.items():
        write_run(inputs.train, name, 0, auc)
    return build(inputs, out)[1]


@pytest.mark.parametrize("auc", [0.71, 0.75])
def test_a_page_on_which_an_item_only_control_leads_says_that_it_says_nothing_about_interests(
    inputs: Artifacts, tmp_path: Path, auc: float
) -> None:
    page = _page(inputs, tmp_path, {"recency": ("item", auc)})
    assert f"`recency`, which reads nothing of the user, has an AUC of {auc:.4f} and leads. {RULE}." in page
    assert f"{RULE}: here it is `recency`." in page


def test_who_is_surely_ahead_of_the_best_control_is_named(inputs: Artifacts, tmp_path: Path) -> None:
    page = _page(inputs, tmp_path, {"recency": ("item", 0.705), "popularity": ("item", 0.6)})
    line = "`recency`, which reads nothing of the user, has an AUC of 0.7050; surely ahead of it: `new`; "
    assert f"{line}not surely ahead: `base`." in page
    assert RULE not in page


def test_a_lead_that_may_be_chance_is_not_sure(inputs: Artifacts, tmp_path: Path) -> None:
    page = _page(inputs, tmp_path, {"recency": ("item", 0.6)}, p=0.2)
    assert "0.6000; not surely ahead: `new`, `base`." in page


def test_each_side_has_its_control(inputs: Artifacts, tmp_path: Path) -> None:
    page = _page(inputs, tmp_path, {"rate": ("user", 0.8), "recency": ("item", 0.6)})
    assert "surely ahead of it: `new`, `base`" in page
    assert "`rate`, which reads nothing of the item, has an AUC of 0.8000 and leads." in page
    assert "A board on which a user-only control leads says nothing about items: here it is `rate`." in page
    assert RULE not in page


@pytest.mark.parametrize(("lift", "first"), [(0.02, True), (-0.3, False)])
def test_a_control_with_the_highest_lift_is_told_before_all_else(
    inputs: Artifacts, tmp_path: Path, lift: float, first: bool
) -> None:
    tests = json.loads((inputs.abtest / "abtest.json").read_text())["tests"]
    tests["recency"] = tests["new"] | {"lift": tests["new"]["lift"] | {"value": lift}}
    edit(inputs.abtest / "abtest.json", tests=tests)
    page = _page(inputs, tmp_path, {"recency": ("item", 0.6)})
    clause = "**`recency`, which reads nothing of the user, has the highest lift of the A/B test. `new` beats"
    assert (clause in page) == first
    assert ("highest lift of the A/B test, so lifts here say nothing about interests." in page) == first


def test_a_control_that_leads_in_auc_is_told_before_all_else(inputs: Artifacts, tmp_path: Path) -> None:
    page = _page(inputs, tmp_path, {"recency": ("item", 0.8)})
    assert "**`recency`, which reads nothing of the user, leads in AUC. " in page


def test_where_there_is_no_verdict_no_control_has_the_highest_lift(inputs: Artifacts, tmp_path: Path) -> None:
    tests = json.loads((inputs.abtest / "abtest.json").read_text())["tests"]
    tests["recency"] = tests["new"] | {"lift": tests["new"]["lift"] | {"value": 0.5}}
    checks = [{"name": "knows", "holds": False, "says": "the world knows too little"}]
    edit(inputs.abtest / "abtest.json", tests=tests, checks=checks)
    assert "highest lift" not in _page(inputs, tmp_path, {"recency": ("item", 0.6)})


def test_a_page_without_controls_says_so(inputs: Artifacts, tmp_path: Path) -> None:
    assert "No model here reads the item alone or the user alone" in build(inputs, tmp_path)[1]


def test_charts_and_pairs_by_bin_leave_controls_to_the_table(inputs: Artifacts, tmp_path: Path) -> None:
    page = _page(inputs, tmp_path, {"recency": ("item", 0.6), "rate": ("user", 0.5)})
    sliced = page.split("## History length")[1].split("## ")[0]
    chart, rest = sliced.split("Difference in AUC to the reference `base` by history length", 1)
    assert "recency" not in chart
    assert "| recency |" in rest.split("controls aside")[0]
    assert "recency −" not in rest

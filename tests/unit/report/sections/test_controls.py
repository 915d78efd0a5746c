"""Controls: a page says by itself when a model that reads the item alone, or the user alone, leads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from finished import Built, build, edit, pairs_of, scores, write_run

from hisac_lab.base.stages import Artifacts

RULE = "A board on which an item-only control leads says nothing about interests"


def _build(inputs: Artifacts, out: Path, controls: dict[str, tuple[str, float]], p: float = 0.01) -> Built:
    """The pages of `base` (0.70), `new` (0.71) and controls: what each reads, and its AUC."""
    models = json.loads((inputs.evaluate / "metrics.json").read_text())["models"]
    for name, (side, auc) in controls.items():
        models[name] = scores(auc, auc - 0.7) | {"control": side}
    edit(inputs.evaluate / "metrics.json", models=models, pairs=pairs_of(models, p))
    for name, (_, auc) in controls.items():
        write_run(inputs.train, name, 0, auc)
    return build(inputs, out)


def _page(inputs: Artifacts, out: Path, controls: dict[str, tuple[str, float]], p: float = 0.01) -> str:
    return _build(inputs, out, controls, p)[1]


@pytest.mark.parametrize("auc", [0.71, 0.75])
def test_a_page_on_which_an_item_only_control_leads_says_that_it_says_nothing_about_interests(
    inputs: Artifacts, tmp_path: Path, auc: float
) -> None:
    page = _page(inputs, tmp_path, {"recency": ("item", auc)})
    assert f"`recency`, which reads nothing of the user, has an AUC of {auc:.4f} and leads. {RULE}." in page
    assert f"{RULE}: here it is `recency`." in page


def test_who_is_surely_ahead_of_the_best_control_is_named(inputs: Artifacts, tmp_path: Path) -> None:
    page = _page(inputs, tmp_path, {"recency": ("item", 0.705), "popularity": ("item", 0.6)})
    line = "`recency`, which reads nothing of the user, has an AUC of 0.7050, inside users 0.7050 (`base`: 0.7000); "
    assert f"{line}surely ahead of it in AUC: `new`; not surely ahead: `base`." in page
    assert RULE not in page


def test_a_lead_that_may_be_chance_is_not_sure(inputs: Artifacts, tmp_path: Path) -> None:
    page = _page(inputs, tmp_path, {"recency": ("item", 0.6)}, p=0.2)
    assert "; not surely ahead: `new` and `base`." in page


def test_each_side_has_its_control(inputs: Artifacts, tmp_path: Path) -> None:
    page = _page(inputs, tmp_path, {"rate": ("user", 0.8), "recency": ("item", 0.6)})
    assert "surely ahead of it in AUC: `new` and `base`" in page
    assert "`rate`, which reads nothing of the item, has an AUC of 0.8000 and leads." in page
    assert "A board on which a user-only control leads says nothing about items: here it is `rate`." in page
    assert RULE not in page


def _tested(inputs: Artifacts, lifts: dict[str, float], **changes: Any) -> None:
    """The A/B test of `new`, whose lift over `base` is 0.015, with these beside it."""
    tests = json.loads((inputs.abtest / "abtest.json").read_text())["tests"]
    for name, lift in lifts.items():
        tests[name] = tests["new"] | {"lift": tests["new"]["lift"] | {"value": lift}}
    edit(inputs.abtest / "abtest.json", **({"tests": tests} | changes))


BY_LIFT = "By lift no model is ahead of `recency`, which reads nothing of the user."


@pytest.mark.parametrize(
    ("lifts", "first"),
    [
        ({"recency": 0.3}, True),
        ({"recency": 0.3, "new": 0.3}, True),
        ({"recency": 0.3, "new": 0.31}, False),
        ({"recency": -0.001, "new": -0.2}, False),  # the control of the test has a lift of zero, and reads both
        ({"recency": 0.3, "rate": 0.1}, True),
    ],
)
def test_a_control_with_the_highest_lift_is_told_before_all_else(
    inputs: Artifacts, tmp_path: Path, lifts: dict[str, float], first: bool
) -> None:
    _tested(inputs, lifts)
    sides = {"recency": ("item", 0.6), "rate": ("user", 0.65)}
    page = _page(inputs, tmp_path, {name: sides[name] for name in lifts if name in sides})
    assert (f"**{BY_LIFT} `new` beats" in page) == first
    assert ("By lift no model is ahead of `recency`, so lifts, and their gate, say nothing about" in page) == first


def test_a_model_of_shuffled_labels_is_no_rival_of_a_control(inputs: Artifacts, tmp_path: Path) -> None:
    _tested(inputs, {"recency": 0.3, "new": 0.4})
    models = json.loads((inputs.evaluate / "metrics.json").read_text())["models"]
    edit(inputs.evaluate / "metrics.json", models=models | {"new": models["new"] | {"labels": "shuffled"}})
    page = _page(inputs, tmp_path, {"recency": ("item", 0.705)})
    assert "**`recency`, which reads nothing of the user, leads in AUC. No model has" in page


def test_a_control_that_leads_in_both_is_named_once(inputs: Artifacts, tmp_path: Path) -> None:
    _tested(inputs, {"recency": 0.3, "rate": 0.2})
    page = _page(inputs, tmp_path, {"recency": ("item", 0.8), "rate": ("user", 0.75)})
    assert (
        "**`recency`, which reads nothing of the user, leads in AUC. No model has a higher lift either. `new`" in page
    )


def test_without_a_verdict_no_control_is_first_by_lift(inputs: Artifacts, tmp_path: Path) -> None:
    _tested(inputs, {"recency": 0.5}, checks=[{"name": "knows", "holds": False, "says": "the world knows too little"}])
    assert "By lift" not in _page(inputs, tmp_path, {"recency": ("item", 0.6)})


def test_a_lift_that_worlds_contradict_is_none(inputs: Artifacts, tmp_path: Path) -> None:
    _tested(inputs, {"recency": 0.5})
    tests = json.loads((inputs.abtest / "abtest.json").read_text())["tests"]
    tests["recency"] |= {"contradiction": "the worlds contradict each other"}
    edit(inputs.abtest / "abtest.json", tests=tests)
    assert "By lift" not in _page(inputs, tmp_path, {"recency": ("item", 0.6)})


def test_beside_its_auc_stands_that_inside_users(inputs: Artifacts, tmp_path: Path) -> None:
    page = _page(inputs, tmp_path, {"recency": ("item", 0.6)})
    assert "has an AUC of 0.6000, inside users 0.6000 (`base`: 0.7000); surely ahead of it in AUC: `new`" in page


def test_a_reference_beside_controls_alone_says_so(inputs: Artifacts, tmp_path: Path) -> None:
    models = json.loads((inputs.evaluate / "metrics.json").read_text())["models"]
    edit(inputs.evaluate / "metrics.json", models={**models, "new": models["new"] | {"control": "item"}})
    page = build(inputs, tmp_path)[1]
    assert "and nothing is beside it but controls" in page
    assert "There is nothing beside the reference but controls." in page


def test_a_page_without_controls_says_so(inputs: Artifacts, tmp_path: Path) -> None:
    assert "No model here reads the item alone or the user alone" in build(inputs, tmp_path)[1]


def test_charts_and_pairs_leave_controls_to_the_tables(inputs: Artifacts, tmp_path: Path) -> None:
    pairs = [
        {"one": "base", "other": other, "difference": 0.01, "interval": [0.0, 0.02], "p": 0.2}
        for other in ("new", "recency")
    ]
    edit(inputs.evaluate / "metrics.json", bin_pairs={"history length": {"1 to 15": pairs}})
    html, page, *_ = _build(inputs, tmp_path, {"recency": ("item", 0.6), "rate": ("user", 0.5)})
    assert html.count("Controls are in the table alone.") == 3
    chart, rest = page.split("## History length")[1].split(
        "Difference in AUC to the reference `base` by history length", 1
    )
    assert "recency" not in chart
    table, below = rest.split("Every pair of models, controls aside", 1)
    assert "| recency |" in table
    assert "new − base" in below
    assert "− recency" not in below


def test_a_control_is_not_asked_by_gates(inputs: Artifacts, tmp_path: Path) -> None:
    page = build(inputs, tmp_path)[1]
    row = next(line for line in page.splitlines() if line.startswith("| base |"))
    assert row.endswith("| – | control |")
    assert "| base | `max_auc_loss` |" not in page

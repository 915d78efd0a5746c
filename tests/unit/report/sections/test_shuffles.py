"""Shuffled controls: a page says by itself what of a gain is left when something has changed places."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from finished import build, edit, pairs_of, scores, write_run

from hisac_lab.base.stages import Artifacts

SETTINGS: dict[str, Any] = {"kind": "hisac", "ids": "own", "counts": {"kind": "votes", "ids": "own"}}


def _page(inputs: Artifacts, out: Path, models: Mapping[str, Any], p: float = 0.01) -> str:
    """The page of `base` (0.70, the reference), `new` (0.71) and others: what their scores have beside an AUC."""
    every = json.loads((inputs.evaluate / "metrics.json").read_text())["models"]
    for name, more in models.items():
        auc = more.pop("auc", 0.71)
        made = scores(auc, auc - 0.7)
        made["metrics"]["gauc"] |= more.pop("gauc", {})
        every[name] = made | more
        for seed in every[name]["seeds"] if name != "new" else ():
            write_run(inputs.train, name, int(seed), auc)
    edit(inputs.evaluate / "metrics.json", models=every, pairs=pairs_of(every, p))
    return build(inputs, out)[1]


def _shuffled(*path: str) -> dict[str, Any]:
    settings: dict[str, Any] = json.loads(json.dumps(SETTINGS))
    inner = settings["counts"] if len(path) > 1 else settings
    inner[path[-1]] = "shuffled"
    return settings


@pytest.mark.parametrize("path", [("ids",), ("counts", "ids")])
def test_a_gain_that_shuffled_ids_keep_is_named(inputs: Artifacts, tmp_path: Path, path: tuple[str, ...]) -> None:
    others = {"new": {"settings": SETTINGS}, "moved": {"settings": _shuffled(*path), "auc": 0.706}}
    page = _page(inputs, tmp_path, others)
    verdict = "keeps +0.0060 of a gain of +0.0100: that much does not come from what is shuffled"
    assert f"Shuffled: `moved` {verdict}." in page
    assert f"`moved`, the control of `new`, {verdict}." in page
    assert f"{'.'.join(path)}" in page


def test_a_gain_that_is_gone_is_no_warning(inputs: Artifacts, tmp_path: Path) -> None:
    page = _page(inputs, tmp_path, {"new": {"settings": SETTINGS}, "moved": {"settings": _shuffled("ids"), "auc": 0.7}})
    assert "`moved` has lost the gain of +0.0100." in page
    assert "the control of" not in page


def test_a_model_that_is_not_surely_ahead_has_no_gain_to_lose(inputs: Artifacts, tmp_path: Path) -> None:
    others = {"new": {"settings": SETTINGS}, "moved": {"settings": _shuffled("ids"), "auc": 0.706}}
    page = _page(inputs, tmp_path, others, p=0.2)
    assert "`moved` has nothing to lose: `new` is not surely ahead of `base`." in page


@pytest.mark.parametrize(
    ("low", "spread", "left"),
    [(0.4931, 0.001, False), (0.5, 0.001, False), (0.5012, 0.001, True), (0.5012, 0.02, False)],
)
def test_shuffled_labels_are_judged_inside_users_and_over_seeds(
    inputs: Artifacts, tmp_path: Path, low: float, spread: float, left: bool
) -> None:
    """Users' rates are the log's own, so the AUC over all users may be above chance."""
    gauc = {"value": 0.51, "interval": [low, 0.52], "seed_spread": spread}
    seeds = dict.fromkeys(("0", "1"), scores(0.6, -0.1)["seeds"]["0"])
    control = {"settings": SETTINGS, "labels": "shuffled", "auc": 0.6, "gauc": gauc, "seeds": seeds}
    page = _page(inputs, tmp_path, {"new": {"settings": SETTINGS}, "blind": control})
    found = f"an AUC inside users of 0.5100 [{low:.4f}, 0.5200]"
    assert (f"`blind` still tells a user's items apart: {found}, above chance." in page) == left
    assert (f"`blind` has lost all of it: {found}." in page) == (not left)
    assert ("`blind`, the control of `new`, still tells" in page) == left


def test_shuffled_labels_of_one_seed_are_not_judged(inputs: Artifacts, tmp_path: Path) -> None:
    control = {"settings": SETTINGS, "labels": "shuffled", "gauc": {"value": 0.8, "interval": [0.79, 0.81]}}
    page = _page(inputs, tmp_path, {"new": {"settings": SETTINGS}, "blind": control})
    assert "`blind` is of one seed, and where each falls is chance: an AUC inside users of 0.8000" in page
    assert "the control of" not in page


def test_a_control_without_its_model_says_nothing(inputs: Artifacts, tmp_path: Path) -> None:
    others = {"new": {"settings": SETTINGS | {"agents": 8}}, "moved": {"settings": _shuffled("ids")}}
    assert "Shuffled" not in _page(inputs, tmp_path, others)

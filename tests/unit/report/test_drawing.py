"""How models are told apart in charts and tables."""

from __future__ import annotations

import re

from finished import NAMES, Built, texts

from hisac_lab.report.drawing import GRAY, PALETTE


def color(page: str, name: str) -> str:
    """Of the dots of a model, the same throughout."""
    (found,) = set(re.findall(rf'background:var\(--x\w+, (#\w+)\)"></span>{name}</span>', page))
    return str(found)


def test_the_best_and_the_reference_have_colors_of_their_own(crowd: Built) -> None:
    page, *_, figures = crowd
    shown = ["base", *NAMES[-7:]]
    assert [color(page, name) for name in shown] == list(PALETTE)
    assert {color(page, name) for name in NAMES[:-7]} == {GRAY}
    for name in (
        "train_loss",
        "validation_auc",
        "calibration",
        "quality_and_cost",
        "quality_and_state",
        "offline_and_a_b",
    ):
        labels = [text for text in texts(figures[name]) if text in {*NAMES, "base", "others"}]
        assert sorted(labels) == sorted([*shown, "others"])
    assert not set(NAMES[:-7]) & set(texts(figures["auc_by_history_length"]))

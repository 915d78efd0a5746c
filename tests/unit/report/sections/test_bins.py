"""Differences by history length and item popularity: paired with the reference, and of pairs of models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from finished import Built, build, edit, metric, scores, write_run

from hisac_lab.base.stages import Artifacts
from hisac_lab.evaluation.records import ModelScores
from hisac_lab.report.sections.leaderboard.bins import change

KIND, BIN = "item popularity", "0 to 3"


def _rows(page: str, caption: str) -> list[str]:
    """Head and rows of the table with this in its caption."""
    after = page[page.index(caption) :].split("\n\n")[1].splitlines()
    return [after[0], *after[2:]]


def _model(**settings: Any) -> ModelScores:
    return ModelScores.of(scores(0.7, 0.0) | {"settings": {"kind": "toy"} | settings}, Path("metrics.json"))


def _pair(one: str, other: str, difference: float, p: float) -> dict[str, Any]:
    ends = [round(difference - 0.004, 6), round(difference + 0.002, 6)]
    return {"one": one, "other": other, "difference": difference, "interval": ends, "p": p}


def test_every_bin_has_its_difference_to_the_reference(crowd: Built) -> None:
    rows = _rows(crowd[1], "Difference in AUC to the reference `base` by history length")
    assert rows[0] == "| model | 1 to 15 | 16 to 40 | 154 to 405 |"
    assert len(rows) == 13  # the reference has none
    assert "| m00 | **+0.0100** [+0.0070, +0.0130] " in rows[-1]


def test_a_difference_whose_interval_holds_zero_is_not_bold(inputs: Artifacts, tmp_path: Path) -> None:
    models = json.loads((inputs.evaluate / "metrics.json").read_text())["models"]
    models["new"]["slices"][KIND][BIN] = metric(0.7, 0.002)
    edit(inputs.evaluate / "metrics.json", models=models)
    rows = _rows(build(inputs, tmp_path)[1], f"Difference in AUC to the reference `base` by {KIND}")
    assert rows[1:] == ["| new | +0.0020 [−0.0010, +0.0050] |"]


def test_pairs_are_shown_better_one_first_and_bold_by_their_corrected_p(inputs: Artifacts, tmp_path: Path) -> None:
    """`new` leads over the whole period and is behind on rare items; the pair is stored the other way round."""
    pairs = {KIND: {BIN: [_pair("base", "new", 0.01, 0.02)]}}
    edit(inputs.evaluate / "metrics.json", bin_pairs=pairs)
    rows = _rows(build(inputs, tmp_path)[1], f"Every pair of models, the first less the second in AUC by {KIND}")
    assert rows == ["| pair | what differs | 0 to 3 |", "| new − base |  | **−0.0100** [−0.0120, −0.0060] |"]


def test_pairs_over_all_samples_have_their_intervals(inputs: Artifacts, tmp_path: Path) -> None:
    models = {name: scores(0.7, 0.0) for name in ("base", "new", "third")} | {
        "alone": scores(0.6, 0.0) | {"control": "item"}
    }
    for name in ("third", "alone"):
        write_run(inputs.train, name, 0, 0.7)
    pairs = [_pair("base", "new", 0.01, 0.02), _pair("new", "third", 0.001, 0.5), _pair("alone", "base", -0.1, 0.0)]
    edit(inputs.evaluate / "metrics.json", models=models, pairs=pairs)
    rows = _rows(
        build(inputs, tmp_path)[1], "Every pair of models, controls aside, the first less the second in AUC; brackets"
    )
    assert rows == [
        "| pair | what differs | all samples |",
        "| base − new |  | **+0.0100** [+0.0060, +0.0120] |",
        "| new − third |  | +0.0010 [−0.0030, +0.0030] |",
    ]


def test_of_many_models_those_are_shown_that_differ_in_one_setting(inputs: Artifacts, tmp_path: Path) -> None:
    models = {"base": scores(0.7, 0.0)}
    changes: list[dict[str, Any]] = [{"passes": 3}, {"passes": 2}, {"passes": 2, "enhance": True}, {"into": "tower"}]
    for place, settings in enumerate(changes):
        models[f"m{place}"] = scores(0.75 - place / 100, 0.05) | {"settings": {"kind": "sam"} | settings}
        write_run(inputs.train, f"m{place}", 0, 0.75)
    names = sorted(models)
    every = [_pair(one, other, 0.01, 0.5) for at, one in enumerate(names) for other in names[at + 1 :]]
    edit(inputs.evaluate / "metrics.json", models=models, bin_pairs={KIND: {BIN: every}})
    rows = _rows(build(inputs, tmp_path)[1], "Pairs of models that differ in one setting, the first less the second")
    assert [row.split(" | ")[:2] for row in rows[1:]] == [
        ["| m0 − m1", "passes: 3 or 2"],
        ["| m1 − m2", "enhance: null or true"],
    ]
    assert rows[1].endswith(" +0.0100 [+0.0060, +0.0120] |")


def test_one_setting_differs_or_it_is_no_pair() -> None:
    assert change(_model(a=1), _model(a=1)) is None
    assert change(_model(a=1), _model(a=2)) == "a: 1 or 2"
    assert change(_model(a=1, b=None), _model(a=2, b=True)) is None
    assert change(_model(counts={"ids": "own"}), _model(counts={"ids": "shuffled"})) == "counts.ids: own or shuffled"
    assert change(_model(b=False), _model(b=None)) == "b: false or null"
    blind = _model(a=1).model_copy(update={"labels": "shuffled"})
    assert change(blind, _model(a=2)) is None

"""The report on a leaderboard of many models and seeds: short lines, distinct colours, tables that stay narrow."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from finished import Built, ab_result, build, edit, make, scores, write_run

from hisac_lab.report.drawing import GREY, PALETTE

NAMES = [f"m{place:02}" for place in range(12)]
"""Worst first; the reference `base` ranks below all of them."""


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The report of twelve models of two seeds beside the reference, and a sweep of one trial."""
    folder = tmp_path_factory.mktemp("crowd")
    inputs = make(folder / "artifacts")
    write_run(inputs.train, "base", 1, 0.74, steps=(10, 20, 30))
    for name in NAMES:
        for seed in range(2):
            write_run(inputs.train, name, seed, 0.75 + 0.01 * seed)
    models = {"base": scores(0.7, 0.0)} | {name: scores(0.71 + 0.01 * at, 0.01) for at, name in enumerate(NAMES)}
    for model in models.values():
        model["seeds"]["1"] = model["seeds"]["0"]
    edit(inputs.evaluate / "metrics.json", models=models)
    verdicts = dict.fromkeys(NAMES, (0.001, "undecided")) | {"m03": (0.012, "won"), "m07": (-0.02, "lost")}
    edit(inputs.abtest / "abtest.json", tests={name: ab_result(*verdict) for name, verdict in verdicts.items()})
    (inputs.sweep / "trials.csv").write_text("number,agents,auc,standard_error,cost,on_front\n0,4,0.7,0,1000,True\n")
    edit(inputs.sweep / "manifest.json", best=0, auc=0.7, standard_error=0.0)
    return build(inputs, folder)


def svg(page: str, title: str) -> str:
    found = re.search(rf"<h3>{title}</h3>\s*(<svg.*?</svg>)", page, re.DOTALL)
    assert found
    return found[1]


def texts(chart: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", chart)


def colour(page: str, name: str) -> str:
    """Of the dots of a model, the same throughout."""
    (found,) = set(re.findall(rf'background:(#\w+)"></span>{name}</span>', page))
    return str(found)


def test_the_headline_names_what_was_decided(crowd: Built, tmp_path: Path) -> None:
    undecided = ", ".join(f"`{name}`" for name in NAMES if name not in ("m03", "m07"))
    line = f"1 won: `m03` +1.20 % CTR; 1 lost: `m07` −2.00 % CTR; 10 undecided: {undecided}; 12 tests, "
    assert f"Simulated, against the control `base`: {line}" in crowd[1]
    few = build(make(tmp_path / "artifacts"), tmp_path)[1]
    assert "`base`: `new` won, +1.20 % CTR [+0.80 %, +1.60 %]." in few


def test_training_has_a_row_per_model(crowd: Built, tmp_path: Path) -> None:
    assert "| m00 | 20 | 1,234 | 0.7550 | 0: 0.7500, 1: 0.7600 |" in crowd[1]
    assert "| base | 20 to 30 | 1,234 | 0.7200 | 0: 0.7000, 1: 0.7400 |" in crowd[1]
    few = build(make(tmp_path / "artifacts"), tmp_path)[1]
    assert "| new | 20 | 1,234 | 0.7000 | 0: 0.7000 |" in few


def test_many_curves_are_means(crowd: Built, tmp_path: Path) -> None:
    """At the steps that all seeds of a model have."""
    page, twin, _ = crowd
    assert page.count("ne line per model, the mean over its seeds.") == 2
    assert "| m00 | mean | 20 | 0.6000 | 0.7550 | 0.6100 |" in twin
    assert re.findall(r"^\| base \| mean \| (\d+) .* \| (\S+) \| \S+ \|$", twin, re.MULTILINE) == [
        ("10", "0.6200"),
        ("20", "0.6700"),
    ]
    few = build(make(tmp_path / "artifacts"), tmp_path)
    assert few[0].count("ne line per seed.") == 2
    assert "| new | 0 | 20 | 0.6000 | 0.7000 | 0.6100 |" in few[1]


def test_the_best_and_the_reference_have_colours_of_their_own(crowd: Built) -> None:
    page = crowd[0]
    shown = ["base", *NAMES[-7:]]
    assert [colour(page, name) for name in shown] == list(PALETTE)
    assert {colour(page, name) for name in NAMES[:-7]} == {GREY}
    for title in ("Train loss", "Validation AUC", "Calibration", "Quality and cost", "Offline and A/B"):
        labels = [text for text in texts(svg(page, title)) if text in {*NAMES, "base", "others"}]
        assert sorted(labels) == sorted([*shown, "others"])
    assert not set(NAMES[:-7]) & set(texts(svg(page, "AUC by history length")))


def test_slices_have_a_row_per_model(crowd: Built) -> None:
    twin = crowd[1]
    table = twin[twin.index("AUC by history length:") :].split("\n\n")[1].splitlines()
    assert table[0] == "| model | 1 to 15 | 16 to 40 | 154 to 405 |"
    assert table[2] == "| samples | 30 | 30 | 40 |"
    assert [row.split(" | ")[0][2:] for row in table[3:]] == [*NAMES[::-1], "base"]
    assert table[-1] == "| base |" + " 0.7000 [0.6800, 0.7200] |" * 3


def test_one_trial_needs_no_chart(crowd: Built, tmp_path: Path) -> None:
    page, twin, _ = crowd
    assert "1 short training of `new`" in twin
    assert "| 0 | 4 | 0.7000 | – | 1,000 | chosen |" in twin
    few = build(make(tmp_path / "artifacts"), tmp_path)[0]
    for title in ("Quality and cost of the trials", "Quality by setting"):
        assert title not in page
        assert title in few


def test_costs_far_apart_stand_on_a_logarithmic_axis(tmp_path: Path) -> None:
    inputs = make(tmp_path / "artifacts")
    assert "logarithmic" not in build(inputs, tmp_path)[0]
    models = json.loads((inputs.evaluate / "metrics.json").read_text())["models"]
    models["new"]["cost"]["candidate_macs"] *= 20
    edit(inputs.evaluate / "metrics.json", models=models)
    assert "Multiply-adds per candidate, logarithmic" in texts(svg(build(inputs, tmp_path)[0], "Quality and cost"))

"""The tables behind `dvc plots` hold the numbers of the report, and dvc.yaml draws columns that they have."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import yaml
from finished import build, make

from hisac_lab.config.promotion import PromotionConfig
from hisac_lab.report.collect import collect
from hisac_lab.report.plots import tables

ROOT = Path(__file__).parents[3]


def test_a_row_per_model_and_one_per_validation(tmp_path: Path) -> None:
    facts = collect(make(tmp_path / "made"), PromotionConfig())
    found = tables(facts)
    models = found["models"].to_dict("records")
    assert [row["model"] for row in models] == list(facts.scores.models)
    for row, scored in zip(models, facts.scores.models.values(), strict=True):
        assert row["auc"] == scored.auc.value
        assert (row["low"], row["high"]) == scored.auc.interval
        assert row["request_macs"] == scored.cost.request_macs
    assert len(found["curves"]) == sum(len(run.curve) for run in facts.runs)


def test_what_dvc_draws_is_there(tmp_path: Path) -> None:
    build(make(tmp_path / "made"), tmp_path)
    for plot in yaml.safe_load((ROOT / "dvc.yaml").read_text())["plots"]:
        ((title, facts),) = plot.items()
        ((path, y),) = facts["y"].items()
        table = pd.read_csv(tmp_path / "plots" / Path(path).name)
        assert {facts["x"], y} <= set(table), title
        assert (ROOT / f".dvc/plots/{facts['template']}.json").exists(), title

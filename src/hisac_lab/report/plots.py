"""Tables that `dvc plots` draws and compares between commits; dvc.yaml says how."""

from __future__ import annotations

import pandas as pd

from hisac_lab.report.facts import Facts


def tables(facts: Facts) -> dict[str, pd.DataFrame]:
    """A table for each plot, by the name of its file.

    Args:
        facts: What the report knows.

    Returns:
        `models`: a row per model, with AUC, its interval, bytes of state and multiply-adds of a whole request;
        `curves`: a row per validation of a training run.
    """
    models = [
        {
            "model": name,
            "auc": scored.auc.value,
            "low": scored.auc.interval[0],
            "high": scored.auc.interval[1],
            "state_bytes": scored.cost.state_bytes,
            "request_macs": scored.cost.request_macs,
        }
        for name, scored in facts.scores.models.items()
    ]
    curves = [{"model": run.name, "seed": run.seed, **point.facts()} for run in facts.runs for point in run.curve]
    return {"models": pd.DataFrame(models), "curves": pd.DataFrame(curves)}

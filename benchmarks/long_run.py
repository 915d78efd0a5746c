"""A short run on a fixed small board: the `long` world with half its users and shorter histories, one seed, minutes.

The project's own graph up to the stage `evaluate` in .work/long-run, a copy of this working tree. The numbers are the
same on every machine; a second run on the same code finds them there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from leaderboard import merged, run_graph, settings

from hisac_lab.evaluation.records import Scores
from hisac_lab.models.catalog import KINDS

FOLDER = Path(__file__).parents[1] / ".work" / "long-run"
DATA: dict[str, Any] = {
    "acquire": {"world": {"users": 100, "events_per_user": 12_000}},
    "prepare": {"keep": {"train": 0.06, "valid": 0.01, "test": 0.03}},
    "instances": {"order": "none"},
}
BOARD = {**DATA, "evaluate": {"reference": "hisac", "interval_over": "users"}, "abtest": {"control": "hisac"}}
MODELS: dict[str, dict[str, Any]] = {
    "hisac": {
        "kind": "hisac",
        "depth": 1,
        "agents": 128,
        "decay": "none",
        "route_by": "items",
        "heads": 8,
        "sums": True,
    },
    "lightgbm": {"kind": "trees"},
}


def small_board() -> dict[str, Any]:
    """All settings, with those of `MODELS` whose kind there is."""
    models = {name: model for name, model in MODELS.items() if model["kind"] in KINDS}
    experiment = {"models": list(models), "seeds": [0]}
    chosen: dict[str, Any] = merged(settings("long-world"), BOARD | {"models": models, "experiment": experiment})
    return chosen | {"experiment": chosen["experiment"] | {"tuned": {}}}


def auc_long(cores: str = "all") -> dict[str, float]:
    """Of each model its test AUC, as `NAME_auc_long`.

    Args:
        cores: As Snakemake takes it.
    """
    run_graph(FOLDER, small_board(), ("artifacts/evaluate",), cores)
    models = Scores.open(FOLDER / "artifacts" / "evaluate").models
    return {f"{name}_auc_long": round(scores.auc.value, 4) for name, scores in models.items()}

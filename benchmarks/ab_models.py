"""Trained models in a world of known truth: do offline metrics and the A/B test order them as the truth does?

Nine models, the control among them, are trained on a part of the world `small`. The stage's lift is that of its own
estimate, on its own draw of pools; the true lift is that of as many users on many more pools, drawn apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

import hisac_lab as hl
from hisac_lab.abtest import truth
from hisac_lab.abtest.estimate import estimate, expected_clicks, lift_of
from hisac_lab.abtest.people import Log, choose_pools, population
from hisac_lab.abtest.policies import slates
from hisac_lab.abtest.records import Lift
from hisac_lab.base.artifacts import Array
from hisac_lab.base.progress import say
from hisac_lab.config.abtest import ABTestConfig
from hisac_lab.config.compute import ComputeConfig
from hisac_lab.inference.runtime import Runtime

CONTROL = "din_50"
HISAC = {"kind": "hisac", "depth": 1, "agents": 128, "decay": "none", "route_by": "items", "heads": 8, "sums": True}
VOTES = {"kind": "votes", "books": ["residual", "flat_256"], "half_lives": [1.0, 7.0, 30.0, 90.0], "into": "tower"}
MODELS: dict[str, dict[str, Any]] = {
    CONTROL: {"kind": "din", "whole_history": False},
    "din": {"kind": "din"},
    "popularity": {"kind": "linear", "reads": ["popularity"]},
    "recency": {"kind": "linear", "reads": ["item_recency"]},
    "logistic": {"kind": "linear"},
    "mean": {"kind": "mean"},
    "hisac": HISAC,
    "votes": VOTES,
    "hisac_counts": HISAC | {"counts": VOTES},
}
TRAIN = {"epochs": 1, "batch_requests": 8, "max_candidates": 10, "learning_rate": 0.005, "checks_per_epoch": 1}
STAGE = ABTestConfig(control=CONTROL)
TRUTH = ABTestConfig(control=CONTROL, visits=15, seed=1)


@dataclass(frozen=True)
class Judged:
    """One model against the control.

    Attributes:
        gauc: User-wise AUC on the test period.
        lift: The stage's.
        true: The lift on many more pools.
    """

    gauc: float
    lift: Lift
    true: float


def judge(users: int, keep: float) -> dict[str, Judged]:
    """Every model of `MODELS`; the control's lift is zero.

    Args:
        users: Of the world.
        keep: Share of its training requests.
    """
    log = hl.load("world", world={"preset": "small", "users": users})
    data = log.prepare(history="positives", keep={"train": keep, "valid": keep / 3, "test": keep})
    data = data.tokenize(embed_by={"method": "supplied"}, widths=[144, 16], flat=[256])
    fitted = {}
    for name, settings in MODELS.items():
        say(f"bench-ab: {name}")
        kind, changes = settings["kind"], {key: value for key, value in settings.items() if key != "kind"}
        fitted[name] = data.fit(kind, train=TRAIN, backbone={"dim": 32, "semantic_std": 0.5}, **changes)
    scores = hl.evaluate(fitted, reference=CONTROL, bootstrap=20).scores
    runtime, store = Runtime.start(ComputeConfig(device="cpu")), data.store
    simulator, everybody, exposures = truth.rebuild(log.path), population(store.samples("test")), Log.of(store)

    def clicks(config: ABTestConfig) -> dict[str, Array]:
        people, pools = choose_pools(exposures, everybody, config, without_met=False)
        pools = pools[:, : config.visits]
        chances, looked = truth.true_chances(simulator, store, people, pools), truth.examined(simulator, config.slate)
        places = {
            name: slates(model.path, store, people, pools, config.slate, runtime) for name, model in fitted.items()
        }
        return {name: expected_clicks(chances, shown, looked)[None] for name, shown in places.items()}

    stage, many = clicks(STAGE), clicks(TRUTH)
    found = {}
    for name, score in scores.items():
        gauc = score.metrics["gauc"]
        assert gauc is not None
        lift = estimate(stage[CONTROL], stage[name], [], 0.95).lift
        found[name] = Judged(gauc.value, lift, lift_of(many[CONTROL], many[name]))
    return found


def ranks(judged: Mapping[str, Judged]) -> dict[str, float]:
    """Spearman's correlations with the true lift: of the stage's lift, and of the user-wise AUC."""
    true = [one.true for one in judged.values()]
    by = {"rank_correlation": [one.lift.value for one in judged.values()],
          "gauc_rank_correlation": [one.gauc for one in judged.values()]}  # fmt: skip
    return {name: float(np.round(stats.spearmanr(values, true).statistic, 4)) for name, values in by.items()}

"""Manifests of stages as tests need them: whole, with nothing in them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hisac_lab.base.machines import MachineRecord
from hisac_lab.evaluation.records import Evaluated, Scores
from hisac_lab.events.records import Prepared

COUNTS = "users items items_described events events_outside events_out_of_order events_repeated history_events".split()
COUNTS += ["samples_without_history", "samples_not_kept", "history_limit"]
LEAKS = ("samples_checked", "history_of_another_user", "history_after_the_request", "history_left_out")
PROFILE: dict[str, Any] = {
    "months": {},
    "history_length_deciles": [0] * 11,
    "history_length_p99": 0,
    "item_age_days": {"p10": 0, "p50": 0, "p90": 0},
    "test_share_of_new_users": 0.0,
    "test_share_of_new_items": 0.0,
}
PREPARED: dict[str, Any] = {
    **dict.fromkeys(COUNTS, 0),
    "dataset": "own",
    "positive_from": None,
    "negatives": "real exposures",
    "time_unit": "second",
    "fields": [],
    "extras": [],
    "cuts": {"valid": 0, "test": 0},
    "splits": {},
    "leaks": dict.fromkeys(LEAKS, 0),
    "protocol": "",
    "profile": PROFILE,
}


def save_prepared(out: Path, **changes: Any) -> None:
    """The manifest of `prepare`, of no data unless told."""
    Prepared.of(PREPARED | changes, out).save(out)


CALIBRATION: dict[str, Any] = {
    "error": 0.02,
    "ratio": 1.0,
    "curve": [{"predicted": 0.2, "observed": 0.25}, {"predicted": 0.7, "observed": 0.6}],
}
EVALUATED: dict[str, Any] = {
    "fingerprint": "fedcba9876543210",
    "reference": "base",
    "confidence": 0.95,
    "negatives": "real exposures",
    "test_samples": 100,
    "test_users": 10,
}


def model_scores(auc: float, difference: float, seed: int = 0) -> dict[str, Any]:
    """A model of one seed with a metric and no slices; intervals reach 0.01 and 0.003."""
    metric = {
        "value": auc,
        "interval": [auc - 0.01, auc + 0.01],
        "seed_spread": 0.001,
        "difference": difference,
        "difference_interval": [difference - 0.003, difference + 0.003],
    }
    return {
        "metrics": {"auc": metric},
        "slices": {},
        "seeds": {str(seed): {"auc": auc, "valid_auc": 0.7, "calibration": CALIBRATION}},
        "best_seed": seed,
        "cost": {"state_bytes": 4000.5, "encode_macs": 250000.0, "candidate_macs": 50000.0},
        "parameters": 1234,
        "settings": {"kind": "din"},
    }


def save_evaluated(out: Path, models: Iterable[str], best_seed: int = 0, **changes: Any) -> None:
    """The output of `evaluate`, with equal scores of all models."""
    scores = {name: model_scores(0.7, 0.0, best_seed) for name in models}
    Scores.of({"models": scores, "slices": {}}, out).save(out)
    Evaluated.of(EVALUATED | changes, out).save(out)


def machine_record(processor: str, **changes: Any) -> MachineRecord:
    """The record of a machine with this processor."""
    facts: dict[str, Any] = {
        "stage": "embed",
        "started": "2026-01-02T03:04:05+00:00",
        "ended": "2026-01-02T03:04:06+00:00",
        "seconds": 1.5,
        "cpu_seconds": 1000.5,
        "peak_mb": 1000,
        "output": None,
        "arithmetic": "portable",
        "native_because": None,
        "processor": {"model": processor, "vendor": None, "features": []},
        "code": {},
        "versions": {},
        "threads": 1,
        "gpu": None,
    }
    return MachineRecord.of(facts | changes, processor)

"""Manifests of stages as tests need them: whole, with nothing in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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

"""Counts that describe prepared data: taken per shard, added up when shards are joined, read by the report."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from hisac_lab.base.artifacts import Array
from hisac_lab.config.events import PrepareConfig

DAY = 86_400
AGE_DAYS = 20_000  # ages of items are counted in days up to here
QUANTILES = (10, 50, 90, 99)


@dataclass(frozen=True)
class ShardCounts:
    """Counts of one shard that can be added up.

    Attributes:
        arrays: `lengths_SPLIT` (history limit + 1,): samples by history length; `shown_SPLIT` (items,): samples by
            item; `item_ages` (AGE_DAYS + 1,): test samples by the item's age in days.
        months: Per month the events and the positives among them.
        splits: Per split samples, requests, users, positives, first and last second.
    """

    arrays: dict[str, Array]
    months: dict[str, dict[str, int]]
    splits: dict[str, dict[str, int]]


def count_shard(
    events: dict[str, Array], offsets: Array, splits: dict[str, dict[str, Array]], births: Array, config: PrepareConfig
) -> ShardCounts:
    """Counts one shard.

    Args:
        events: Its events by role.
        offsets: Where each user's history begins; (users + 1,).
        splits: Its samples by split, each by the fields of `SAMPLE`.
        births: First event of each item; (items,) int64.
        config: The section `prepare`.
    """
    arrays: dict[str, Array] = {}
    for name, rows in splits.items():
        lengths = np.minimum(rows["end"] - offsets[rows["user"]], config.history_limit)
        arrays[f"lengths_{name}"] = np.bincount(lengths, minlength=config.history_limit + 1)
        arrays[f"shown_{name}"] = np.bincount(rows["item"], minlength=len(births))
    test = splits["test"]
    ages = np.clip((test["time"] - births[test["item"]]) // DAY, 0, AGE_DAYS)
    arrays["item_ages"] = np.bincount(ages, minlength=AGE_DAYS + 1)
    return ShardCounts(arrays, _months(events), {name: _count(rows) for name, rows in splits.items()})


def _months(events: dict[str, Array]) -> dict[str, dict[str, int]]:
    day = events["time"] // DAY
    if not len(day):
        return {}
    begin = int(day.min())
    day -= begin
    daily = np.bincount(day)
    liked = np.bincount(day[events["label"] == 1], minlength=len(daily)) if "label" in events else daily
    month = (begin + np.arange(len(daily))).astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
    first = int(month[0])
    count, positives = (np.bincount(month - first, weights=number).astype(np.int64) for number in (daily, liked))
    return {
        str(np.datetime64(first + int(at), "M")): {"events": int(count[at]), "positives": int(positives[at])}
        for at in np.flatnonzero(count)
    }


def _count(rows: dict[str, Array]) -> dict[str, int]:
    return {
        "samples": len(rows["user"]),
        "requests": _runs(rows["request"]),
        "users": _runs(rows["user"]),
        "positives": int(rows["label"].sum()),
        "from": int(rows["time"].min()) if len(rows["user"]) else 0,
        "to": int(rows["time"].max()) if len(rows["user"]) else 0,
    }


def _runs(values: Array) -> int:
    """Distinct values of an array in which equal ones stand together."""
    return int(np.count_nonzero(values[1:] != values[:-1])) + bool(len(values))


def add_up(shards: list[ShardCounts]) -> ShardCounts:
    """The counts of all shards together."""
    arrays = {name: reduce(np.add, (shard.arrays[name] for shard in shards)) for name in shards[0].arrays}
    months: dict[str, dict[str, int]] = {}
    for shard in shards:
        for month, row in shard.months.items():
            counted = months.setdefault(month, {"events": 0, "positives": 0})
            months[month] = {key: counted[key] + row[key] for key in counted}
    splits = {}
    for name in shards[0].splits:
        rows = [shard.splits[name] for shard in shards if shard.splits[name]["samples"]]
        splits[name] = {key: sum(row[key] for row in rows) for key in ("samples", "requests", "users", "positives")} | {
            "from": min((row["from"] for row in rows), default=0),
            "to": max((row["to"] for row in rows), default=0),
        }
    return ShardCounts(arrays, dict(sorted(months.items())), splits)


def describe(counts: ShardCounts, name: str) -> dict[str, float]:
    """Facts of one split for the manifest."""
    facts: dict[str, float] = dict(counts.splits[name])
    positives = facts.pop("positives")
    facts["positive_share"] = round(positives / facts["samples"], 6) if facts["samples"] else 0.0
    lengths = quantiles(counts.arrays[f"lengths_{name}"], QUANTILES)
    return facts | {f"history_p{q}": value for q, value in zip(QUANTILES, lengths, strict=True)}


def profile(counts: ShardCounts, labeled: bool, user_lengths: Array, new_users: int) -> dict[str, Any]:
    """The page of a prepared data set.

    Args:
        counts: Of all shards.
        labeled: Whether the log has feedback.
        user_lengths: Length of each user's whole history; (users,).
        new_users: Test samples of users without a training sample.
    """
    test = counts.arrays["shown_test"]
    samples = max(int(test.sum()), 1)
    unseen = int(test[counts.arrays["shown_train"] == 0].sum())
    months = {
        month: {"events": row["events"]}
        | ({"positive_share": round(row["positives"] / row["events"], 4)} if labeled else {})
        for month, row in counts.months.items()
    }
    ages = quantiles(counts.arrays["item_ages"], (10, 50, 90))
    return {
        "months": months,
        "history_length_deciles": [int(x) for x in np.percentile(user_lengths, range(0, 101, 10))],
        "history_length_p99": int(np.percentile(user_lengths, 99)),
        "item_age_days": dict(zip(("p10", "p50", "p90"), ages, strict=True)),
        "test_share_of_new_users": round(new_users / samples, 4),
        "test_share_of_new_items": round(unseen / samples, 4),
    }


def quantiles(counts: Array, percents: tuple[int, ...]) -> list[int]:
    """Values below which so many percent of the counted lie; `counts[v]` of them have the value v."""
    ends = np.cumsum(counts)
    if not ends[-1]:
        return [0] * len(percents)
    return [int(np.searchsorted(ends, percent / 100 * (ends[-1] - 1), side="right")) for percent in percents]

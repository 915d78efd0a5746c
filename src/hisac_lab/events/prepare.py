"""From a raw log to the event store, the global temporal split, requests and samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hisac_lab.base.artifacts import Array, digest_of, read_manifest, save_arrays, write_manifest
from hisac_lab.base.errors import UserError
from hisac_lab.config.events import PrepareConfig
from hisac_lab.events.loaders import RawLog, load
from hisac_lab.events.store import SAMPLE, SPLITS

UNIT_SECONDS = {"second": 1, "day": 86_400}


def prepare(config: PrepareConfig, raw: Path, out: Path) -> None:
    """Builds the event store and the samples.

    Args:
        config: The section `prepare`.
        raw: Output of the stage `acquire`.
        out: An empty directory.

    Raises:
        UserError: The log breaks a rule, or nothing is left of a split.
    """
    log = load(raw, read_manifest(raw)["layout"], config.columns)
    events, users, items, unsorted = _index(log, config)
    store, offsets = _histories(events, len(users), config)
    samples = _samples(events, store, offsets, config, len(items))
    cuts = _cuts(events["time"].to_numpy(), config)
    kept, dropped = _keep(samples, offsets, config)
    splits = _split(kept, cuts, log.path)

    save_arrays(
        out, {"history_items": store["item"].to_numpy(), "history_times": store["time"].to_numpy(), "offsets": offsets}
    )
    save_arrays(out, {f"samples_{name}": rows for name, rows in splits.items()})
    fields = {name: pd.factorize(items[name], sort=True) for name in log.fields}
    codes = np.stack([code for code, _ in fields.values()], axis=1) if fields else np.zeros((len(items), 0))
    save_arrays(out, {"item_fields": codes.astype(np.int32)})
    users.to_frame("user").to_parquet(out / "users.parquet", index=False)
    items.to_parquet(out / "items.parquet", index=False)
    negatives = "real exposures" if "label" in log.events else f"sampled negatives, {config.negatives} per positive"
    write_manifest(
        out,
        users=len(users),
        items=len(items),
        events=len(events),
        history_events=len(store),
        events_out_of_order=unsorted,
        samples_without_history=dropped,
        negatives=negatives,
        time_unit=config.time_unit,
        history_limit=config.history_limit,
        fields=[{"name": name, "size": len(levels)} for name, (_, levels) in fields.items()],
        cuts={"valid": int(cuts[0]), "test": int(cuts[1])},
        splits={name: _describe(rows, offsets, config) for name, rows in splits.items()},
        protocol=digest_of(
            {
                "config": config.model_dump(mode="json"),
                "raw": read_manifest(raw)["files"],
                "cuts": [int(cut) for cut in cuts],
            }
        ),
        profile=_profile(events, offsets, splits),
    )


def _index(log: RawLog, config: PrepareConfig) -> tuple[pd.DataFrame, pd.Series[Any], pd.DataFrame, int]:
    """Sorts by (user, time, file order) and numbers users and items from 0."""
    events = log.events.copy()
    events["line"] = np.arange(len(events)) + log.first_line
    steps = events.groupby("user", sort=False)["time"].diff()
    unsorted = int((steps < 0).sum())
    if unsorted and config.order == "refuse":
        row = events[steps < 0].iloc[0]
        raise UserError(
            log.path,
            f"value {row['time']} is earlier than the same user's event before it",
            "sort the log or set prepare.order: sort",
            f"line {row['line']}: time",
        )
    repeated = events.duplicated(["user", "item", "time"])
    if repeated.any():
        if config.duplicates == "refuse":
            row = events[repeated].iloc[0]
            raise UserError(
                log.path,
                f"user {row['user']!r}, item {row['item']!r}, time {row['time']} occurs twice",
                "remove it or set prepare.duplicates: drop",
                f"line {row['line']}: user, item, time",
            )
        events = events[~repeated]
    users = pd.Series(np.sort(events["user"].unique()))
    items = log.items.sort_values("item", key=_natural).reset_index(drop=True)
    events["user"] = pd.Index(users).get_indexer(pd.Index(events["user"]))
    events["item"] = pd.Index(items["item"]).get_indexer(pd.Index(events["item"]))
    events = events.sort_values(["user", "time", "line"], kind="stable").reset_index(drop=True)
    if "label" in events:
        events["label"] = (events["label"] >= config.positive_from).astype(np.int8)
        if events["label"].nunique() < 2:
            only = "positive" if events["label"].iloc[0] else "negative"
            raise UserError(
                "params.yaml",
                f"with {config.positive_from} every event is {only}",
                "set a threshold inside the range of the feedback",
                "prepare.positive_from",
            )
    return events, users, items, unsorted


def _natural(ids: pd.Series[str]) -> pd.Series[Any]:
    numbers = pd.to_numeric(ids, errors="coerce")
    return ids if numbers.isna().any() else numbers


def _histories(events: pd.DataFrame, users: int, config: PrepareConfig) -> tuple[pd.DataFrame, Array]:
    kept = events
    if config.history == "positives" and "label" in events:
        kept = events[events["label"] == 1]
    kept = kept.astype({"item": np.int32}).reset_index(drop=True)
    offsets = np.zeros(users + 1, np.int64)
    np.cumsum(np.bincount(kept["user"], minlength=users), out=offsets[1:])
    return kept[["user", "item", "time"]], offsets


def _samples(events: pd.DataFrame, store: pd.DataFrame, offsets: Array, config: PrepareConfig, items: int) -> Array:
    """One sample per exposure; its history ends strictly before the time unit of its request."""
    unit = UNIT_SECONDS[config.time_unit]
    exposures = events if "label" in events else _with_negatives(events, config, items)
    start = exposures["time"].to_numpy() // unit * unit
    user = exposures["user"].to_numpy()
    # Within a user the store is sorted by time: a position in it is found by one search over (user, time).
    span = int(max(store["time"].max(), start.max())) + 1
    keys = store["user"].to_numpy().astype(np.int64) * span + store["time"].to_numpy()
    ends = np.searchsorted(keys, user.astype(np.int64) * span + start, side="left")
    samples = np.zeros(len(exposures), SAMPLE)
    samples["user"], samples["item"] = user, exposures["item"]
    samples["time"], samples["label"] = exposures["time"], exposures["label"]
    samples["end"] = ends
    _, samples["request"] = np.unique(np.stack([user, start]), axis=1, return_inverse=True)
    return samples[np.lexsort((samples["request"], samples["time"]))]


def _with_negatives(events: pd.DataFrame, config: PrepareConfig, items: int) -> pd.DataFrame:
    """Draws negatives uniformly from the items already seen in the log at the positive's time."""
    random = np.random.default_rng(config.seed)
    first = np.full(items, np.iinfo(np.int64).max)
    np.minimum.at(first, events["item"].to_numpy(), events["time"].to_numpy())
    by_birth = np.argsort(first, kind="stable")
    alive = np.searchsorted(first[by_birth], events["time"].to_numpy(), side="right")
    draws = random.random((len(events), config.negatives)) * alive[:, None]
    negatives = events.loc[events.index.repeat(config.negatives)].copy()
    negatives["item"] = by_birth[draws.astype(np.int64)].ravel()
    together = pd.concat([events.assign(label=1), negatives.assign(label=0)])
    together = together.drop_duplicates(["user", "time", "item"], keep="first")
    return together.sort_values(["user", "time", "line", "label"], kind="stable").reset_index(drop=True)


def _cuts(times: Array, config: PrepareConfig) -> tuple[int, int]:
    unit = UNIT_SECONDS[config.time_unit]
    ordered = np.sort(times)
    shares = (config.train_share, config.train_share + config.valid_share)
    valid, test = (int(ordered[int(share * len(ordered))]) // unit * unit for share in shares)
    return valid, test


def _keep(samples: Array, offsets: Array, config: PrepareConfig) -> tuple[Array, int]:
    enough = samples["end"] - offsets[samples["user"]] >= config.min_history
    return samples[enough], int((~enough).sum())


def _split(samples: Array, cuts: tuple[int, int], path: Path) -> dict[str, Array]:
    period = np.searchsorted(np.asarray(cuts), samples["time"], side="right")
    splits = {name: samples[period == index] for index, name in enumerate(SPLITS)}
    for name, rows in splits.items():
        if len(np.unique(rows["label"])) < 2:
            raise UserError(
                path,
                f"the {name} period has {len(rows)} samples with a history and not both labels",
                "give more data or other prepare.train_share, valid_share, min_history",
                "time",
            )
    return splits


def _describe(rows: Array, offsets: Array, config: PrepareConfig) -> dict[str, float]:
    lengths = np.minimum(rows["end"] - offsets[rows["user"]], config.history_limit)
    return {
        "samples": len(rows),
        "requests": len(np.unique(rows["request"])),
        "users": len(np.unique(rows["user"])),
        "positive_share": round(float(rows["label"].mean()), 6),
        "from": int(rows["time"].min()),
        "to": int(rows["time"].max()),
        **{f"history_p{q}": int(np.percentile(lengths, q)) for q in (10, 50, 90, 99)},
    }


def _profile(events: pd.DataFrame, offsets: Array, splits: dict[str, Array]) -> dict[str, Any]:
    month = pd.to_datetime(events["time"], unit="s").dt.strftime("%Y-%m")
    by_month = events.groupby(month).agg(events=("item", "size"))
    if "label" in events:
        by_month["positive_share"] = events.groupby(month)["label"].mean().round(4)
    seen_users, seen_items = (set(splits["train"][key].tolist()) for key in ("user", "item"))
    test = splits["test"]
    return {
        "months": {str(key): row for key, row in by_month.to_dict("index").items()},
        "history_length_deciles": [int(x) for x in np.percentile(np.diff(offsets), range(0, 101, 10))],
        "test_share_of_new_users": round(float(np.mean([u not in seen_users for u in test["user"].tolist()])), 4),
        "test_share_of_new_items": round(float(np.mean([i not in seen_items for i in test["item"].tolist()])), 4),
    }

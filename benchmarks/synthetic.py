"""A seeded log of long histories, written in the layout each side reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from hisac_lab.base.artifacts import Array

ITEMS = 20_000
CLICK_SHARE = 0.4
FIRST_SECOND, SECONDS_BETWEEN = 1_600_000_000, 7
SPLITS = ("train", "valid", "test")
TRAIN_SHARE, VALID_SHARE = 0.7, 0.1  # of the events; the rest is the test


@dataclass(frozen=True)
class Log:
    """Events in time order, no two at the same time; every event with a history is a sample.

    Attributes:
        users: How many users there are.
        limit: Events a history keeps.
        user: (E,) int64.
        item: (E,) int64.
        time: Seconds; (E,) int64.
        label: 1 clicked, 0 not; (E,) int64.
        seen: Events of the same user before this one; (E,) int64.
    """

    users: int
    limit: int
    user: Array
    item: Array
    time: Array
    label: Array
    seen: Array

    def __len__(self) -> int:
        return len(self.user)

    def split(self, name: str) -> Array:
        """Positions of the samples of one split, in time order; (N,) int64."""
        ends = (TRAIN_SHARE, TRAIN_SHARE + VALID_SHARE)
        bounds = [0, *(int(share * len(self)) for share in ends), len(self)]
        number = SPLITS.index(name)
        chosen = np.arange(bounds[number], bounds[number + 1])
        with_history: Array = chosen[self.seen[chosen] > 0]
        return with_history


def make_log(users: int, events: int, limit: int, seed: int) -> Log:
    """Draws `events` events of each of `users` users; items by Zipf's law, users in random turns."""
    random = np.random.default_rng(seed)
    cumulative = np.cumsum(1 / (np.arange(ITEMS) + 10.0) ** 0.9)
    count = users * events
    user = random.permutation(np.repeat(np.arange(users), events))
    item = np.searchsorted(cumulative, random.random(count) * cumulative[-1], side="right")
    label = (random.random(count) < CLICK_SHARE).astype(np.int64)
    time = FIRST_SECOND + SECONDS_BETWEEN * np.arange(count)
    seen = np.empty(count, np.int64)
    seen[np.argsort(user, kind="stable")] = np.tile(np.arange(events), users)
    return Log(users, limit, user, item, time, label, seen)


def user_name(user: Array) -> Array:
    """Ids as a log has them; (n,) text."""
    return np.char.add("u", user.astype(str))


def item_name(item: Array) -> Array:
    """Ids as a log has them, in no order of popularity; (n,) text."""
    return np.char.add("i", (item * 7919 % 1_000_003).astype(str))


def write_log(log: Log, path: Path) -> None:
    """One line per event: user_id,item_id,timestamp,rating."""
    columns = {
        "user_id": user_name(log.user),
        "item_id": item_name(log.item),
        "timestamp": log.time,
        "rating": log.label,
    }
    pd.DataFrame(columns).to_csv(path, index=False)


def write_rows(log: Log, folder: Path) -> None:
    """What FuxiCTR reads: one CSV per split, one line per sample with its history as `item^item^...`, in time order."""
    user, item = user_name(log.user).tolist(), item_name(log.item).tolist()
    label, seen = log.label.tolist(), log.seen.tolist()
    order = np.argsort(log.user, kind="stable")
    by_user = [[item[at] for at in events] for events in np.split(order, log.users)]
    number = log.user.tolist()
    for name in SPLITS:
        with (folder / f"{name}.csv").open("w") as file:
            file.write("label,user_id,item_id,history\n")
            for at in log.split(name).tolist():
                history = "^".join(by_user[number[at]][max(0, seen[at] - log.limit) : seen[at]])
                file.write(f"{label[at]},{user[at]},{item[at]},{history}\n")


def write_shared(log: Log, folder: Path) -> None:
    """What LongCTR's loader reads: samples that point into one sequence per user; items count from 1, 0 is the pad."""
    item = log.item + 1
    order = np.argsort(log.user, kind="stable")
    sequences = [item[events] for events in np.split(order, log.users)]
    users = pd.DataFrame({"user_index": np.arange(log.users), "full_item_seq": sequences})
    users.to_parquet(folder / "user_info.parquet", index=False)
    numbers = np.arange(ITEMS + 1)
    pd.DataFrame({"item_index": numbers, "item_id": numbers}).to_parquet(folder / "item_info.parquet", index=False)
    for name in SPLITS:
        at = log.split(name)
        columns = {"user_index": log.user[at], "item_index": item[at], "seq_len": log.seen[at], "label": log.label[at]}
        pd.DataFrame(columns).to_parquet(folder / f"{name}.parquet", index=False)

"""The stage `shard`: histories, requests and samples of one shard of the users."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from hisac_lab.base.artifacts import Array, load_array, save_arrays
from hisac_lab.base.errors import UserError
from hisac_lab.config.events import PrepareConfig
from hisac_lab.events.negatives import Clicks, add_negatives, new_items
from hisac_lab.events.profile import count_shard
from hisac_lab.events.records import EXPOSURES, POSITIVES, Ingested, Sharded
from hisac_lab.events.series import save_events
from hisac_lab.events.side_columns import stored
from hisac_lab.events.store import HISTORY_FEEDBACK, LOGGED, RANDOM, REST, SAMPLE, SPLITS
from hisac_lab.ops.draws import uniform
from hisac_lab.ops.ranks import grouped
from hisac_lab.tables.columns import HISTORY, TEST, UNIT_SECONDS, logged_role
from hisac_lab.tables.files import Layout, place
from hisac_lab.tables.roles import TASK

KEEP_SALT = 0x6B656570  # the draws of `keep` are not those of negatives


def shard(config: PrepareConfig, *, ingested: Path, index: int, out: Path) -> None:
    """Writes the histories and samples of shard `index`; positions in them count from the shard's first user.

    Args:
        config: The section `prepare`.
        ingested: Output of the stage `ingest`.
        index: Which shard.
        out: An empty directory.

    Raises:
        UserError: The log is out of order or repeats itself, and the section refuses that.
    """
    facts = Ingested.open(ingested)
    events, unsorted, repeated = _sorted_events(config, ingested, facts, index)
    begin, end = facts.shard_begins[index : index + 2]
    users = end - begin
    events["user"] -= begin
    feedback = None if facts.feedback is None else facts.feedback.codes(events["label"])
    if facts.labeled:
        events["label"] = (events["label"] >= facts.positive_from).astype(np.int8)
    in_history = _history_mask(events, config)
    offsets = np.zeros(users + 1, np.int64)
    np.cumsum(np.bincount(events["user"][in_history], minlength=users), out=offsets[1:])
    history = {"items": events["item"][in_history], "times": events["time"][in_history]}

    logged = _logged(events, facts, ingested)
    samples, source = _samples(events, in_history, config, ingested, facts, begin)
    period, drawn = _periods(samples, events, source, config, facts, ingested, begin)
    long_enough = samples["end"] - offsets[samples["user"]] >= config.min_history
    leaks = _leaks(samples, history["times"], offsets, UNIT_SECONDS[config.time_unit])
    save_arrays(out, {"history_items": history["items"], "history_times": history["times"], "offsets": offsets})
    if feedback is not None:
        save_arrays(out, {HISTORY_FEEDBACK: feedback[in_history]})
    used = drawn & long_enough
    splits = {}
    for number, name in enumerate((*SPLITS, RANDOM)):
        rows = np.flatnonzero((period == number) & used)
        splits[name] = {field: values[rows] for field, values in samples.items()}
        save_arrays(out, {f"samples_{name}": _records(splits[name])})
        for extra in facts.extras:
            beside = events[extra][source[rows]].astype(np.float32)
            if extra.startswith(TASK) and not facts.labeled:
                beside[splits[name]["label"] == 0] = np.nan  # nobody saw a drawn negative
            save_arrays(out, {f"{extra}_{name}": beside})
        if facts.logged:
            save_arrays(out, {f"{LOGGED}_{name}": logged[source[rows]]})
    if config.exposures == "all":
        for number, name in enumerate(SPLITS):
            rows = np.flatnonzero((period == number) & ~used)
            save_arrays(out, {f"{REST}_{name}": _records({field: values[rows] for field, values in samples.items()})})
            if facts.logged:
                save_arrays(out, {f"{LOGGED}_{REST}_{name}": logged[source[rows]]})
    births = load_array(ingested, "births")
    counts = count_shard(events, offsets, splits, births, config)
    unit = UNIT_SECONDS[config.time_unit]
    on_new = {} if facts.labeled else {"positives_on_new_items": _on_new_items(events, births, unit)}
    save_arrays(out, counts.arrays)
    _save_series(events, config, facts, out)
    Sharded(
        users=users,
        events=len(events["user"]),
        events_out_of_order=unsorted,
        events_repeated=repeated,
        requests=int(samples["request"].max(initial=-1)) + 1,
        samples_without_history=int((drawn & ~long_enough).sum()),
        samples_not_kept=int((~drawn).sum()),
        leaks=leaks,
        months=counts.months,
        splits=counts.splits,
        **on_new,
    ).save(out)


def _save_series(events: dict[str, Array], config: PrepareConfig, facts: Ingested, out: Path) -> None:
    """The shard's part of each item series."""
    item, time = events["item"], events["time"]
    liked = events["label"] == 1 if facts.labeled else slice(None)
    chosen = {POSITIVES: (item[liked], time[liked] + config.label_delay), EXPOSURES: (item, time)}
    for name in facts.series:
        save_events(out, name, *chosen[name], facts.items)


def _logged(events: dict[str, Array], facts: Ingested, ingested: Path) -> Array:
    """The logged columns of the events, one for each of `Ingested.logged`; (E, G) float32."""
    logged = np.zeros((len(events["user"]), len(facts.logged)), np.float32)
    for column, name in enumerate(facts.logged):
        values = events.pop(logged_role(name))
        has_words = (ingested / f"words_{column}.npy").exists()
        logged[:, column] = stored(load_array(ingested, f"words_{column}")[values] if has_words else values)
    return logged


def _sorted_events(
    config: PrepareConfig, ingested: Path, facts: Ingested, index: int
) -> tuple[dict[str, Array], int, int]:
    """Events of one shard by role, sorted by (user, time, tick, file order), with what was out of order or repeated."""
    table = pq.read_table(ingested / f"events-{index}.parquet", use_threads=False)
    events = {role: table.column(role).to_numpy() for role in table.column_names}
    del table
    events["user"] = load_array(ingested, "user_codes")[events["user"]]
    events["item"] = load_array(ingested, "item_codes")[events["item"]]
    row, tick = events.pop("row"), events.pop("tick", None)
    order = grouped(events["user"])
    events = {role: values[order] for role, values in events.items()}
    same_user = events["user"][1:] == events["user"][:-1]
    step = np.diff(events["time"])
    backwards = np.flatnonzero(same_user & (step < 0)) + 1
    if len(backwards) and config.order == "refuse":
        first = backwards[np.argmin(row[order[backwards]])]
        what = f"value {events['time'][first]} is earlier than the same user's event before it"
        raise _refuse(facts, int(row[order[first]]), "time", what, "sort the log or set prepare.order: sort")
    tick = None if tick is None or not tick.any() else tick[order]
    if len(backwards) or (tick is not None and (same_user & (step == 0) & (np.diff(tick) < 0)).any()):
        keys = (events["time"], events["user"]) if tick is None else (tick, events["time"], events["user"])
        moved = np.lexsort(keys)  # events of one time and tick stay in the order of the file
        order, events = order[moved], {role: values[moved] for role, values in events.items()}
    again = _repeated(events)
    if len(again):
        if config.duplicates == "refuse" and not facts.untimed:
            first = again[np.argmin(row[order[again]])]
            ids = pq.read_table(ingested / "users.parquet").column("user")
            names = pq.read_table(ingested / "items.parquet", columns=["item"]).column("item")
            user, item = ids[int(events["user"][first])].as_py(), names[int(events["item"][first])].as_py()
            what = f"user {user!r}, item {item!r}, time {events['time'][first]} occurs twice"
            hint = "remove it or set prepare.duplicates: drop"
            raise _refuse(facts, int(row[order[first]]), "user, item, time", what, hint)
        left = np.ones(len(events["user"]), bool)
        left[again] = False
        events = {role: values[left] for role, values in events.items()}
    return events, len(backwards), len(again)


def _repeated(events: dict[str, Array]) -> Array:
    """Positions of events whose user, item and time were there before."""
    user, time, item = events["user"], events["time"], events["item"]
    same = (user[1:] == user[:-1]) & (time[1:] == time[:-1])
    if not same.any():
        return np.zeros(0, np.int64)
    near = np.flatnonzero(np.r_[same, False] | np.r_[False, same])  # of a second with more than one event
    run = np.cumsum(np.r_[True, ~same])[near]
    order = np.lexsort((item[near], run))
    twice = (run[order][1:] == run[order][:-1]) & (item[near][order][1:] == item[near][order][:-1])
    again: Array = np.sort(near[order[1:][twice]])
    return again


def _refuse(facts: Ingested, row: int, field: str, what: str, hint: str) -> UserError:
    file = max((file for file in facts.raw if file.first_row <= row), key=lambda file: file.first_row)
    layout = None if file.layout is None else Layout(**file.layout)
    where = Path(file.path)
    names = ", ".join(file.names.get(role, role) for role in field.split(", "))
    return UserError(where, what, hint, f"{place(where, layout, row - file.first_row)}: {names}")


def _history_mask(events: dict[str, Array], config: PrepareConfig) -> Array:
    mask = np.ones(len(events["user"]), bool)
    if "part" in events:
        mask &= events["part"] == HISTORY
    elif "label" in events and config.history_of(labeled=True) == "positives":
        mask &= events["label"] == 1
    return mask


def _samples(
    events: dict[str, Array],
    in_history: Array,
    config: PrepareConfig,
    ingested: Path,
    facts: Ingested,
    first_user: int,
) -> tuple[dict[str, Array], Array]:
    """Samples of all exposures by the fields of `SAMPLE`, request by request, and the event each comes from.

    A request is a user and a time unit; its history is what the user did before that unit.
    """
    unit = UNIT_SECONDS[config.time_unit]
    user, time = events["user"], events["time"]
    start = time // unit * unit
    fresh = np.r_[True, (user[1:] != user[:-1]) | (start[1:] != start[:-1])][: len(user)]
    number = np.cumsum(fresh) - 1
    before = np.cumsum(in_history) - in_history
    end = before[fresh][number] if len(user) else before
    source = np.flatnonzero(events["part"] != HISTORY) if "part" in events else np.arange(len(user))
    if "label" in events:
        item, label = events["item"][source], events["label"][source]
    else:
        begins = np.flatnonzero(np.r_[True, user[1:] != user[:-1]][: len(user)])
        within = np.arange(len(user)) - begins[np.cumsum(np.r_[True, user[1:] != user[:-1]][: len(user)]) - 1]
        hashes = load_array(ingested, "user_hashes")[user + first_user]
        clicks = Clicks(hashes, within, number, events["item"], time, start)
        item, label, source = add_negatives(config, ingested, clicks, source)
    requests = number[source]
    changes = np.r_[True, requests[1:] != requests[:-1]][: len(source)]
    samples = {
        "time": time[source],
        "end": end[source],
        "user": user[source],
        "item": item,
        "request": np.cumsum(changes) - 1,
        "label": label,
    }
    return samples, source


def _records(samples: dict[str, Array]) -> Array:
    """Samples as they are stored; (n,) of `SAMPLE`."""
    records = np.empty(len(samples["user"]), SAMPLE)
    for field, values in samples.items():
        records[field] = values
    return records


def _on_new_items(events: dict[str, Array], births: Array, unit: int) -> int:
    """Events on an item that nobody had touched before their time unit."""
    new = new_items(births, events["item"], events["time"] // unit * unit)
    return int((new & (events["part"] != HISTORY) if "part" in events else new).sum())


def _periods(
    samples: dict[str, Array],
    events: dict[str, Array],
    source: Array,
    config: PrepareConfig,
    facts: Ingested,
    ingested: Path,
    first_user: int,
) -> tuple[Array, Array]:
    """Split of each sample, its position in (train, valid, test, random), and whether `keep` draws it; two (n,)."""
    hashes = load_array(ingested, "user_hashes")
    if "part" in events:
        share = config.valid_share / (config.train_share + config.valid_share)
        held_out = uniform(config.seed, hashes[samples["user"] + first_user]) < share
        period = np.where(events["part"][source] == TEST, 2, held_out.astype(np.int8)).astype(np.int8)
    else:
        period = np.sum([samples["time"] >= cut for cut in facts.cuts], axis=0, dtype=np.int8)
    keep = np.asarray([config.keep.train, config.keep.valid, config.keep.test])
    if (keep == 1).all():
        drawn = np.ones(len(source), bool)
    else:
        start = samples["time"] // UNIT_SECONDS[config.time_unit]
        drawn = uniform(config.seed, KEEP_SALT, hashes[samples["user"] + first_user], start) < keep[period]
    if "random" in events:
        period[events["random"][source]] = len(SPLITS)
    return period, drawn


def _leaks(samples: dict[str, Array], times: Array, offsets: Array, unit: int) -> dict[str, int]:
    """Counts what must not be: samples whose history is another user's, ends too late or ends too early."""
    start = samples["time"] // unit * unit
    first, last, end = offsets[samples["user"]], offsets[samples["user"] + 1], samples["end"]
    foreign = (end < first) | (end > last)
    has_history, more = ~foreign & (end > first), ~foreign & (end < last)
    late = times[end[has_history] - 1] >= start[has_history]
    missed = times[end[more]] < start[more]
    return {
        "samples_checked": len(start),
        "history_of_another_user": int(foreign.sum()),
        "history_after_the_request": int(late.sum()),
        "history_left_out": int(missed.sum()),
    }

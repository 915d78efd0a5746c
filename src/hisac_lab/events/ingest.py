"""The stage `ingest`: one pass over the raw log. Checks it, numbers users and items, spreads the users over shards.

Memory is bounded by a block of the log and the vocabularies. A user's number follows the hash of the user's id, and a
shard is a range of hashes: so users stand in the same order however many shards there are, and joining the shards is
putting them one after the other.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hisac_lab.base.artifacts import Array, save_arrays
from hisac_lab.base.errors import SETTINGS, UserError
from hisac_lab.base.progress import say
from hisac_lab.config.events import PrepareConfig
from hisac_lab.events.feedback import MOST, Levels
from hisac_lab.events.items import write_items
from hisac_lab.events.records import Ingested, RawFile
from hisac_lab.events.side_columns import Category, Number, SideColumns, category
from hisac_lab.events.users import hash_ids, shard_of, write_users
from hisac_lab.sources.records import Acquired, Source
from hisac_lab.tables.columns import MIN_SECONDS, TEST, UNIT_SECONDS, logged_role
from hisac_lab.tables.layouts import LOADERS
from hisac_lab.tables.layouts.contract import RawLog, refuse_mostly_bad
from hisac_lab.tables.read import Block
from hisac_lab.tables.roles import WEIGHT, task_role
from hisac_lab.tables.vocabulary import Vocabulary

NEVER = np.iinfo(np.int64).max
BIN_BITS = 16  # times are first counted in bins of 2^16 seconds
FIRST_BIN = MIN_SECONDS >> BIN_BITS
UNKNOWN = "item has no row in the item table"
SAMPLED = 1 << 20  # events whose feedback says where levels begin, about


def ingest(config: PrepareConfig, *, raw: Path, out: Path) -> None:
    """Reads the raw log once and writes one Parquet file per shard beside the vocabularies.

    Args:
        config: The section `prepare`.
        raw: Output of the stage `acquire`.
        out: An empty directory.

    Raises:
        UserError: One line that names the file, the line or row group, the field, the value and a hint.
    """
    acquired = Acquired.open(raw)
    log = LOADERS[acquired.layout](raw, config)
    _check_answers(log, config, acquired.layout)
    table = log.items() if log.items else None
    users, items = Vocabulary(), _described_items(table, raw)
    described = None if table is None or config.items_without_text == "keep" else has_text(table)
    pass_ = _Pass(log, config, users, items, out, described)
    for block in log.blocks():
        pass_.add(block)
    pass_.close()
    _check_something_is_left(pass_, items, raw)
    hashes, names = pass_.hashes(), users.texts
    by_hash = [("hash", "ascending"), ("user", "ascending")]
    order = pc.sort_indices(pa.table({"hash": hashes, "user": names}), sort_keys=by_hash).to_numpy()
    names = names.take(pa.array(order)).to_pandas().astype(str)
    user_codes = np.empty(len(order), np.int32)
    user_codes[order] = np.arange(len(order), dtype=np.int32)
    pd.DataFrame({"user": names}).to_parquet(out / "users.parquet", index=False)
    item_order, fields, rows = write_items(log, table, items, out)
    item_codes = np.empty(len(item_order), np.int32)
    item_codes[item_order] = np.arange(len(item_order), dtype=np.int32)
    births = pass_.births(len(items))[item_order]
    save_arrays(
        out, {"user_codes": user_codes, "user_hashes": hashes[order], "item_codes": item_codes, "births": births}
    )
    cuts = _cuts(pass_, config, out)
    user = write_users(log, names, out)
    logged, request = _logged(pass_, config, cuts[0], out)
    labeled, threshold = pass_.labels is not None, _threshold(pass_, log, config, raw)
    if not labeled and config.negatives_by != "uniform":
        save_arrays(out, _timeline(out, config, item_codes))
    shard_users = np.bincount(shard_of(hashes, len(config.shards)), minlength=len(config.shards))
    Ingested(
        source=Source(dataset=acquired.dataset, layout=acquired.layout, files=acquired.files),
        raw=pass_.files,
        users=len(users),
        items=len(items),
        items_described=rows,
        events=pass_.rows,
        events_outside=pass_.outside,
        labeled=labeled,
        positive_from=threshold,
        feedback=None if threshold is None else _levels(pass_, config, threshold, cuts[0], out),
        extras=list(log.extras),
        roles=sorted(set(pass_.schema.names) - {"user", "item", "time", "tick", "row"}),
        fields=fields,
        **{name: value for name, value in (("numbers", list(log.numbers)), ("logged", logged)) if value},
        **{name: side for name, side in (("user", user), ("request", request)) if side.width},
        cuts=[int(cut) for cut in cuts],
        shard_begins=[0, *np.cumsum(shard_users).tolist()],
        **({"untimed": True} if log.untimed else {}),
        **({"left_out": pass_.left_out} if pass_.left_out else {}),
    ).save(out)
    say(f"ingest: {pass_.rows} events of {len(users)} users on {len(items)} items")


def _check_answers(log: RawLog, config: PrepareConfig, layout: str) -> None:
    """Refuses further answers and weights that the layout does not give."""
    asked = {task_role(name): f"prepare.tasks.{name}" for name in config.tasks}
    if config.weight is not None:
        asked[WEIGHT] = "prepare.weight"
    for role, key in asked.items():
        if role not in log.extras:
            what = f"the layout {layout!r} has no such column"
            raise UserError(SETTINGS, what, "leave it out, or bring the log as an own one", key)


def _check_something_is_left(pass_: _Pass, items: Vocabulary, raw: Path) -> None:
    for reason, count in pass_.left_out.items():
        say(f"ingest: {count:,} rows are left out: {reason}")
    refuse_mostly_bad(raw, pass_.log.left_out, pass_.good)
    if not pass_.rows:
        hint = "fix prepare.since and prepare.until, or what leaves events out"
        raise UserError(raw, "no event is left", hint, "time")
    if len(items) < 2:
        what = f"the log has one item ({items.since(0)[0]!r}): there is nothing to rank"
        raise UserError(raw, what, "give a log of more items", "item")


def _described_items(table: pd.DataFrame | None, raw: Path) -> Vocabulary:
    """The items of the item table, in its order."""
    items = Vocabulary(() if table is None else table["item"])
    if table is not None and len(items) < len(table):
        twice = table["item"][table["item"].duplicated()].iloc[0]
        raise UserError(raw, f"item {twice!r} has two rows in the item table", "keep one of them", "item")
    return items


def has_text(table: pd.DataFrame) -> Array:
    """Whether the text of each item says anything; (items,) bool."""
    said: Array = table["text"].str.strip().ne("").to_numpy()
    return said


class _Pass:
    """The pass over the blocks: what is counted and where rows go."""

    def __init__(
        self,
        log: RawLog,
        config: PrepareConfig,
        users: Vocabulary,
        items: Vocabulary,
        out: Path,
        described: Array | None,
    ) -> None:
        self.described, self._left_out = described, Counter[str]()
        self.config, self.log, self.users, self.items, self.out = config, log, users, items, out
        self.closed = log.complete and log.items is not None
        self.files: list[RawFile] = []
        self.words = {name: Vocabulary() for name, column in log.logged.items() if column.codes is None}
        self.rows = self.outside = self.good = self._seen = 0
        self.labels: tuple[float, float] | None = None
        self.only_zero_one = True
        self.published_test: int | None = None
        self.bins = np.zeros(((1 << 32) >> BIN_BITS) - FIRST_BIN, np.int64)
        self._births = np.full(1024, NEVER)
        self._hashes = np.zeros(0, np.uint64)
        self.schema = pa.schema([])
        self._stack = ExitStack()
        self._writers: list[pq.ParquetWriter] = []

    def add(self, block: Block) -> None:
        path = block.path.as_posix()
        if not self.files or self.files[-1].path != path:
            layout = None if block.layout is None else dataclasses.asdict(block.layout)
            self.files.append(RawFile(path=path, first_row=self._seen, layout=layout, names=dict(block.names)))
        columns = dict(block.columns)
        row = self.files[-1].first_row + block.positions(np.arange(len(block)))
        self._seen = int(row[-1]) + 1
        self.good += len(block)
        columns["row"] = row
        user, item = self.users.encode(columns["user"]), self._numbered(block)
        inside = self._inside(block, columns["time"])
        columns |= {"user": user, "item": item}
        for name, words in self.words.items():
            columns[logged_role(name)] = words.encode(columns[logged_role(name)].dictionary_encode())
        self.outside += int((~inside).sum())
        self._left_out[UNKNOWN] += int((inside & (item < 0)).sum())
        inside &= item >= 0
        if self.described is not None:
            told = np.r_[self.described, False][np.minimum(item, len(self.described))]
            self._left_out["item has no text"] += int((inside & ~told).sum())
            inside &= told
        if not inside.all():
            columns = {role: values[inside] for role, values in columns.items()}
        if not len(columns["row"]):
            return
        self._count(columns)
        self._write(columns)

    def _numbered(self, block: Block) -> Array:
        """Numbers of a block's items; -1 for one that the item table had to have and that may be left out."""
        items = block.columns["item"]
        if not self.closed:
            return self.items.encode(items)
        numbers: Array = self.items.find(items.dictionary.to_pylist())[items.indices.to_numpy()]
        if self.config.unknown_items == "refuse" and (numbers < 0).any():
            bad = int(np.argmax(numbers < 0))
            what = f"item {items[bad].as_py()!r} has no row in the item table, so it can have no embedding"
            raise block.refuse(bad, "item", what, "add it there, or set prepare.unknown_items: drop")
        return numbers

    @property
    def left_out(self) -> dict[str, int]:
        """Rows that were left out so far because of what they hold, by reason."""
        return dict(sorted((self._left_out + Counter(self.log.left_out)).items()))

    def _inside(self, block: Block, time: Array) -> Array:
        """Which events lie inside the bounds; those of the publisher drop, those of the user may refuse."""
        inside = np.ones(len(time), bool)
        if self.log.window is not None:
            inside &= (time >= self.log.window[0]) & (time < self.log.window[1])
        since = MIN_SECONDS if self.config.since is None else self.config.since
        until = NEVER if self.config.until is None else self.config.until
        ours = (time >= since) & (time < until)
        if self.config.outside == "refuse" and not ours.all():
            bad = int(np.argmin(ours))
            side = f"before prepare.since {since}" if time[bad] < since else f"not before prepare.until {until}"
            raise block.refuse(bad, "time", f"value {time[bad]} is {side}", "fix it or set prepare.outside: drop")
        return inside & ours

    def _count(self, columns: dict[str, Any]) -> None:
        self.rows += len(columns["row"])
        time, item = columns["time"], columns["item"]
        if "part" in columns:
            test = time[columns["part"] == TEST]
            if len(test):
                self.published_test = min(
                    int(test.min()), NEVER if self.published_test is None else self.published_test
                )
        self.bins += np.bincount((time >> BIN_BITS) - FIRST_BIN, minlength=len(self.bins))
        if len(self._births) < len(self.items):
            more = max(len(self.items), 2 * len(self._births)) - len(self._births)
            self._births = np.concatenate([self._births, np.full(more, NEVER)])
        np.minimum.at(self._births, item, time)
        if "label" in columns:
            label = columns["label"]
            low, high = float(np.nanmin(label)), float(np.nanmax(label))
            limits = self.labels or (low, high)
            self.labels = (min(limits[0], low), max(limits[1], high))
            self.only_zero_one &= bool(np.isin(label, (0.0, 1.0)).all())

    def _write(self, columns: dict[str, Any]) -> None:
        """Appends each user's rows to the file of the user's shard."""
        table = pa.table({role: pa.array(values) for role, values in columns.items()})
        if not self._writers:
            self.schema = table.schema
            for shard in self.config.shards:
                path = self.out / f"events-{shard}.parquet"
                writer = pq.ParquetWriter(path, self.schema, **_format(self.schema.names))
                self._writers.append(self._stack.enter_context(writer))
        place = shard_of(self.hashes()[columns["user"]], len(self.config.shards))
        for index, writer in enumerate(self._writers):
            chosen = np.flatnonzero(place == index)
            if len(chosen):
                writer.write_table(table if len(chosen) == len(place) else table.take(pa.array(chosen)))

    def hashes(self) -> Array:
        """Hash of each user so far, by first-met number; (users,) uint64."""
        if len(self._hashes) < len(self.users):
            self._hashes = np.concatenate([self._hashes, hash_ids(self.users.since(len(self._hashes)))])
        return self._hashes

    def births(self, count: int) -> Array:
        """Time of each item's first event, by first-met number; (count,) int64."""
        births = self._births[:count]
        return np.concatenate([births, np.full(count - len(births), NEVER)])

    def close(self) -> None:
        self._stack.close()


def _format(roles: list[str]) -> dict[str, Any]:
    """How events are written for the next stage, which reads them once: numbers that rise by their steps."""
    rising = ("row", "time")
    return {
        "compression": "none",
        "write_statistics": False,
        "use_dictionary": [role for role in roles if role not in (*rising, "user", "item")],
        "column_encoding": dict.fromkeys(rising, "DELTA_BINARY_PACKED"),
    }


def _threshold(pass_: _Pass, log: RawLog, config: PrepareConfig, raw: Path) -> float | None:
    if pass_.labels is None:
        return None
    usual = 1.0 if pass_.only_zero_one else log.positive_from
    threshold = config.positive_from if config.positive_from is not None else usual
    low, high = pass_.labels
    if threshold is None:
        what = f"is null, and the feedback runs from {low:g} to {high:g}"
        raise UserError(SETTINGS, what, "say from where it is positive", "prepare.positive_from")
    if not low < threshold <= high:
        only = "positive" if threshold <= low else "negative"
        what = f"with {threshold:g} every event is {only} (the feedback runs from {low:g} to {high:g})"
        hint = "set a threshold inside that range"
        if low == high:
            hint = "set prepare.columns.label: null (then negatives are drawn), or give a log with negatives"
        raise UserError(SETTINGS, what, hint, "prepare.positive_from")
    return threshold


def _levels(pass_: _Pass, config: PrepareConfig, threshold: float, cut: int, out: Path) -> Levels:
    """Levels of the feedback: its values before `cut`, or, where they are many, shares of a sample of those events."""
    values, step = np.zeros(0), 1 + pass_.rows // SAMPLED
    for time, label in _stream(out, config, "time", "label"):
        values = np.union1d(values, label[(time < cut) & ~np.isnan(label)])
        if len(values) > MOST:
            rows = _stream(out, config, "time", "label", "row")
            sample = [label[(time < cut) & ~np.isnan(label) & (row % step == 0)] for time, label, row in rows]
            values = np.concatenate(sample)
            break
    return Levels.cut(values, threshold, config.columns.label_values)


def _cuts(pass_: _Pass, config: PrepareConfig, out: Path) -> tuple[int, int]:
    """Begin of validation and test, on a bound of the time unit: the exact order statistics of the event times."""
    unit = UNIT_SECONDS[config.time_unit]
    if pass_.published_test is not None:
        return pass_.published_test, pass_.published_test
    named = config.cuts or pass_.log.cuts
    if named is not None:
        return named[0] // unit * unit, named[1] // unit * unit
    total = int(pass_.bins.sum())
    ends = np.cumsum(pass_.bins)
    ranks = [int(share * total) for share in (config.train_share, config.train_share + config.valid_share)]
    bins = np.searchsorted(ends, ranks, side="right")
    begins = (bins + FIRST_BIN) << BIN_BITS
    inside: tuple[list[Array], list[Array]] = [], []
    for (times,) in _stream(out, config, "time"):
        for begin, kept in zip(begins, inside, strict=True):
            kept.append(times[(times >= begin) & (times < begin + (1 << BIN_BITS))])
    first, second = (
        int(np.partition(np.concatenate(kept), at)[at]) // unit * unit
        for kept, at in zip(inside, ranks - (ends - pass_.bins)[bins], strict=True)
    )
    return first, second


def _stream(out: Path, config: PrepareConfig, *names: str) -> Iterator[list[Array]]:
    """These columns of all events, some at a time; items by their first-met number."""
    for shard in config.shards:
        file = pq.ParquetFile(out / f"events-{shard}.parquet")
        for batch in file.iter_batches(1 << 20, columns=list(names), use_threads=False):
            yield [batch.column(name).to_numpy() for name in names]


def _logged(pass_: _Pass, config: PrepareConfig, cut: int, out: Path) -> tuple[dict[str, int], SideColumns]:
    """How many codes each logged column has, and those of the request; both by what is before `cut`.

    Writes the codes of the words as first met, an array `words_PLACE` for each column that has words.
    """
    sizes, fields, numbers = dict[str, int](), list[Category](), list[Number]()
    for place, (name, column) in enumerate(pass_.log.logged.items()):
        role = logged_role(name)
        if column.codes is None:
            words = pass_.words[name]
            counts = np.zeros(len(words), np.int64)
            for time, value in _stream(out, config, "time", role):
                counts += np.bincount(value[time < cut], minlength=len(words))
            field = category(name, words.ids, counts)
            save_arrays(out, {f"words_{place}": field.codes(words.ids)})
            sizes[name] = 1 + len(field.values)
            fields += [field] if column.request else []
            continue
        sizes[name] = column.codes
        if column.request:
            seen = (value[time < cut] for time, value in _stream(out, config, "time", role))
            numbers.append(Number.measured(name, seen))
    return sizes, SideColumns(fields=tuple(fields), numbers=tuple(numbers))


def _timeline(out: Path, config: PrepareConfig, item_codes: Array) -> dict[str, Array]:
    """All events' items in time order, those of one second by item: who touched them is not in it."""
    blocks = list(_stream(out, config, "time", "item"))
    times = np.concatenate([times for times, _ in blocks])
    items = item_codes[np.concatenate([items for _, items in blocks])]
    order = np.lexsort((items, times))
    return {"timeline_times": times[order], "timeline_items": items[order]}

"""The commands `score` and `export`: tables for many users or all items, as Parquet."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hisac_lab.base.errors import UserError, explain_os_error
from hisac_lab.cli.paths import ARTIFACTS, EXPORTS

if TYPE_CHECKING:
    import pyarrow as pa

    from hisac_lab.base.artifacts import Array
    from hisac_lab.events.store import EventStore
    from hisac_lab.inference.request import Asked
    from hisac_lab.serving.engine import Engine

export = typer.Typer(no_args_is_help=True, help="Write item vectors, semantic IDs or user states as Parquet.")
Bundle = Annotated[Path | None, typer.Option(help="A folder with a bundle, in place of the version serve.alias names.")]
Out = Annotated[Path | None, typer.Option(help="The file; by default in exports/.")]
At = Annotated[int | None, typer.Option(min=0, help="Time of the requests, seconds; by default right after the log.")]
ALL = "all"


def score(
    users: Annotated[
        str, typer.Argument(help="all; or a table with a column user; or one of events: user, item, time, feedback.")
    ],
    top: Annotated[int, typer.Option(min=1, help="Items per user.")] = 100,
    candidates: Annotated[
        Path | None, typer.Option(help="A table with a column item; by default every item of the log so far.")
    ] = None,
    seen: Annotated[bool, typer.Option("--seen", help="Items of a user's history are candidates, too.")] = False,
    at: At = None,
    out: Out = None,
    bundle: Bundle = None,
) -> None:
    """Rank candidates for many users with the champion and write the best of each as Parquet."""
    import numpy as np
    import pyarrow as pa

    from hisac_lab.events.store import EventStore
    from hisac_lab.serving import bulk

    engine = _engine(bundle)
    people, count, moment = _people(engine, None if users == ALL else _table(users), at)
    if candidates is None:
        slate = bulk.alive(engine, EventStore.open(ARTIFACTS.prepare), moment)
    else:
        slate = _slate(engine, candidates)
    if not len(slate):
        raise UserError(candidates or ARTIFACTS.prepare, "names no item that the model knows", "give other candidates")
    names, begin, left_out, rows = np.array(list(engine.reader.number)), time.perf_counter(), 0, 0
    target = out or EXPORTS / "scores.parquet"
    columns = {
        "user": pa.string(),
        "rank": pa.int32(),
        "item": pa.string(),
        "score": pa.float32(),
        "version": pa.string(),
    }
    with _parquet(target, pa.schema(list(columns.items())), engine, {"time": str(moment), "top": str(top)}) as write:
        for best in bulk.Bulk(engine, slate, moment, top, seen).best(people):
            there = best.items >= 0
            row, rank = np.nonzero(there)
            write(
                user=np.array(best.users, str)[row],
                rank=(rank + 1).astype(np.int32),
                item=names[best.items[there]],
                score=best.scores[there],
                version=np.full(len(row), engine.version),
            )
            left_out, rows = left_out + best.left_out, rows + len(row)
    rate = count / (time.perf_counter() - begin)
    print(f"{target}: {rows:,} rows of {count - left_out:,} users, {len(slate):,} candidates; {rate:,.1f} users/s")
    if left_out:
        print(f"left out: {left_out:,} users without an event that the model knows; rank by popularity for them")


@export.command()
def items(out: Out = None, bundle: Bundle = None) -> None:
    """Item vectors of the model: what its candidates are compared by."""
    import numpy as np
    import pyarrow as pa
    import torch

    from hisac_lab.models.backbone import Backbone

    engine = _engine(bundle)
    if not isinstance(engine.model, Backbone):
        what = f"version {engine.version} is of a kind without item vectors ({engine.config.kind})"
        raise UserError("export items", what, "export those of a neural model")
    names, encoder = np.array(list(engine.reader.number)), engine.model.encoder
    kind = pa.list_(pa.float32(), encoder.ids.embedding_dim)
    schema = pa.schema([("item", pa.string()), ("vector", kind)])
    target = out or EXPORTS / "items.parquet"
    with _parquet(target, schema, engine, {}) as write, torch.inference_mode():
        for begin in range(0, len(names), 1 << 16):
            part = torch.arange(begin, min(begin + (1 << 16), len(names)))
            vectors = encoder(part).numpy().ravel()
            write(item=names[begin : begin + len(part)], vector=pa.FixedSizeListArray.from_arrays(vectors, type=kind))
    print(f"{target}: vectors of {len(names):,} items")


@export.command()
def ids(out: Out = None, bundle: Bundle = None) -> None:
    """Semantic IDs of all items that the model knows, as its bundle holds them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from hisac_lab.cli.items import ids_of
    from hisac_lab.inference.records import ModelFile

    folder, _ = _bundle(bundle)
    table, engine = pq.read_table(ids_of(folder)), _engine(bundle)
    rows = zip(*(table[name].to_pylist() for name in table.column_names[1:]), strict=True)
    codes = [row if row[0] >= 0 else None for row in rows]  # -1: without one
    schema = pa.schema([("item", pa.string()), ("semantic_id", pa.string()), ("codes", pa.list_(pa.int32()))])
    target = out or EXPORTS / "ids.parquet"
    with _parquet(target, schema, engine, {"codebook": ModelFile.open(folder).codebook}) as write:
        write(item=table["item"], semantic_id=[code and "-".join(map(str, code)) for code in codes], codes=codes)
    print(f"{target}: semantic IDs of {sum(code is not None for code in codes):,} of {len(codes):,} items")


@export.command()
def states(at: At = None, out: Out = None, bundle: Bundle = None) -> None:
    """States of all users of the prepared log, as the server keeps them."""
    import pyarrow as pa

    from hisac_lab.base.progress import track
    from hisac_lab.events.store import EventStore
    from hisac_lab.serving import bulk

    engine, log = _engine(bundle), EventStore.open(ARTIFACTS.prepare)
    if not engine.stores:
        what = f"version {engine.version} reads stored instances, which no state holds"
        raise UserError("export states", what, "serve it with the history in each request")
    moment, count, rows = _moment(log, at), len(log.user_ids), 0
    people = bulk.from_log(engine, log, track(range(count), count, "states", "users"), moment)
    schema = pa.schema([("user", pa.string()), ("time", pa.int64()), ("events", pa.int32()), ("state", pa.binary())])
    target = out or EXPORTS / "states.parquet"
    with _parquet(target, schema, engine, {"time": str(moment)}) as write:
        for group in bulk.encoded(engine, people):
            write(
                user=[user for user, _, _ in group],
                time=[moment] * len(group),
                events=[events for _, events, _ in group],
                state=[state for _, _, state in group],
            )
            rows += len(group)
    print(f"{target}: states of {rows:,} of {count:,} users at {moment}")


def _bundle(bundle: Path | None) -> tuple[Path, str]:
    """Folder and version of what answers."""
    from hisac_lab.cli.params import load_params
    from hisac_lab.registry.aliased import Aliased

    if bundle is not None:
        return bundle, bundle.resolve().name
    params = load_params()
    aliased = Aliased(params.mlflow.tracking_uri, params.promotion.product, params.serve.alias)
    number = aliased.number()
    return aliased.bundle(number), number


def _engine(bundle: Path | None) -> Engine:
    from hisac_lab.base import arithmetic
    from hisac_lab.config.base import load_section
    from hisac_lab.config.compute import ComputeConfig
    from hisac_lab.serving.engine import Engine

    compute = load_section("compute", ComputeConfig)
    arithmetic.choose(compute.arithmetic, compute.math_threads)
    return Engine(*_bundle(bundle))


def _people(engine: Engine, table: Path | None, at: int | None) -> tuple[Iterator[tuple[str, Asked]], int, int]:
    """Requests of the users that a table names or brings, or of all of the log; how many; and their time."""
    from hisac_lab.base.progress import track
    from hisac_lab.events.store import EventStore
    from hisac_lab.serving import bulk
    from hisac_lab.serving.histories import ITEM, TIME, extent, histories, names_in

    if table is not None and {ITEM, TIME} <= set(names_in(table)):
        count, last = extent(table)
        moment = last + 1 if at is None else at
        people = track(histories(table), count, "score", "users")
        return bulk.from_histories(engine, people, moment), count, moment
    log = EventStore.open(ARTIFACTS.prepare)
    moment, numbers = _moment(log, at), _users(log, table)
    shown = track(numbers, len(numbers), "score", "users")
    return bulk.from_log(engine, log, shown, moment), len(numbers), moment


def _table(path: str) -> Path:
    if not Path(path).is_file():
        raise UserError(path, "does not exist", f"name a table with a column user, or write {ALL}", "USERS")
    return Path(path)


def _moment(log: EventStore, at: int | None) -> int:
    return int(log.times[:].max(initial=0)) + 1 if at is None else at


def _users(log: EventStore, table: Path | None) -> Sequence[int]:
    """Numbers of the users that a table names; all without one."""
    from hisac_lab.base.progress import say
    from hisac_lab.serving.histories import USER, ids

    if table is None:
        return range(len(log.user_ids))
    known = {str(user): number for number, user in enumerate(log.user_ids)}
    wanted = list(dict.fromkeys(ids(table, USER)))
    there = [known[user] for user in wanted if user in known]
    if not there:
        raise UserError(table, "names no user of the log", "give their events too: user, item, time", USER)
    if len(there) < len(wanted):
        say(f"{table}: {len(wanted) - len(there):,} of {len(wanted):,} users are not in the log")
    return there


def _slate(engine: Engine, table: Path) -> Array:
    """Numbers of the items that a table names, in its order."""
    import numpy as np

    from hisac_lab.base.progress import say
    from hisac_lab.serving.histories import ITEM, ids

    wanted = list(dict.fromkeys(ids(_table(str(table)), ITEM)))
    known = [engine.reader.number[item] for item in wanted if item in engine.reader.number]
    if len(known) < len(wanted):
        say(f"{table}: {len(wanted) - len(known):,} of {len(wanted):,} items are unknown to the model")
    return np.array(known, np.int64)


@contextmanager
def _parquet(path: Path, schema: pa.Schema, engine: Engine, facts: Mapping[str, str]) -> Iterator[Any]:
    """Gives a function that writes a row group; the file is there whole, when the block ends well, or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    told = {"bundle": engine.digest, "version": engine.version, **facts}
    schema = schema.with_metadata({f"hisac_lab.{name}": value for name, value in told.items()})
    draft = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with pq.ParquetWriter(draft, schema) as writer:
            yield lambda **columns: writer.write_table(pa.table(columns, schema))
        draft.replace(path)
    except OSError as error:
        raise explain_os_error(error, path) from error
    finally:
        draft.unlink(missing_ok=True)

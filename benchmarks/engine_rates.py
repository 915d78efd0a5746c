"""What the server's parts take without a server: states filled, made anew and extended, everybody scored."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from workload import NOW, Workload

from hisac_lab.base import arithmetic
from hisac_lab.config.model import BackboneConfig
from hisac_lab.inference.bundle import save_model
from hisac_lab.inference.records import VocabularyFile
from hisac_lab.models.catalog import build
from hisac_lab.models.path_votes import VotesConfig
from hisac_lab.serving.bulk import Bulk, from_histories
from hisac_lab.serving.engine import Engine
from hisac_lab.serving.fill import encode_all
from hisac_lab.serving.states import SQLiteStates, UserHistory

VOTES = VotesConfig(half_lives=(1.0, 7.0, 30.0), into="tower")
BULK, CATALOG = 256, 1_682
"""Users of the bulk measure, and items, as many as MovieLens-100K has."""


def history(load: Workload, row: int) -> UserHistory:
    """A user's events as the log would have them."""
    items = [str(item) for item in load.items[row].tolist()]
    return UserHistory(items, (NOW - load.ages[row]).tolist(), [None] * len(items))


def fill(states: SQLiteStates, engine: Engine, load: Workload) -> tuple[float, float]:
    """Histories and states into the store; users per second, and bytes of a packed state."""
    states.fill((str(row), history(load, row)) for row in range(len(load.items)))
    users = [str(row) for row in range(len(load.items))]
    begin = time.perf_counter()
    for _ in encode_all(engine, states, users, NOW):
        pass
    seconds = time.perf_counter() - begin
    sizes = [len(states.state(user, engine.digest) or b"") for user in users]
    return len(users) / seconds, float(np.mean(sizes))


def encode_ms(engine: Engine, load: Workload) -> float:
    """Median milliseconds of one history, as it lies in the store, to a state."""
    times = []
    for row in range(16):
        packed = history(load, row).pack()
        begin = time.perf_counter()
        request = UserHistory.unpack(packed, str(row)).request() | {"time": NOW, "candidates": [""]}
        engine.encode([engine.reader.read(0, request)])
        times.append(1e3 * (time.perf_counter() - begin))
    return float(np.median(times))


def extend_us(home: Path, load: Workload) -> tuple[float, float]:
    """Median microseconds of one more event into a state of votes that fade, and of encoding its history anew."""
    home.mkdir()
    space, limit = load.space(), 2 * load.items.shape[1]
    save_model(home, build(VOTES, BackboneConfig(features=("length",)), space, 0), VOTES, space)
    VocabularyFile(items=[str(item) for item in range(len(load.semantic))], history_limit=limit).save(home)
    engine, extended, anew = Engine(home, "votes"), list[float](), list[float]()
    for row in range(32):
        whole, about = history(load, row), {"candidates": [""]}
        old = engine.reader.read(0, whole.part(slice(len(whole) - 1)).request() | about | {"time": NOW - 1})
        asked = engine.reader.read(0, whole.request() | about | {"time": NOW})
        with arithmetic.one_thread():
            (kept,) = engine.encode([old])
            marks = [time.perf_counter()]
            engine.extend(kept, asked, 1)
            marks.append(time.perf_counter())
            engine.encode([asked])
            marks.append(time.perf_counter())
        extended.append(1e6 * (marks[1] - marks[0]))
        anew.append(1e6 * (marks[2] - marks[1]))
    return float(np.median(extended)), float(np.median(anew))


def score_rate(engine: Engine, load: Workload) -> float:
    """Users per second of `hisac-lab score`: the best 100 of as many items as the demo has."""
    people = from_histories(engine, ((str(row), history(load, row)) for row in range(len(load.items))), NOW)
    begin = time.perf_counter()
    for _ in Bulk(engine, np.arange(1, CATALOG + 1), NOW, top=100).best(people):
        pass
    return len(load.items) / (time.perf_counter() - begin)

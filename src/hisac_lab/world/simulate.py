"""Simulates the world, user by user, into Parquet: the log that models see, and the truth beside it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hisac_lab.base.artifacts import Array
from hisac_lab.base.progress import track
from hisac_lab.config.world import World, WorldConfig, resolve
from hisac_lab.world import scene, truth
from hisac_lab.world.catalog import make_catalog, write_catalog
from hisac_lab.world.life import Life, make_life
from hisac_lab.world.oracle import Oracle
from hisac_lab.world.policy import FAMILIAR, SHARES, Policy

START = 1_577_836_800
"""The first second of the log: 2020-01-01."""
DAY = 86_400
GROUP_ROWS = 1 << 19
"""Rows of a row group, and of the buffer that is filled before it is written."""
PART_GROUPS = 8
"""Row groups of a file."""
Types: TypeAlias = dict[str, type[np.number[Any]]]
EVENTS: Types = {
    "user": np.int32,
    "item": np.int32,
    "time": np.int64,
    "click": np.int8,
    "position": np.int8,
    "propensity": np.float32,
}
TRUTH: Types = {"probability": np.float32, "probability_recent": np.float32, "old": np.int8}


def events(world: World) -> Types:
    """Columns of the log."""
    return EVENTS | (dict.fromkeys(scene.COLUMNS, np.int8) if world.scene else {})


def simulate(config: WorldConfig, *, out: Path) -> dict[str, Any]:
    """Writes the log, its truth and the items of a world.

    `events/part-*.parquet`: one row per exposure, by user and time; those of one user and time are a slate, from
    position 0 down; with scenes, their columns too. `truth/part-*.parquet`: the same rows in the same order:
    `probability` and `probability_recent` as `truth` defines them, and `old`: whether the request is about a subtopic
    it was not about in the `old_after` exposures before. `items.parquet` and `vectors.npy`: one row per item.

    Memory is that of the items, one user and one row group, whatever the number of events.

    Args:
        config: The section `acquire.world`.
        out: An empty directory.

    Returns:
        Facts for the manifest: the settings in full, the policy, sizes, and the AUCs of the truth on the whole log
        (`oracle`) and on the last fifth of its time (`oracle_last_fifth`).
    """
    world = resolve(config)
    simulator = Simulator(world)
    write_catalog(simulator.catalog, world, out)
    late = START + world.days * DAY * 4 // 5
    all_days, last_fifth = Oracle(simulator.examined), Oracle(simulator.examined)
    files_of = {"events": events(world), "truth": TRUTH}
    for folder in files_of:
        (out / folder).mkdir()
    groups = enumerate(simulator.blocks(GROUP_ROWS))
    total = -(-world.users * world.events_per_user // GROUP_ROWS)
    with ExitStack() as files:
        writers: list[pq.ParquetWriter] = []
        for number, columns in track(groups, total, "simulate", "row groups"):
            if number % PART_GROUPS == 0:
                files.close()
                name = f"part-{number // PART_GROUPS:05d}.parquet"
                writers = [
                    files.enter_context(pq.ParquetWriter(out / folder / name, _schema(types), compression="zstd"))
                    for folder, types in files_of.items()
                ]
            for writer, types in zip(writers, files_of.values(), strict=True):
                writer.write_table(pa.table({one: columns[one] for one in types}), row_group_size=GROUP_ROWS)
            all_days.add(columns)
            last_fifth.add(columns, columns["time"] >= late)
    return {
        "world": {"preset": config.preset, **_said(world)},
        "policy": {**SHARES, "familiar_items": FAMILIAR},
        "examined": simulator.examined.tolist(),
        **({"rich": True} if world.scene else {}),
        "recent": truth.RECENT,
        "from": START,
        "to": START + world.days * DAY,
        "oracle": all_days.facts(),
        "oracle_last_fifth": {"from": late, **last_fifth.facts()},
    }


def _said(world: World) -> dict[str, Any]:
    """The settings in full; a world without scenes says nothing of them, as it did before there were any."""
    return {name: value for name, value in asdict(world).items() if world.scene or name != "scene"}


class Simulator:
    """The items of a world, and the log of any of its users.

    Args:
        world: The settings in full.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.catalog = make_catalog(world)
        self.examined = truth.examined(world)
        self._unrevealed = truth.Unrevealed(self.catalog, world)
        self._place = np.argsort(self.catalog.number, kind="stable")

    def user(self, number: int) -> dict[str, Array]:
        """The log of one user and its truth: columns of `events_per_user` rows.

        It depends on the seed, the number and the settings except `users`.
        """
        world, catalog = self.world, self.catalog
        requests, slate = world.requests, world.slate
        random = np.random.default_rng([world.seed, 2, number])
        life, times, policy, items = self._shown(random)
        again = np.ones(items.size, bool)
        again[np.unique(items, return_index=True)[1]] = False

        plain = truth.logits(catalog, world, items, times, again.reshape(items.shape))
        rich: dict[str, Array] = {}
        if world.scene:
            taste = scene.tastes(world, number)
            plain = plain + taste[scene.of_times(times)][:, None]
            rich = scene.columns(world, number, times)
        interest, focus = truth.interest(catalog, life, items)
        full = truth.sigmoid(plain + truth.guided(catalog, life, items) + interest)
        probability = (self.examined * full).astype(np.float32)
        clicks = random.random(items.shape) < probability
        is_revealed = focus | truth.revealed(catalog.subtopic[items], clicks)
        told = truth.both_steps_recent(catalog, life, items, clicks)

        def seen(knows: bool | None = None) -> Array:
            logit = plain + truth.guided(catalog, life, items, knows)
            unrevealed = self._unrevealed.probability(logit, life, items)
            return np.where(is_revealed, truth.sigmoid(logit + interest), unrevealed)

        recent = seen()
        if not told.all():
            recent[~told] = (seen(knows=True)[~told] + seen(knows=False)[~told]) / 2
        columns = {
            "user": np.full(items.size, number),
            "item": catalog.number[items],
            "time": np.repeat(times, slate),
            "click": clicks,
            "position": np.tile(np.arange(slate), requests),
            "propensity": policy.propensities(items),
            "probability": probability,
            "probability_recent": self.examined * recent,
            "old": np.repeat(life.returned, slate),
            **rich,
        }
        return {name: columns[name].ravel().astype(kind) for name, kind in (events(world) | TRUTH).items()}

    def chances(self, number: int, time: int, items: Array, *, since: int | None = None, shown: bool = False) -> Array:
        """True chance that a user clicks, at a time, on items that they look at.

        Args:
            number: The user.
            time: Seconds; the state of the user is that of their first request from then on, the last if there is none.
            items: Numbers of items as the log has them; (k,).
            since: From then on the user saw other slates than the log's; None: from `time` on.
            shown: Whether these items were on those slates.

        Returns:
            (k,); a place on a slate is looked at with the chance `examined` has of it, on top.
        """
        catalog = self.catalog
        life, times, _, slates = self._shown(np.random.default_rng([self.world.seed, 2, number]))
        request = min(int(np.searchsorted(times, time)), len(times) - 1)
        logged = request if since is None else min(int(np.searchsorted(times, since)), request)
        asked = self._place[items]
        again = np.isin(asked, slates[:logged])[None] | shown
        plain = truth.logits(catalog, self.world, asked[None], np.array([time]), again)
        if life.guided is not None:
            plain = plain + truth.guided(catalog, life, np.broadcast_to(asked, (len(times), len(asked))))[request]
        if self.world.scene:
            plain = plain + scene.tastes(self.world, number)[scene.of_times(np.array(time))]
        chances: Array = truth.sigmoid(plain + truth.interest(catalog, life, asked[None], np.array([request]))[0])[0]
        return chances

    def _shown(self, random: np.random.Generator) -> tuple[Life, Array, Policy, Array]:
        """A user's interests, the times of their requests (R,), the policy toward them and its slates (R, slate)."""
        world, requests = self.world, self.world.requests
        life = make_life(random, self.catalog, world)
        # Distinct seconds: a request is told by its user and time.
        seconds = np.sort(random.integers(0, world.days * DAY - requests, requests)) + np.arange(requests)
        policy = Policy(random, self.catalog, life)
        return life, START + seconds, policy, policy.slates(world.slate)

    def blocks(self, rows: int) -> Iterator[dict[str, Array]]:
        """The columns of all users one after the other, `rows` at a time, in one buffer that is used again."""
        world = self.world
        buffer = {name: np.empty(rows, kind) for name, kind in (events(world) | TRUTH).items()}
        filled = 0
        for number in range(world.users):
            log, done = self.user(number), 0
            while done < world.events_per_user:
                take = min(rows - filled, world.events_per_user - done)
                for name, column in log.items():
                    buffer[name][filled : filled + take] = column[done : done + take]
                filled, done = filled + take, done + take
                if filled == rows:
                    yield buffer
                    filled = 0
        if filled:
            yield {name: column[:filled] for name, column in buffer.items()}


def _schema(types: Types) -> pa.Schema:
    return pa.schema([(name, pa.from_numpy_dtype(kind)) for name, kind in types.items()])

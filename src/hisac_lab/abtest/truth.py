"""The simulated world's own click probabilities: where the log comes from it, nothing has to be fitted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hisac_lab.abtest.people import DAY, Population
from hisac_lab.base.artifacts import MANIFEST, Array
from hisac_lab.base.errors import UserError
from hisac_lab.base.progress import track
from hisac_lab.config.world import World
from hisac_lab.events.store import EventStore
from hisac_lab.world.records import Simulated
from hisac_lab.world.simulate import Simulator

ANYWHERE = "probability_anywhere"
CLOSE = 1e-4
"""How near a rebuilt probability is to the logged one, which was rounded to 32 bits and divided by the place's."""


def rebuild(acquired: Path) -> Simulator:
    """The simulator that made a log.

    Args:
        acquired: Output of the stage `acquire` for a simulated world.

    Raises:
        UserError: Its settings are not those of a world.
    """
    facts: dict[str, Any] = dict(Simulated.open(acquired).world)
    facts.pop("preset", None)
    try:
        return Simulator(World(**facts | {"topics": tuple(facts["topics"])}))
    except (KeyError, TypeError) as error:
        raise UserError(acquired / MANIFEST, f"is of no world ({error})", "acquire it again", "world") from error


def examined(simulator: Simulator, slate: int) -> Array:
    """Chance that each place of a slate is looked at, by the world's position bias; (slate,)."""
    chance: Array = (1.0 + np.arange(slate)) ** -simulator.world.position_bias
    return chance


def true_chances(simulator: Simulator, store: EventStore, people: Population, items: Array) -> Array:
    """True chance that each user clicks, at their moment, on items that they look at; (T, ...) to (T, ...).

    Args:
        simulator: The world.
        store: Its log.
        people: T users and their moments.
        items: Numbers in the store; (T, ...).

    Raises:
        UserError: The world rebuilt is not the one of the log.
    """
    ids, users = _ids(store, people)
    _check(simulator, store, people, ids, users)
    chances = np.empty(items.shape)
    for row, user in track(list(enumerate(users.tolist())), len(users), "abtest", "users"):
        asked = ids[items[row].ravel()]
        chances[row] = simulator.chances(user, int(people.time[row]), asked).reshape(items[row].shape)
    return chances


def later_chances(simulator: Simulator, store: EventStore, people: Population, items: Array) -> tuple[Array, Array]:
    """The same on the days of a test that begins at each user's moment, whose slates take the place of the log's.

    Args:
        simulator: The world, of which `true_chances` holds.
        store: Its log.
        people: T users and their moments.
        items: Numbers in the store, day by day; (T, days, k).

    Returns:
        Of items that the test has not shown on an earlier day, and of those that it has; two (T, days, k).
    """
    ids, users = _ids(store, people)
    fresh, again = np.empty(items.shape), np.empty(items.shape)
    for row, user in track(list(enumerate(users.tolist())), len(users), "abtest", "users"):
        moment = int(people.time[row])
        for day in range(items.shape[1]):
            for chances, shown in ((fresh, False), (again, True)):
                asked, time = ids[items[row, day]], moment + day * DAY
                chances[row, day] = simulator.chances(user, time, asked, since=moment, shown=shown)
    return fresh, again


def _ids(store: EventStore, people: Population) -> tuple[Array, Array]:
    """The world's own numbers of all items, and of the users."""
    return store.item_table["item"].to_numpy().astype(np.int64), store.user_ids[people.user].astype(np.int64)


def _check(simulator: Simulator, store: EventStore, people: Population, ids: Array, users: Array) -> None:
    """That the first user's chances at their moment are those of the log, where it has them to the second."""
    if ANYWHERE not in store.manifest.extras or store.manifest.time_unit != "second":
        return
    samples, time = store.samples("test"), int(people.time[0])
    own = np.flatnonzero((samples["user"] == people.user[0]) & (samples["time"] == time))
    logged = np.asarray(store.extra(ANYWHERE, "test")[own])
    rebuilt = simulator.chances(int(users[0]), time, ids[samples["item"][own]])
    if not np.allclose(rebuilt, logged, rtol=0, atol=CLOSE):
        what = "the world rebuilt from its settings has other click probabilities than the log"
        raise UserError(store.path, what, "run the graph from `acquire` on")

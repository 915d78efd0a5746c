"""A state that takes new events is the state of the longer history, or it is made anew: never anything else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import bundle, reply_of
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import EVERY, ITEMS, lively, make_items

from hisac_lab.models.path_votes import VotesConfig
from hisac_lab.serving.engine import Engine
from hisac_lab.serving.kept import KeptState
from hisac_lab.serving.service import Reply, Service
from hisac_lab.serving.states import SQLiteStates, UserHistory

NOW = 1_000_000
CANDIDATES = [f"i{number}" for number in range(0, ITEMS, 7)]
SPACE = make_items()
EXTENDS = sorted(name for name in EVERY if lively(name, SPACE).extends)
VALUES: Any = st.sampled_from([None, 1, 3, 5])
EVENT = st.tuples(st.integers(0, ITEMS), st.integers(0, NOW - 2), VALUES)
"""Items of the catalog and one that is not, at any time before now."""


def events(rows: list[tuple[int, int, Any]]) -> UserHistory:
    """Events in the order of their times."""
    rows = sorted(rows, key=lambda row: row[1])
    return UserHistory([f"i{row[0]}" for row in rows], [row[1] for row in rows], [row[2] for row in rows])


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Engine]:
    """Every model that extends."""
    home = tmp_path_factory.mktemp("extending")
    return {name: Engine(bundle(home / name, name), "1") for name in EXTENDS}


def test_votes_and_the_short_branch_alone_extend() -> None:
    votes = {name for name, config in EVERY.items() if isinstance(config, VotesConfig) and config.state_bits == 32}
    assert votes <= set(EXTENDS)
    assert "din-short-only" in EXTENDS
    assert not [name for name in EXTENDS if EVERY[name].kind not in ("votes", "din")]
    assert "hisac" not in EXTENDS


@pytest.mark.parametrize("name", EXTENDS)
@given(st.lists(EVENT, min_size=1, max_size=12), st.lists(EVENT, min_size=1, max_size=8), st.integers(0, 9))
@settings(max_examples=15, deadline=None)
def test_an_extended_state_is_that_of_a_fresh_encode(
    engines: dict[str, Engine], name: str, old: list[Any], new: list[Any], wait: int
) -> None:
    engine, whole = engines[name], events([*old, *new])
    before, about = whole.part(slice(len(old))), {"candidates": CANDIDATES}
    begun = engine.reader.read(0, before.request() | about | {"time": before.times[-1] + 1})
    asked = engine.reader.read(0, whole.request() | about | {"time": whole.times[-1] + 1 + wait})
    count = len(asked.items) - len(begun.items)
    if not count or not len(begun.items):
        return
    (kept,), (fresh,) = engine.encode([begun]), engine.encode([asked])
    extended = engine.extend(kept, asked, count)
    assert extended.time == fresh.time
    assert set(extended.state.tensors) == set(fresh.state.tensors)
    for part, tensor in fresh.state.tensors.items():
        found = extended.state[part]
        assert found.shape == tensor.shape, part
        np.testing.assert_allclose(found.numpy(), tensor.numpy(), atol=2e-5, rtol=2e-6, err_msg=part)
    slate = engine.reader.read_slate(0, about | {"time": asked.time})
    np.testing.assert_allclose(
        np.array(engine.score(extended, slate)["scores"], np.float64),
        np.array(engine.score(fresh, slate)["scores"], np.float64),
        atol=1e-6,
    )


def server(engine: Engine, states: SQLiteStates, limit: int = 1_000) -> Service:
    """A server at a clock that stands still."""
    return Service(engine, states, 300, limit, now=lambda: float(NOW))


def ask(service: Service, **request: Any) -> Reply:
    """The answer to one request."""
    return reply_of(service, **{"candidates": CANDIDATES} | request)


FIRST = UserHistory(["i1", "i2", "i5"], [10, 20, 30], [None, 5, 1])
CASES = {
    "behind": (UserHistory(["i7", "i1"], [31, 40], [5, None]), True),
    "at the time of the newest": (UserHistory(["i7"], [30], [None]), True),
    "of an unknown item beside a known one": (UserHistory(["nowhere", "i9"], [50, 60], [None, None]), True),
    "of an unknown item": (UserHistory(["nowhere"], [50], [None]), False),
    "between": (UserHistory(["i7"], [15], [None]), False),
    "between and behind": (UserHistory(["i7", "i8"], [15, 90], [None, None]), False),
}


@pytest.mark.parametrize("name", ["votes", "votes-beside-exposures", "din-short-only", "hisac"])
@pytest.mark.parametrize("case", sorted(CASES))
def test_new_events_go_into_the_state_where_that_is_exact(
    name: str, case: str, states: SQLiteStates, tmp_path: Path
) -> None:
    service = server(Engine(bundle(tmp_path / "bundle", name), "1"), states)
    service.append("u", FIRST)
    assert ask(service, user="u").read == "stored"
    new, extends = CASES[case]
    service.append("u", new)
    extends = extends and name != "hisac"
    packed = states.state("u", service.engine.digest)
    assert (packed is not None) == extends
    reply = ask(service, user="u")
    assert reply.read == ("state" if extends else "stored")
    whole = FIRST.joined(new, 1_000).request()
    assert reply.scores == pytest.approx(ask(service, **whole, time=NOW).scores, abs=1e-6)
    if packed is not None:
        assert KeptState.unpack(packed, service.engine.digest, "u").time == NOW


def test_a_history_at_its_limit_is_encoded_anew(engines: dict[str, Engine], states: SQLiteStates) -> None:
    for user, limit in (("u", 4), ("v", 1_000)):
        service = server(engines["votes"], states, limit)
        count = 4 if user == "u" else 49  # the bundle reads the newest 50 events
        service.append(user, UserHistory([f"i{n % 9}" for n in range(count)], list(range(count)), [None] * count))
        ask(service, user=user)
        service.append(user, UserHistory(["i7"], [100], [None]))
        assert ask(service, user=user).read == "stored"


def test_events_of_another_process_in_between_are_not_lost(engines: dict[str, Engine], states: SQLiteStates) -> None:
    service, append = server(engines["votes"], states), states.append
    service.append("u", FIRST)
    ask(service, user="u")

    def both(user: str, new: UserHistory, limit: int) -> int:
        append(user, UserHistory(["i9"], [35], [None]), limit)
        return append(user, new, limit)

    states.append = both  # type: ignore[method-assign]
    service.append("u", UserHistory(["i7"], [40], [None]))
    assert states.state("u", service.engine.digest) is None
    whole = FIRST.joined(UserHistory(["i9", "i7"], [35, 40], [None, None]), 99).request()
    assert ask(service, user="u").scores == pytest.approx(ask(service, **whole, time=NOW).scores, abs=1e-6)


def test_many_events_one_by_one_are_those_at_once(engines: dict[str, Engine], states: SQLiteStates) -> None:
    service, random = server(engines["votes-beside-exposures"], states), np.random.default_rng(0)
    service.append("u", FIRST)
    ask(service, user="u")
    whole = FIRST
    for place in range(40):
        new = UserHistory([f"i{random.integers(0, ITEMS)}"], [100 + 1_000 * place], [int(random.integers(1, 6))])
        service.append("u", new)
        whole = whole.joined(new, 1_000)
    reply = ask(service, user="u")
    assert reply.read == "state"
    assert reply.scores == pytest.approx(ask(service, **whole.request(), time=NOW).scores, abs=1e-6)

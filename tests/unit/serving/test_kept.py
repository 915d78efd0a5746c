"""States as they are kept: sealed for one bundle and one user, and no larger than told."""

from __future__ import annotations

import json
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bundles import bundle, reply_of
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import make_book, says

from hisac_lab.config.model import BackboneConfig
from hisac_lab.inference.bundle import save_model
from hisac_lab.inference.records import VocabularyFile
from hisac_lab.models.catalog import build
from hisac_lab.models.contract import ItemSpace
from hisac_lab.models.hisac import HiSACConfig
from hisac_lab.serving.engine import Engine
from hisac_lab.serving.kept import KeptState
from hisac_lab.serving.service import Service
from hisac_lab.serving.states import SQLiteStates, UserHistory

NOW = 1_000_000
EVENTS = UserHistory(["i1", "i2", "i5"], [10, 20, 30], [None] * 3, {"user_city": "Rome"})
REQUEST: dict[str, Any] = {**EVENTS.request(), "time": NOW, "candidates": ["i5", "i6"]}
KIB = 1024


def packed(service: Service, user: str = "u") -> bytes:
    """The user's state as it is kept."""
    asked = service.engine.read(0, REQUEST)
    (kept,) = service.engine.encode([asked], [EVENTS.columns])
    return kept.pack(service.engine.digest, user)


def test_a_kept_state_survives_packing(service: Service) -> None:
    asked = service.engine.read(0, REQUEST)
    (kept,) = service.engine.encode([asked], [EVENTS.columns])
    again = KeptState.unpack(kept.pack(service.engine.digest, "u"), service.engine.digest, "u")
    assert (again.time, again.columns) == (kept.time, {"user_city": "Rome"})
    assert {name: part.tolist() for name, part in again.state.tensors.items()} == {
        name: part.tolist() for name, part in kept.state.tensors.items()
    }
    assert (again.items.tolist(), again.times.tolist()) == (kept.items.tolist(), kept.times.tolist())


def test_every_changed_byte_is_refused(service: Service) -> None:
    whole, digest = packed(service), service.engine.digest
    for place in {*range(64), *range(64, len(whole), 97), len(whole) - 1}:
        changed = bytearray(whole)
        changed[place] ^= 1
        with says("states", "state of user 'u'", "is damaged, or of another user", "made anew"):
            KeptState.unpack(bytes(changed), digest, "u")


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_cut_and_made_up_bytes_are_refused(data: st.DataObject) -> None:
    made_up = data.draw(st.binary(max_size=200))
    with says("states", "state of user 'u'", "is damaged, or of another user"):
        KeptState.unpack(made_up, "ab" * 32, "u")


def test_a_state_of_another_bundle_or_user_is_refused(service: Service, tmp_path: Path) -> None:
    whole, other = packed(service), Engine(bundle(tmp_path / "other", "hisac", seed=1), "2").digest
    with says("states", "state of user 'u'", f"is of bundle {service.engine.digest[:12]}, here {other[:12]}"):
        KeptState.unpack(whole, other, "u")
    with says("states", "state of user 'v'", "is damaged, or of another user"):
        KeptState.unpack(whole, service.engine.digest, "v")


@pytest.mark.parametrize("change", ["flipped", "another bundle's", "another user's"])
def test_the_server_reads_no_tampered_state_and_answers_from_the_history(
    service: Service, states: SQLiteStates, change: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for user, events in (("u", EVENTS), ("v", UserHistory(["i9"], [5], [None]))):
        service.append(user, events)
        reply_of(service, user=user, candidates=["i5", "i6"])
    wanted = reply_of(service, **REQUEST).scores
    assert reply_of(service, user="u", candidates=["i5", "i6"]).read == "state"
    first = service.engine
    if change == "flipped":
        found = bytearray(states.state("u", first.digest) or b"")
        found[-1] ^= 1
        states.keep("u", first.digest, 1, bytes(found))
    elif change == "another user's":
        states.base.execute("UPDATE states SET state = (SELECT state FROM states WHERE user = 'v') WHERE user = 'u'")
    else:
        service.engine = Engine(bundle(tmp_path / "next", "hisac", seed=1), "2")
        wanted = reply_of(service, **REQUEST).scores
        states.base.execute("UPDATE states SET digest = ?", (service.engine.digest,))
    states.base.commit()
    reply = reply_of(service, user="u", candidates=["i5", "i6"])
    assert reply.read == "stored"
    assert reply.scores == pytest.approx(wanted, abs=1e-6)
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(
        r"states: state of user 'u': is (damaged, or of another user|of bundle \w{12}, here \w{12});", line
    )
    assert reply_of(service, user="u", candidates=["i5", "i6"]).read == "state"


def test_a_damaged_history_is_told_in_a_line(service: Service, states: SQLiteStates) -> None:
    service.append("u", EVENTS)
    states.base.execute("UPDATE users SET history = substr(history, 2)")
    (reply,) = service.replies([{"user": "u", "candidates": ["i1"]}])
    assert str(reply).startswith("states: history of user 'u': is damaged")
    assert "\n" not in str(reply)


def test_a_state_of_two_hundred_agents_has_32_kib_at_most_however_long_the_history(tmp_path: Path) -> None:
    random, count = np.random.default_rng(0), 2_000
    codes = np.stack([random.integers(0, width, count) for width in (16, 8, 4)], axis=1).astype(np.int32)
    book, config = make_book(codes), HiSACConfig(agents=200)
    semantic = torch.nn.functional.normalize(torch.from_numpy(random.normal(size=(count, 4)).astype(np.float32)))
    space = ItemSpace(semantic, torch.zeros(count, 0, dtype=torch.int64), (), book)
    home = tmp_path / "bundle"
    home.mkdir()
    save_model(home, build(config, BackboneConfig(features=("length",)), space, 0).eval(), config, space)
    VocabularyFile(items=[f"i{item}" for item in range(count)], history_limit=20_000).save(home)
    engine, sizes = Engine(home, "1"), []
    for length in (2_000, 20_000):
        items = [f"i{item}" for item in random.integers(0, count, length)]
        history = UserHistory(items, list(range(length)), [None] * length)
        asked = engine.reader.read(0, history.request() | {"time": NOW, "candidates": ["i1"]})
        (kept,) = engine.encode([asked])
        assert int((kept.state["bias"] > -1e30).sum()) == 200
        sizes.append(len(kept.pack(engine.digest, "u")))
    assert sizes[0] == sizes[1] <= 32 * KIB


def test_a_packed_history_without_columns_of_the_user_is_still_read() -> None:
    before = zlib.compress(json.dumps([["i1"], [10], [None]]).encode())
    assert UserHistory.unpack(before, "u") == UserHistory(["i1"], [10], [None])

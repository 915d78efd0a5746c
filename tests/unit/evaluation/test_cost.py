"""Cost: counted multiply-adds and bytes equal what one works out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from kit import CPU, ITEMS, make_items

from hisac_lab.config.model import BackboneConfig
from hisac_lab.evaluation.cost import CANDIDATES, count, measure_time, request_macs
from hisac_lab.evaluation.records import ServingCost
from hisac_lab.events.batches import Requests
from hisac_lab.events.records import Prepared
from hisac_lab.events.store import EventStore
from hisac_lab.inference.loader import Loader
from hisac_lab.models.catalog import build
from hisac_lab.models.contract import ItemSpace
from hisac_lab.models.din import DINConfig
from hisac_lab.models.hisac import PAPER, HiSACConfig

SPACE = make_items()
BACKBONE = BackboneConfig(dim=16, short_window=10, attention_hidden=8, tower=(32,), features=("length",))
D, H, TOWER = 16, 8, 32
CONFIGS = {
    "short": DINConfig(whole_history=False),
    "whole": DINConfig(),
    "hisac": PAPER.model_copy(update={"agents": 4, "depth": 2}),
    "frozen": HiSACConfig(agents=4, depth=2),
}
S = SPACE.semantic.shape[1]


def _loader(length: int) -> Loader:
    """Requests of one user whose histories all have this length."""
    items = np.random.default_rng(0).integers(0, ITEMS, length).astype(np.int32)
    unknown: Prepared = Prepared.model_construct()  # type: ignore[call-arg]
    store = EventStore(Path("nowhere"), unknown, items, np.arange(length) * 1000, np.array([0, length]))
    one, shape = np.ones(3, np.int64), (3, 2)
    filled = np.ones(shape, bool)
    requests = Requests(
        store,
        0 * one,
        length * one,
        length * 1000 * one,
        filled * 1,
        filled.astype(np.float32),
        filled,
        filled * 0,
        0 * one,
    )
    return Loader(requests, CPU)


def _attention(length: int) -> float:
    """DIN's unit per candidate."""
    return H * D * length + D * H + H * length + length * D


def _tower(branches: int) -> int:
    return (D * (1 + 2 * branches) + 1) * TOWER + TOWER


def _count(name: str, length: int, items: ItemSpace) -> ServingCost:
    return count(build(CONFIGS[name], BACKBONE, items, 0), _loader(length))


def _agents(length: int, name: str = "hisac") -> int:
    """Agents of these histories, at most four."""
    agents = build(CONFIGS[name], BACKBONE, SPACE, 0).agents(_loader(length).batch(np.array([0])).history)
    assert agents is not None
    return agents.nodes.shape[1]


@pytest.mark.parametrize("length", [4, 10, 80])
def test_multiply_adds_per_candidate_are_those_of_the_formulas(length: int) -> None:
    short, kept = min(length, BACKBONE.short_window), _agents(length)
    expected = {
        "short": _attention(short) + _tower(1),
        "whole": _attention(short) + _attention(length) + _tower(2),
        "hisac": _attention(short) + 2 * D * D + 2 * kept * D + _tower(2),
        "frozen": _attention(short) + D * D + _agents(length, "frozen") * (D + S) + _tower(2),
    }
    for name, macs in expected.items():
        assert _count(name, length, SPACE).candidate_macs == pytest.approx(macs, abs=0.2), name


def test_multiply_adds_per_candidate_do_not_depend_on_the_size_of_the_catalog() -> None:
    large = ItemSpace.blank(**SPACE.shape() | {"items": 300})
    for name in ("short", "whole"):
        assert _count(name, 20, large).candidate_macs == pytest.approx(_count(name, 20, SPACE).candidate_macs, abs=0.2)


@pytest.mark.parametrize("length", [4, 10, 80])
def test_bytes_of_state_are_those_of_its_tensors(length: int) -> None:
    short, kept = min(length, BACKBONE.short_window), _agents(length)
    own = {
        "short": 0,
        "whole": length * D * 4 + length,
        "hisac": kept * (2 * D + 1) * 4,
        "frozen": _agents(length, "frozen") * ((D + 1) * 4 + 8),
    }
    for name, long in own.items():
        assert _count(name, length, SPACE).state_bytes == short * D * 4 + short + 4 + long, name


def test_few_agents_cost_less_than_a_long_history_and_no_more_as_it_grows() -> None:
    whole, hisac = ([_count(name, length, SPACE) for length in (50, 400)] for name in ("whole", "hisac"))
    for part in ("candidate_macs", "state_bytes"):
        (few, many), (short, long) = ([getattr(cost, part) for cost in costs] for costs in (hisac, whole))
        assert long > 4 * many
        assert long > 3 * short
        assert many == pytest.approx(few, rel=0.01)
    assert hisac[1].encode_macs > hisac[0].encode_macs


@pytest.mark.parametrize("name", CONFIGS)
def test_counts_are_the_same_again(name: str, items: ItemSpace, rows: dict[str, Requests]) -> None:
    model, few = build(CONFIGS[name], BACKBONE, items, 0), Loader(rows["test"].take(np.arange(9)), CPU)
    assert count(model, few) == count(model, few)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_whole_request_costs_its_encoding_and_its_candidates(name: str) -> None:
    model, loader = build(CONFIGS[name], BACKBONE, SPACE, 0), _loader(10)
    found = count(model, loader)
    candidates = torch.zeros(1, CANDIDATES, dtype=torch.int64)
    table = len(SPACE.semantic) * SPACE.semantic.shape[1] * D  # of the candidates; `count` leaves it to the server
    expected = found.encode_macs + CANDIDATES * found.candidate_macs + table
    assert request_macs(model, loader.batch(np.array([0])).history, candidates) == pytest.approx(expected, abs=10)


@pytest.mark.parametrize("name", ["hisac", "frozen"])
def test_the_votes_kept_are_those_of_the_leaves_that_became_agents(name: str) -> None:
    """By hand: events of the history whose leaf an agent is, of those that have a leaf and vote."""
    model, history = build(CONFIGS[name], BACKBONE, SPACE, 0), _loader(30).batch(np.array([0])).history
    agents = model.agents(history)
    assert agents is not None
    leaves = SPACE.codebook.item_nodes[history.items.numpy(), 1]  # both have two levels
    voting = leaves[history.voters(SPACE.first_voting("positives")).mask.numpy() & (leaves >= 0)]
    kept = np.isin(voting, agents.nodes[agents.nodes >= 0].numpy()).mean()
    found = count(model, _loader(30))
    assert found.agents == _agents(30, name) == int((agents.nodes >= 0).sum())
    assert found.votes_kept == pytest.approx(kept, abs=1e-4)
    assert 0 < kept < 1
    assert "votes_kept" not in _count("whole", 30, SPACE).facts()


def test_times_are_measured_and_positive(items: ItemSpace, rows: dict[str, Requests]) -> None:
    found = measure_time(build(CONFIGS["hisac"], BACKBONE, items, 0), Loader(rows["test"], CPU), repeats=1)
    assert found.device == "cpu"
    assert found.encode_us_per_request > 0
    assert found.score_us_per_candidate > 0

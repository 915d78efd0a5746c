"""Votes with time, in flat codebooks, shared out, and straight into the tower."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from kit import BACKBONE, DAY, ITEMS, WITHOUT_ID, make_history, make_items, prepare_log, says
from pydantic import ValidationError

from hisac_lab.base.artifacts import stage_output
from hisac_lab.codebook.flat import FlatBook
from hisac_lab.config.events import PrepareConfig
from hisac_lab.config.world import WorldConfig
from hisac_lab.events.batches import Requests
from hisac_lab.events.store import EventStore
from hisac_lab.inference.bundle import load_model, save_model
from hisac_lab.models.backbone import Ranker
from hisac_lab.models.catalog import build
from hisac_lab.models.contract import History, ItemSpace
from hisac_lab.models.path_votes import SHUFFLE, VoteCounts, VotesBranch, VotesConfig
from hisac_lab.sources.records import Acquired
from hisac_lab.world.simulate import simulate

SPACE = make_items()
FLAT = SPACE.codebook.flat["flat_6"]
LENGTHS = [30, 0, 7]
EXPOSURES = {"votes_from": "positives", "exposures": True}


def _branch(**changes: Any) -> VotesBranch:
    """All events vote, unless told otherwise."""
    return VotesBranch(VotesConfig.model_validate({"votes_from": "all"} | changes), BACKBONE, SPACE)


def _read(branch: VotesBranch, history: History, items: torch.Tensor) -> torch.Tensor:
    return branch.path.features(branch.path.encode(history), items)


def _candidates(rows: int) -> torch.Tensor:
    return torch.arange(ITEMS).expand(rows, -1)


def test_a_candidate_is_told_the_votes_for_itself() -> None:
    branch, history = _branch(own_item=True, half_lives=(7.0,)), make_history(LENGTHS, items=12)
    own = _read(branch, history, _candidates(3))[..., -4:]
    for row in range(3):
        for item in range(20):
            days = history.ages[row][history.mask[row] & (history.items[row] == item)] / DAY
            facts = [len(days), days.min().item() if len(days) else 0.0, (0.5 ** (days / 7)).sum().item()]
            expected = [float(len(days) > 0), *(math.log1p(fact) for fact in facts)]
            assert own[row, item].tolist() == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_votes_in_a_flat_book_are_those_of_its_nodes() -> None:
    history = make_history(LENGTHS)
    found = _read(_branch(books=("flat_6",)), history, _candidates(3))
    for row in range(3):
        voted = FLAT.item_nodes[history.items[row][history.mask[row]]]
        for item, node in enumerate(FLAT.item_nodes):
            votes = int((voted == node).sum()) if node >= 0 else 0
            assert found[row, item, 1].item() == pytest.approx(math.log1p(votes), rel=1e-6)


@pytest.mark.parametrize("into", ["gate", "tower"])
def test_exposures_are_counted_as_votes_of_their_own(into: str) -> None:
    """In the same books; what is not known to be negative is among the votes."""
    books: dict[str, Any] = {"books": ("residual", "flat_6"), "nearest": 2, "half_lives": (7.0,), "into": into}
    history = make_history(LENGTHS)
    negative = (history.feedback > 0) & (history.feedback < 3)
    parts = (dataclasses.replace(history, mask=history.mask & here) for here in (~negative, negative))
    alone = [_read(_branch(**books), part, _candidates(3)) for part in parts]
    assert all(part[0].any() for part in alone)
    branch = _branch(**books, **EXPOSURES)
    assert torch.equal(_read(branch, history, _candidates(3)), torch.cat(alone, dim=2))
    assert branch.path.width == 2 * _branch(**books).path.width


def test_a_simulated_log_tells_exposures_without_click(tmp_path: Path) -> None:
    """With `history: all` votes are clicks and exposures the rest, in what a request of the world's log sees."""
    raw = tmp_path / "raw"
    with stage_output(raw) as out:
        facts = simulate(WorldConfig(users=6, items=256, events_per_user=300), out=out)
        Acquired(dataset="world", layout="world", files={}, **facts).save(out)
    prepare_log(PrepareConfig(history="all"), raw, tmp_path / "prepared")
    store = EventStore.open(tmp_path / "prepared")
    requests = Requests.of(store, store.samples("test"), 4)
    space = dataclasses.replace(ItemSpace.blank(store.manifest.items, 4, [], [1]), feedback=store.manifest.feedback)
    branch = VotesBranch(VotesConfig(own_item=True, exposures=True, into="tower"), BACKBONE, space)
    history = History.of(requests.histories())
    told = branch.path.features(branch.path.encode(history), torch.from_numpy(requests.candidates))
    log = pd.read_parquet(raw / "events")
    names = [int(name) for name in store.item_table["item"]]
    for row in range(0, len(requests), 5):
        past = log[(log.user == int(store.user_ids[requests.user[row]])) & (log.time < requests.time[row])]
        for place, item in enumerate(requests.candidates[row]):
            clicks = past.click[past.item == names[item]]
            votes, exposures = told[row, place, [4, 10]].expm1().round().tolist()
            assert (votes, exposures) == (clicks.sum(), len(clicks) - clicks.sum())


def test_books_stand_side_by_side() -> None:
    history = make_history(LENGTHS)
    tree, flat, both = (
        _read(_branch(books=books, half_lives=(30.0,)), history, _candidates(3))
        for books in (("residual",), ("flat_6",), ("residual", "flat_6"))
    )
    assert torch.equal(both, torch.cat([tree, flat], dim=2))


def test_a_vote_shared_out_to_one_node_is_a_hard_vote() -> None:
    nodes, shares = FLAT.spread(SPACE.semantic.numpy(), 1, 0.05)
    np.testing.assert_array_equal(nodes[:, 0], FLAT.item_nodes)
    assert shares[:, 0].tolist() == [float(item not in WITHOUT_ID) for item in range(ITEMS)]
    hard = _branch(books=("flat_6",), half_lives=(1.0, 30.0))
    soft = VoteCounts(torch.zeros(ITEMS, 0, dtype=torch.int64), (1.0, 30.0),
                      [(torch.from_numpy(nodes), torch.from_numpy(shares))])  # fmt: skip
    history = make_history(LENGTHS)
    assert torch.equal(soft.features(soft.encode(history), _candidates(3)), _read(hard, history, _candidates(3)))


@pytest.mark.parametrize("tau", [0.02, 0.3])
def test_shares_are_a_softmax_over_the_nearest_nodes(tau: float) -> None:
    nodes, shares = FLAT.spread(SPACE.semantic.numpy(), 3, tau)
    for item in range(ITEMS):
        if item in WITHOUT_ID:
            assert nodes[item].tolist() == [-1] * 3
            assert not shares[item].any()
            continue
        distance = ((FLAT.vectors.astype(float) - SPACE.semantic[item].double().numpy()) ** 2).sum(axis=1)
        nearest = np.argsort(distance, kind="stable")[:3]
        weights = np.exp(-distance[nearest] / tau)
        assert nodes[item].tolist() == nearest.tolist()
        assert shares[item] == pytest.approx(weights / weights.sum(), abs=2e-4)


def test_equally_near_nodes_are_taken_in_the_order_of_their_numbers() -> None:
    book = FlatBook(np.array([[1, 0], [0, 1], [1, 0]], np.float32), np.array([0, 1]))
    nodes, shares = book.spread(np.array([[1, 0], [0, 1]], np.float32), 2, 0.5)
    assert nodes.tolist() == [[0, 2], [1, 0]]
    assert shares[0].tolist() == [0.5, 0.5]


@pytest.mark.parametrize("changes", [{}, {"votes_from": "positives"}, EXPOSURES])
def test_a_state_takes_new_events_without_the_history(changes: dict[str, Any]) -> None:
    branch = _branch(books=("residual", "flat_6"), nearest=2, half_lives=(1.0, 30.0), own_item=True, **changes)
    history = make_history([20, 20, 20])
    begun = dataclasses.replace(history, items=history.items[:, :15], mask=history.mask[:, :15],
                                ages=history.ages[:, :15] - history.ages[:, 14:15],
                                feedback=history.feedback[:, :15])  # fmt: skip
    state = branch.path.encode(begun)
    for place in range(15, 20):
        days = (history.ages[:, place - 1] - history.ages[:, place]).float() / DAY
        at = slice(place, place + 1)
        items, now, there = history.items[:, at], torch.zeros_like(history.ages[:, at]), history.mask[:, at]
        event = History(items, now, there, feedback=history.feedback[:, at])
        state = branch.path.extend(state, event, days)
    state = branch.path.later(state, history.ages[:, -1].float() / DAY)
    expected = _read(branch, history, _candidates(3))
    torch.testing.assert_close(branch.path.features(state, _candidates(3)), expected, atol=1e-4, rtol=1e-4)


def test_features_of_the_training_set_have_mean_zero_and_spread_one() -> None:
    branch = _branch(half_lives=(7.0, 90.0), books=("residual", "flat_6"), into="tower")
    drawn = torch.Generator().manual_seed(0)
    mask = torch.tensor([[True] * 5, [True, False, True, True, False], [True] * 5])
    batches = [
        (make_history([25, 3, 14], seed), torch.randint(0, ITEMS, (3, 5), generator=drawn), mask) for seed in range(4)
    ]
    branch.standardize(batches)
    rows = torch.cat([
        ((_read(branch, history, items) - branch.shift) * branch.scale)[mask] for history, items, mask in batches
    ])  # fmt: skip
    torch.testing.assert_close(rows.mean(dim=0), torch.zeros(branch.extra_width), atol=1e-5, rtol=0)
    torch.testing.assert_close(rows.std(dim=0, correction=0), torch.ones(branch.extra_width), atol=1e-4, rtol=0)


def test_a_feature_that_never_differs_is_silent() -> None:
    branch = _branch(into="tower")
    branch.standardize([(make_history([0, 0]), torch.zeros(2, 3, dtype=torch.int64), torch.ones(2, 3).bool())])
    assert branch.scale.tolist() == [0.0] * branch.extra_width
    assert not branch.shift.any()


def test_votes_in_the_tower_have_no_gate_and_no_weights_of_their_own() -> None:
    model = build(VotesConfig(into="tower", half_lives=(7.0,)), BACKBONE, SPACE, 0)
    assert model.gate is None
    assert isinstance(model, Ranker)
    assert isinstance(model.long, VotesBranch)
    assert not list(model.long.parameters())
    first = model.tower[0]
    assert isinstance(first, torch.nn.Linear)
    assert first.in_features == 3 * BACKBONE.dim + 1 + 3 * 4


@pytest.mark.parametrize("books", [("flat_6",), ("flat_6", "residual")])
@pytest.mark.parametrize("nearest", [1, 3])
@pytest.mark.parametrize("changes", [{}, EXPOSURES])
def test_a_state_does_not_grow_once_every_node_has_votes(
    books: tuple[str, ...], nearest: int, changes: dict[str, Any]
) -> None:
    branch = _branch(books=books, nearest=nearest, half_lives=(1.0, 7.0, 30.0, 90.0), **changes)
    nodes = {"flat_6": 6, "residual": sum(len(parents) for parents in SPACE.codebook.parents)}
    times = 2 if branch.path.exposures else 1
    for length in (1_000, 10_000):
        history = make_history([length])
        state = branch.path.encode(history)
        kept = sum(part.numel() * part.element_size() for part in state.values())
        assert kept == branch.cost(history).state_bytes == times * (8 + 4 * 6) * sum(nodes[name] for name in books)


def test_a_saved_model_keeps_its_books_and_its_standards(tmp_path: Path) -> None:
    config = VotesConfig(books=("residual", "flat_6"), nearest=2, half_lives=(7.0,), into="tower")
    model = build(config, BACKBONE, SPACE, 0).eval()
    assert isinstance(model.long, VotesBranch)
    history, candidates = make_history(LENGTHS), _candidates(3)
    model.long.standardize([(history, candidates, torch.ones_like(candidates, dtype=torch.bool))])
    save_model(tmp_path, model, config, SPACE)
    again, _ = load_model(tmp_path)
    assert torch.equal(again(history, candidates), model(history, candidates))


def test_shuffled_ids_move_flat_books_too() -> None:
    shuffled = SPACE.shuffled(1)
    moved = shuffled.codebook.flat["flat_6"]
    assert sorted(moved.item_nodes) == sorted(FLAT.item_nodes)
    assert not np.array_equal(moved.item_nodes, FLAT.item_nodes)
    nodes, _ = moved.spread(shuffled.semantic.numpy(), 1, 0.1)
    np.testing.assert_array_equal(nodes[:, 0], moved.item_nodes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"books": ("flat_7",)}, ("models.*.books", "'flat_7'", "residual, flat_6", "tokenize.flat")),
        ({"books": ("flat_6",), "nearest": 7}, ("models.*.nearest", "7 nodes", "6 of flat_6", "lower it")),
    ],
)
def test_books_that_are_not_there_are_named(changes: dict[str, Any], words: tuple[str, ...]) -> None:
    with says(*words):
        _branch(**changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"books": ("residual", "residual")}, "a codebook twice"),
        ({"nearest": 2}, "no flat codebook"),
        ({"books": ()}, "at least 1"),
        ({"half_lives": (0.0,)}, "greater than 0"),
        ({"exposures": True, "votes_from": "all"}, "set votes_from: positives"),
    ],
)
def test_settings_that_do_not_fit_each_other_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        VotesConfig(**changes)


def test_shuffled_votes_are_those_of_other_items() -> None:
    own, shuffled = (_branch(books=("residual", "flat_6"), own_item=True, ids=ids) for ids in ("own", "shuffled"))
    other = SPACE.shuffled(SHUFFLE).codebook
    moved = np.concatenate([other.item_nodes, other.flat["flat_6"].item_nodes[:, None]], axis=1)
    np.testing.assert_array_equal(shuffled.path.item_nodes[:, :-1], moved)
    assert not torch.equal(shuffled.path.item_nodes, own.path.item_nodes)
    assert torch.equal(shuffled.path.item_nodes[:, -1], own.path.item_nodes[:, -1])

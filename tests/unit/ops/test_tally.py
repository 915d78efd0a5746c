"""Votes at nodes: counted at once they are what one event after another leaves, however a history is cut."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hisac_lab.ops.tally import DAY, NOWHERE, Tally, count_votes, fold, later, read_votes

HALF_LIVES = (0.5, 7.0, 90.0)
SEEDS = st.integers(0, 10**6)


def _drawn(seed: int, rows: int = 3, length: int = 12, kinds: int = 5) -> tuple[torch.Tensor, ...]:
    """Nodes, ages (oldest first), mask and weights of made-up histories."""
    drawn = torch.Generator().manual_seed(seed)
    nodes = torch.randint(0, kinds, (rows, length), generator=drawn)
    ages = torch.randint(1, 200 * int(DAY), (rows, length), generator=drawn).sort(dim=1, descending=True).values
    mask = torch.rand(rows, length, generator=drawn) < 0.8
    return nodes, ages, mask, torch.rand(rows, length, generator=drawn)


def _facts(tally: Tally, row: int, node: int) -> list[float]:
    """Facts of one node; zeros where it has no vote."""
    place = (tally.nodes[row] == node).nonzero()
    return tally.facts[row, place[0, 0]].tolist() if len(place) else [0.0] * tally.facts.shape[2]


@given(SEEDS, st.booleans())
def test_facts_are_those_of_counting_event_by_event(seed: int, weighted: bool) -> None:
    nodes, ages, mask, drawn = _drawn(seed)
    weights = drawn if weighted else torch.ones_like(drawn)
    tally = count_votes(nodes, ages, mask, HALF_LIVES, drawn if weighted else None)
    for row in range(len(nodes)):
        there = tally.nodes[row][tally.nodes[row] < NOWHERE].tolist()
        assert there == sorted(set(nodes[row][mask[row]].tolist()))
        assert not tally.facts[row, len(there) :].any()
        for node in there:
            events = [place for place in range(nodes.shape[1]) if mask[row, place] and nodes[row, place] == node]
            days = [ages[row, place].item() / DAY for place in events]
            votes = [weights[row, place].item() for place in events]
            faded = [
                sum(vote * 2 ** (-day / life) for vote, day in zip(votes, days, strict=True)) for life in HALF_LIVES
            ]
            assert _facts(tally, row, node) == pytest.approx([sum(votes), min(days), *faded], rel=1e-5, abs=1e-30)


@given(SEEDS)
def test_folding_events_one_by_one_is_counting_them_at_once(seed: int) -> None:
    nodes, ages, _, weights = _drawn(seed)
    every = torch.ones_like(nodes, dtype=torch.bool)
    tally = count_votes(nodes[:, :4], ages[:, :4] - ages[:, 3:4], every[:, :4], HALF_LIVES, weights[:, :4])
    for place in range(4, nodes.shape[1]):
        here = slice(place, place + 1)
        event = count_votes(nodes[:, here], torch.zeros_like(ages[:, here]), every[:, here], HALF_LIVES,
                            weights[:, here])  # fmt: skip
        tally = fold(tally, event, (ages[:, place - 1] - ages[:, place]).float() / DAY, HALF_LIVES)
    folded = later(tally, ages[:, -1].float() / DAY, HALF_LIVES)
    at_once = count_votes(nodes, ages, every, HALF_LIVES, weights)
    assert torch.equal(folded.nodes, at_once.nodes)
    torch.testing.assert_close(folded.facts, at_once.facts, rtol=1e-4, atol=1e-5)


@given(SEEDS, st.floats(0, 400))
def test_votes_seen_later_are_those_of_a_later_request(seed: int, days: float) -> None:
    nodes, ages, mask, _ = _drawn(seed)
    seconds = round(days * DAY)
    moved = later(count_votes(nodes, ages, mask, HALF_LIVES), torch.full((3,), seconds / DAY), HALF_LIVES)
    counted = count_votes(nodes, ages + seconds, mask, HALF_LIVES)
    assert torch.equal(moved.nodes, counted.nodes)
    torch.testing.assert_close(moved.facts, counted.facts, rtol=1e-4, atol=1e-6)


@given(SEEDS)
def test_a_candidate_reads_presence_and_logarithms_of_its_node(seed: int) -> None:
    nodes, ages, mask, _ = _drawn(seed)
    tally = count_votes(nodes, ages, mask, HALF_LIVES)
    asked = torch.tensor([-1, 0, 3, 4, 77])[None, :, None].expand(3, -1, -1)
    read = read_votes(tally, asked)
    for row in range(3):
        for place, node in enumerate(asked[row, :, 0].tolist()):
            facts = _facts(tally, row, node)
            expected = [float(facts[0] > 0), *(math.log1p(fact) for fact in facts)]
            assert read[row, place].tolist() == pytest.approx(expected, rel=1e-5, abs=1e-6)


@given(SEEDS)
def test_shared_votes_are_sums_of_products_of_shares(seed: int) -> None:
    """An event gives a share of its vote to each of its nodes; a candidate takes its shares of what they have."""
    drawn = torch.Generator().manual_seed(seed)
    rows, length, spread, kinds = 2, 7, 3, 6
    event_nodes, asked_nodes = (
        torch.stack([torch.randperm(kinds, generator=drawn)[:spread] for _ in range(rows * length)])
        .view(rows, length, spread)
        for _ in range(2)
    )  # fmt: skip
    shares, wanted = (torch.rand(rows, length, spread, generator=drawn).softmax(dim=2) for _ in range(2))
    ages = torch.randint(0, 90 * int(DAY), (rows, length), generator=drawn)
    every = torch.ones(rows, length * spread, dtype=torch.bool)
    tally = count_votes(event_nodes.flatten(1), ages.repeat_interleave(spread, dim=1), every, (7.0,), shares.flatten(1))
    read = read_votes(tally, asked_nodes, wanted)
    for row in range(rows):
        for place in range(length):
            plain = faded = presence = age = 0.0
            for node, share in zip(asked_nodes[row, place].tolist(), wanted[row, place].tolist(), strict=True):
                at = (event_nodes[row] == node).nonzero()
                votes = [shares[row, event, slot].item() for event, slot in at.tolist()]
                days = [ages[row, event].item() / DAY for event, _ in at.tolist()]
                plain += share * sum(votes)
                faded += share * sum(vote * 2 ** (-day / 7) for vote, day in zip(votes, days, strict=True))
                presence += share * bool(votes)
                age += share * math.log1p(min(days)) if days else 0.0
            expected = [presence, math.log1p(plain), age, math.log1p(faded)]
            assert read[row, place].tolist() == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_an_empty_history_has_no_votes() -> None:
    nothing = count_votes(torch.zeros(2, 0, dtype=torch.int64), torch.zeros(2, 0, dtype=torch.int64),
                          torch.zeros(2, 0, dtype=torch.bool), HALF_LIVES)  # fmt: skip
    assert nothing.nodes.tolist() == [[NOWHERE], [NOWHERE]]
    assert not read_votes(nothing, torch.zeros(2, 3, 1, dtype=torch.int64)).any()

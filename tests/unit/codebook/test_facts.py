"""Facts of agents against a plain reference: who has a behavior, fading counts, ages, and shares of the votes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hisac_lab.codebook.counting import FRESH, Election, count_agents, enough, votes_cast
from hisac_lab.codebook.facts import UNIT, facts_of, slots_of
from hisac_lab.codebook.votes import Agents, vote, with_facts

LEAVES, DAY = 6, 86_400
HALF_LIVES = (DAY, 30.0 * DAY)
OFTEN = settings(max_examples=150, deadline=None)


@dataclass
class Case:
    """Histories of a few requests over six leaves; small numbers, so that ties abound.

    Attributes:
        leaf: -1 without a semantic ID; (R, L) int64.
        ages: Seconds; (R, L) int64.
        mask: True at real behaviors; (R, L) bool.
        vectors: Of the leaves, in eighths: distances are exact in any order; (6, 2) float32.
        budget: Agents at most.
    """

    leaf: torch.Tensor
    ages: torch.Tensor
    mask: torch.Tensor
    vectors: torch.Tensor
    budget: int

    def agents(self, keep: float | None = None, half_life: float | None = None) -> Agents:
        """Leaves with most votes."""
        tree = [torch.zeros(LEAVES, dtype=torch.int64)]
        return vote(self.leaf, self.mask, tree, Election((self.budget,), "flat", keep=keep), self.ages, half_life)

    def told(self, agents: Agents, routed: bool, half_life: float | None = None) -> Agents:
        """With facts."""
        vectors = self.vectors if routed else None
        return with_facts(agents, self.leaf, self.mask, self.ages, HALF_LIVES, vectors, half_life)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    length, requests = draw(st.integers(1, 10)), draw(st.integers(1, 4))
    numbers = st.lists(st.integers(-1, LEAVES - 1), min_size=length, max_size=length)
    seconds = st.lists(st.integers(0, 400 * DAY), min_size=length, max_size=length)
    leaf = torch.tensor(draw(st.lists(numbers, min_size=requests, max_size=requests)))
    ages = torch.tensor(draw(st.lists(seconds, min_size=requests, max_size=requests)))
    mask = torch.arange(length) >= torch.tensor(draw(st.lists(st.integers(0, length), min_size=requests,
                                                              max_size=requests)))[:, None]  # fmt: skip
    place = st.lists(st.integers(-3, 3), min_size=2, max_size=2)
    vectors = torch.tensor(draw(st.lists(place, min_size=LEAVES, max_size=LEAVES))) / 8
    return Case(leaf, ages, mask, vectors, draw(st.integers(1, 4)))


def _owners(case: Case, agents: Agents, row: int, routed: bool) -> list[list[int]]:
    """Places of the behaviors that each column of a request has, one behavior at a time."""
    kept = [node for node in agents.nodes[row].tolist() if node >= 0]
    places: list[list[int]] = [[] for _ in range(agents.nodes.shape[1])]
    for place, leaf in enumerate(case.leaf[row].tolist()):
        if not case.mask[row, place] or leaf < 0:
            continue
        gaps = [float((case.vectors[leaf] - case.vectors[node]).square().sum()) for node in kept]
        if leaf in kept:
            places[kept.index(leaf)].append(place)
        elif routed:
            places[gaps.index(min(gaps))].append(place)
    return places


@given(case=cases(), routed=st.booleans())
@OFTEN
def test_facts_are_those_of_the_behaviors_an_agent_has(case: Case, routed: bool) -> None:
    agents = case.agents()
    told = case.told(agents, routed)
    assert told.facts is not None
    assert torch.equal(told.nodes, agents.nodes)
    for row in range(len(case.leaf)):
        for column, places in enumerate(_owners(case, agents, row, routed)):
            ages = case.ages[row][places].tolist()
            fading = [sum(round(UNIT * 2 ** (-age / half)) for age in ages) / UNIT for half in HALF_LIVES]
            wanted = [len(ages), *fading, min(ages, default=0) / DAY]
            assert int(told.votes[row, column]) == len(ages)
            assert told.facts[row, column].tolist() == pytest.approx(wanted, rel=1e-6)


@given(case=cases())
@OFTEN
def test_votes_of_pruned_leaves_go_to_the_nearest_agent(case: Case) -> None:
    """All votes stay, also where they count less with age; without routing each leaf keeps its own."""
    half_life = 20.0 * DAY
    agents = case.agents(half_life=half_life)
    routed, dropped = (case.told(agents, choice, half_life) for choice in (True, False))
    everything = case.mask & (case.leaf >= 0)
    weights = np.maximum(np.rint(FRESH * np.exp2(-case.ages.numpy() / half_life)), 1) * everything.numpy()
    assert routed.votes.sum(dim=1).tolist() == weights.sum(axis=1).tolist()
    assert torch.equal(dropped.votes, agents.votes)
    assert agents.coverage is not None
    share = agents.votes.sum(dim=1).numpy() / np.maximum(weights.sum(axis=1), 1)
    np.testing.assert_allclose(agents.coverage, np.where(weights.sum(axis=1) > 0, share, 1), rtol=1e-6)


@given(case=cases(), more=st.integers(1, 3))
@OFTEN
def test_neither_order_nor_padding_nor_other_requests_show_in_facts(case: Case, more: int) -> None:
    agents = case.agents()
    told = case.told(agents, True)
    order = torch.randperm(case.leaf.shape[1], generator=torch.Generator().manual_seed(more))
    mixed = Case(case.leaf[:, order], case.ages[:, order], case.mask[:, order], case.vectors, case.budget)
    assert told.facts is not None
    again = mixed.told(agents, True)
    assert again.facts is not None
    assert torch.equal(again.facts, told.facts)
    assert torch.equal(again.votes, told.votes)
    for row in range(len(case.leaf)):
        one = Case(case.leaf[[row]], case.ages[[row]], case.mask[[row]], case.vectors, case.budget)
        alone = one.told(one.agents(), True)
        width = alone.nodes.shape[1]
        assert alone.facts is not None
        assert torch.equal(alone.facts[0], told.facts[row, :width])
        assert not told.facts[row, width:].any()


def test_of_equally_near_agents_the_one_with_most_votes_has_a_pruned_behavior() -> None:
    vectors = np.array([[0, 0], [1, 0], [-1, 0]], np.float32)
    heads, leaf = np.array([0, 3]), np.array([1, 2, 0])
    assert slots_of(leaf, heads, np.array([[2, 1]]), vectors).tolist() == [1, 0, 0]
    assert slots_of(leaf, heads, np.array([[1, 2]]), vectors).tolist() == [0, 1, 0]
    assert slots_of(leaf, heads, np.array([[1, 2]])).tolist() == [0, 1, -1]
    assert slots_of(leaf[:0], 0 * heads, np.array([[-1]]), vectors).tolist() == []


def test_a_behavior_fades_by_half_with_every_half_life_and_to_nothing() -> None:
    ages = np.array([0, 3 * DAY, 6 * DAY, 3000 * DAY])
    for age, left in zip(ages, (UNIT, UNIT // 2, UNIT // 4, 0), strict=True):
        found = facts_of(np.array([0]), np.array([age]), np.array([0, 1]), np.array([[0]]), (3.0 * DAY,))
        assert found.fading.tolist() == [[[left]]]
        assert found.newest.tolist() == [[age]]


@given(case=cases(), share=st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.9, 1.0]))
@OFTEN
def test_agents_are_the_fewest_that_hold_a_share(case: Case, share: float) -> None:
    """They are the first of those without a share, hold it where those do, and one fewer would not."""
    every, few = case.agents(), case.agents(keep=share)
    for row in range(len(case.leaf)):
        votes = [number for number in every.votes[row].tolist() if number]
        kept = [number for number in few.votes[row].tolist() if number]
        cast = int((case.mask[row] & (case.leaf[row] >= 0)).sum())
        assert kept == votes[: len(kept)]
        assert few.nodes[row, : len(kept)].tolist() == every.nodes[row, : len(kept)].tolist()
        assert few.nodes[row, len(kept) :].tolist() == [-1] * (few.nodes.shape[1] - len(kept))
        holds = 10 * sum(kept) >= round(10 * share) * cast
        assert holds or len(kept) == len(votes)
        assert not kept or 10 * sum(kept[:-1]) < round(10 * share) * cast


def test_seven_of_ten_votes_are_a_share_of_seven_tenths() -> None:
    votes, cast = np.array([[4, 3, 2, 1], [5, 0, 0, 0]]), np.array([10, 50])
    assert enough(votes, cast, 0.7).tolist() == [[True, True, False, False], [True, False, False, False]]
    leaf, heads = np.array([0, 1, 1, -1, 2]), np.array([0, 4, 5])
    assert votes_cast(leaf, heads).tolist() == [3, 1]
    assert votes_cast(leaf, heads, np.array([5, 1, 1, 9, 2])).tolist() == [7, 2]
    nodes, counts = count_agents(leaf, heads, [np.zeros(3, np.int64)], Election((2,), "flat", keep=0.6))
    assert nodes.tolist() == [[1], [2]]
    assert counts.tolist() == [[2], [1]]

"""Votes kept up to date event by event equal votes counted again."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import make_book

from hisac_lab.codebook.ballot import Ballot
from hisac_lab.codebook.counting import Election, count_agents, levels_of
from hisac_lab.codebook.moments import agents_at
from hisac_lab.codebook.tree import Codebook
from hisac_lab.events.store import EventStore
from hisac_lab.models.contract import ItemSpace

ITEMS = 14
Rule = Literal["tree", "flat"]


@st.composite
def books(draw: st.DrawFn) -> Codebook:
    depth = draw(st.integers(1, 3))
    table = np.array(draw(st.lists(st.tuples(*[st.integers(0, 2)] * depth), min_size=ITEMS, max_size=ITEMS)))
    table[draw(st.integers(1, ITEMS - 1))] = -1
    return make_book(table)


def _batch(book: Codebook, items: list[int], election: Election) -> list[tuple[int, int]]:
    leaf = book.item_nodes[np.array(items, np.int64), -1]
    nodes, votes = count_agents(leaf, np.array([0, len(leaf)]), book.parents, election)
    return [(int(node), int(count)) for node, count in zip(nodes[0], votes[0], strict=True) if node >= 0]


@given(
    book=books(),
    steps=st.lists(st.one_of(st.integers(0, ITEMS - 1), st.just("expire")), max_size=40),
    budgets=st.lists(st.integers(1, 3), min_size=3, max_size=3),
    rule=st.sampled_from(["tree", "flat"]),
    wanted=st.sampled_from([None, 5]),
)
@settings(max_examples=200, deadline=None)
def test_adding_and_expiring_equals_counting_again(
    book: Codebook, steps: list[int | str], budgets: list[int], rule: Rule, wanted: int | None
) -> None:
    ballot, election = Ballot(book), Election(tuple(budgets[: book.depth]), rule, wanted)
    window: list[int] = []
    for step in steps:
        if step == "expire":
            if window:
                window.pop(0)
                ballot.expire()
        else:
            window.append(int(step))
            ballot.add(int(step))
        found = [(tally.node, tally.votes) for tally in ballot.agents(election)]
        assert found == _batch(book, window, election)
        assert len(ballot) == len(window)


@given(book=books(), items=st.lists(st.integers(0, ITEMS - 1), max_size=30))
@settings(max_examples=100, deadline=None)
def test_all_levels_agree_and_children_sum_to_the_parent(book: Codebook, items: list[int]) -> None:
    ballot = Ballot(book)
    ballot.add_all(items)
    leaf = book.item_nodes[np.array(items, np.int64), -1]
    tallies = ballot.tallies(Election((ITEMS,) * book.depth))
    for level, entries in enumerate(levels_of(leaf, np.array([0, len(leaf)]), book.parents)):
        own = {tally.node: tally.votes for tally in tallies if tally.level == level}
        assert own == dict(zip(entries.node.tolist(), entries.votes.tolist(), strict=True))
        assert sum(own.values()) == int((leaf >= 0).sum())
        if level:
            for above in tallies:
                if above.level == level - 1:
                    below = [votes for node, votes in own.items() if book.parents[level][node] == above.node]
                    assert sum(below) == above.votes
    assert all(tally.kept for tally in tallies)


def test_what_is_pruned_is_told_with_its_level() -> None:
    book = make_book(np.array([[0, 0], [0, 1], [1, 0]]))
    ballot = Ballot(book)
    ballot.add_all([0, 0, 1, 2])
    found = [(tally.level, tally.node, tally.votes, tally.kept) for tally in ballot.tallies(Election((1, 1)))]
    assert found == [(0, 0, 3, True), (0, 1, 1, False), (1, 0, 2, True), (1, 1, 1, False), (1, 2, 1, False)]


def test_an_empty_ballot_has_nothing_to_expire() -> None:
    with pytest.raises(IndexError):
        Ballot(make_book(np.array([[0], [1]]))).expire()


@pytest.mark.parametrize("half_life", [None, 30 * 86_400.0])
@pytest.mark.parametrize("threads", [1, 2])
def test_agents_of_every_request_of_the_store(
    store: EventStore, items: ItemSpace, monkeypatch: pytest.MonkeyPatch, half_life: float | None, threads: int
) -> None:
    """Every sample's agents are those that its own history gives, whatever the blocks."""
    book = items.codebook.cut(2)
    samples = store.samples("test")[:60]
    whole = agents_at(store, samples, book, Election((3, 2)), half_life=half_life)
    monkeypatch.setattr("hisac_lab.codebook.moments.EVENTS_AT_ONCE", 50)
    monkeypatch.setattr("hisac_lab.codebook.counting.EVENTS_AT_ONCE", 50)
    blocks = agents_at(store, samples, book, Election((3, 2)), half_life=half_life, threads=threads)
    np.testing.assert_array_equal(whole[0], blocks[0])
    np.testing.assert_array_equal(whole[1], blocks[1])
    if half_life is None:
        for row, (begin, end) in enumerate(zip(*store.bounds(samples), strict=True)):
            found = [(int(node), int(votes)) for node, votes in zip(*(part[row] for part in whole), strict=True)]
            expected = _batch(book, store.items[begin:end].tolist(), Election((3, 2)))
            assert [pair for pair in found if pair[0] >= 0] == expected


def test_no_request_has_no_agents(store: EventStore, items: ItemSpace) -> None:
    nodes, votes = agents_at(store, store.samples("test")[:0], items.codebook, Election((1, 1, 1)))
    assert nodes.shape == votes.shape == (0, 1)

"""What nodes mean, and what a user's votes come to."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import make_book

from hisac_lab.codebook.ballot import Ballot
from hisac_lab.codebook.counting import Election
from hisac_lab.codebook.portrait import portray, typical, words_of

BOOK = make_book(np.array([[0, 0], [0, 1], [1, 0], [1, 1], [2, 0], [-1, -1]]))


@given(
    items=st.lists(st.integers(0, 5), max_size=30),
    budgets=st.tuples(st.integers(1, 3), st.integers(1, 2)),
    keep=st.sampled_from([None, 0.5, 0.9]),
    wanted=st.sampled_from([None, 4]),
)
@settings(max_examples=150, deadline=None)
def test_a_portrait_is_the_ballots_agents_and_what_was_cut_right_below_them(
    items: list[int], budgets: tuple[int, int], keep: float | None, wanted: int | None
) -> None:
    ballot = Ballot(BOOK)
    ballot.add_all(items)
    election = Election(budgets, wanted=wanted, keep=keep)
    found = portray(BOOK, np.array(items, np.int64), election)
    agents = ballot.agents(election)
    assert [(one.node, one.votes) for one in found.agents] == [(one.node, one.votes) for one in agents]
    assert found.behaviors == len(items)
    assert found.voting == found.votes == sum(item != 5 for item in items)
    # Every vote is either an agent's or lost at exactly one place.
    assert sum(one.votes for one in (*found.agents, *found.cut)) == found.votes
    kept = {(one.level, one.node) for one in ballot.tallies(election) if one.kept}
    assert keep or not {(one.level, one.node) for one in found.cut} & kept
    share = sum(one.votes for one in found.agents) / found.votes if found.votes else 0
    assert found.covered == pytest.approx(share)


def test_words_tell_a_group_from_what_is_around_it() -> None:
    texts = ["War film", "War drama", "Love film", "Love story of 1942"]
    everything = np.arange(4)
    assert words_of(texts, np.array([0, 1]), everything, 2) == ["war", "drama"]
    assert words_of(texts, np.array([2, 3]), everything, 1) == ["love"]
    assert words_of(texts, everything, everything, 2) == ["film", "love"]  # nothing to be told from
    articles = ["the war", "the army", "the love", "romance"]
    assert words_of(articles, np.array([0, 1]), everything, 3) == ["army", "war"], "'the' is in half of the others"
    assert words_of(["", ""], np.array([0]), np.array([0, 1]), 3) == []


def test_typical_items_are_those_nearest_to_the_node() -> None:
    vectors = np.zeros((6, 4), np.float32)
    for item in range(5):
        vectors[item] = BOOK.vectors[0][BOOK.item_nodes[item, 0]] + (0.1 if item % 2 else 0.2)
    assert typical(BOOK, vectors, 0, 0, 5).tolist() == [1, 0]
    assert typical(BOOK, vectors, 1, 0, 1).tolist() == [3]

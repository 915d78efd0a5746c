"""Hierarchical voting against a plain reference, and what must hold whatever the histories."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any, Literal, TypeAlias

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import make_book

from hisac_lab.codebook import counting
from hisac_lab.codebook.counting import FRESH, Election, recency_weights
from hisac_lab.codebook.tree import Codebook
from hisac_lab.codebook.votes import Agents, split_budget, vote

Rule = Literal["tree", "flat"]
ITEMS = 14
OFTEN = settings(max_examples=150, deadline=None)


Case: TypeAlias = tuple[Codebook, torch.Tensor, torch.Tensor, tuple[int, ...]]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A tree, histories of a few requests as leaves with their mask, and budgets; small, so that ties abound."""
    depth = draw(st.integers(1, 3))
    codes = draw(st.lists(st.tuples(*[st.integers(0, 2)] * depth), min_size=ITEMS, max_size=ITEMS))
    table = np.array(codes)
    table[draw(st.integers(1, ITEMS - 1))] = -1
    book = make_book(table)
    length = draw(st.integers(1, 12))
    histories = draw(
        st.lists(st.lists(st.integers(-1, ITEMS - 1), min_size=length, max_size=length), min_size=1, max_size=4)
    )
    items = torch.tensor(histories)
    leaves = torch.from_numpy(book.item_nodes[:, -1])[items.clamp(min=0)]
    budgets = tuple(draw(st.lists(st.integers(1, 3), min_size=depth, max_size=depth)))
    return book, leaves, items >= 0, budgets


def _vote(
    book: Codebook,
    leaves: torch.Tensor,
    mask: torch.Tensor,
    budgets: tuple[int, ...],
    rule: Rule,
    wanted: int | None = None,
) -> Agents:
    tree = [torch.from_numpy(parent) for parent in book.parents]
    return vote(leaves, mask, tree, Election(budgets, rule, wanted))


def reference(
    book: Codebook, leaves: list[int], budgets: tuple[int, ...], rule: Rule, wanted: int | None = None
) -> list[tuple[int, int]]:
    """Agents of one history, by the book: (leaf, votes), those with most votes first."""

    def up(leaf: int) -> tuple[int, ...]:
        path = [leaf]
        for parent in reversed(book.parents[1:]):
            path.insert(0, int(parent[path[0]]))
        return tuple(path)

    paths = [up(leaf) if leaf >= 0 else () for leaf in leaves]
    votes = Counter(path[: level + 1] for path in paths for level in range(len(path)))
    last = {path[: level + 1]: place for place, path in enumerate(paths) for level in range(len(path))}

    def best(nodes: list[tuple[int, ...]], count: int | None = None) -> list[tuple[int, ...]]:
        return sorted(nodes, key=lambda node: (-votes[node], -last[node], node))[:count]

    visited = [node for node in votes if len(node) == book.depth]
    if rule == "flat":
        kept = best(visited, wanted or math.prod(budgets))
    else:
        kept = [()]
        for level, budget in enumerate(budgets):
            kept = [
                child
                for parent in kept
                for child in best([node for node in votes if len(node) == level + 1 and node[:-1] == parent], budget)
            ]
        if wanted is not None:
            kept += best([node for node in visited if node not in kept], max(0, wanted - len(kept)))
    return [(node[-1], votes[node]) for node in best(kept)]


def _pairs(agents: Agents, row: int) -> list[tuple[int, int]]:
    return [
        (node, count)
        for node, count in zip(agents.nodes[row].tolist(), agents.votes[row].tolist(), strict=True)
        if node >= 0
    ]


@given(case=cases(), rule=st.sampled_from(["tree", "flat"]))
@OFTEN
def test_vote_agrees_with_reference(case: Case, rule: Rule) -> None:
    book, leaves, mask, budgets = case
    agents = _vote(*case, rule)
    for row in range(len(leaves)):
        known = torch.where(mask[row], leaves[row], -1).tolist()
        assert _pairs(agents, row) == reference(book, known, budgets, rule)


@given(case=cases(), rule=st.sampled_from(["tree", "flat"]), more=st.integers(0, 4))
@OFTEN
def test_free_places_go_to_the_leaves_with_most_votes(case: Case, rule: Rule, more: int) -> None:
    """A request has as many agents as it wants, where it has visited so many leaves; those of the tree stay."""
    book, leaves, mask, budgets = case
    wanted = math.prod(budgets) + more
    agents, plain = _vote(*case, rule, wanted), _vote(*case, rule)
    for row in range(len(leaves)):
        known = torch.where(mask[row], leaves[row], -1).tolist()
        pairs = _pairs(agents, row)
        assert pairs == reference(book, known, budgets, rule, wanted)
        assert len(pairs) == min(wanted, len({leaf for leaf in known if leaf >= 0}))
        assert set(_pairs(plain, row)) <= set(pairs)


@given(case=cases())
@OFTEN
def test_votes_of_children_sum_to_parent(case: Case) -> None:
    """With room for all, the votes at one depth are sums of those one level deeper, and all votes are cast."""
    book, leaves, mask, _ = case
    item_of_leaf = {int(leaf): item for item, leaf in enumerate(book.item_nodes[:, -1])}
    items = np.array([[item_of_leaf[int(leaf)] if leaf >= 0 else -1 for leaf in row] for row in leaves.numpy()])
    per_level = []
    for depth in range(1, book.depth + 1):
        cut = book.cut(depth)
        nodes = torch.from_numpy(np.where(items >= 0, cut.item_nodes[items, -1], -1))
        agents = _vote(cut, nodes, mask, (ITEMS,) * depth, "tree")
        per_level.append([dict(_pairs(agents, row)) for row in range(len(leaves))])
    for row in range(len(leaves)):
        assert sum(per_level[-1][row].values()) == int((mask[row] & (leaves[row] >= 0)).sum())
        for level in range(1, book.depth):
            sums: Counter[int] = Counter()
            for node, count in per_level[level][row].items():
                sums[int(book.parents[level][node])] += count
            assert sums == per_level[level - 1][row]


LINE = make_book(np.array([[0], [1], [2], [3]]))


@pytest.mark.parametrize(
    ("history", "budget", "expected"),
    [
        ([0, 1, 1, 2, 2, 2], 2, [2, 1]),
        ([0, 1, 2, 3], 2, [3, 2]),
        ([1, 1, 0, 0, 3], 1, [0]),
        ([0, 0, 1, 1, 0, 1], 1, [1]),
        ([3, 1, 3, 1, 2, 2], 3, [2, 1, 3]),
    ],
    ids=["most votes first", "all equal: the newest", "the more recent pair", "one step later", "three pairs"],
)
@pytest.mark.parametrize("rule", ["tree", "flat"])
def test_ties_go_to_the_most_recent_then_the_lower_code(
    history: list[int], budget: int, expected: list[int], rule: Rule
) -> None:
    leaves = torch.tensor([history])
    assert _vote(LINE, leaves, leaves >= 0, (budget,), rule).nodes[0].tolist() == expected


@given(case=cases(), rule=st.sampled_from(["tree", "flat"]), bits=st.sampled_from([0, 20, 63]), block=st.integers(1, 9))
@OFTEN
def test_neither_packing_nor_blocks_nor_threads_show_in_the_result(
    case: Case, rule: Rule, bits: int, block: int
) -> None:
    """Entries too many for one packed integer are sorted by three keys; requests are counted in blocks."""
    expected = _vote(*case, rule)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counting, "EVENTS_AT_ONCE", block)
        patch.setattr(counting, "BITS", 63)
        whole = counting._ranking
        patch.setattr(counting, "_ranking", lambda *parts: _with_bits(bits, whole, *parts))
        found = _vote(*case, rule)
    assert torch.equal(found.nodes, expected.nodes)
    assert torch.equal(found.votes, expected.votes)


def _with_bits(bits: int, ranking: Any, *parts: Any) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counting, "BITS", bits)
        return ranking(*parts)


def test_more_events_than_a_packed_integer_holds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "BITS", 4)
    leaves = torch.tensor([[0, 1, 2, 3]])
    with pytest.raises(ValueError, match="too many at once"):
        _vote(LINE, leaves, leaves >= 0, (2,), "tree")


def test_an_inner_node_is_as_recent_as_its_newest_leaf() -> None:
    book = make_book(np.array([[0, 0], [0, 1], [1, 0], [1, 1]]))
    leaves = torch.tensor([[2, 0, 3, 1], [0, 3, 1, 2]])
    agents = _vote(book, leaves, leaves >= 0, (1, 1), "tree")
    assert agents.nodes.tolist() == [[1], [2]]


def test_the_tree_keeps_siblings_that_a_flat_vote_would_not() -> None:
    """Leaves 0 and 1 hang under one node and have most votes; the tree with budgets (2, 1) must look elsewhere."""
    book = make_book(np.array([[0, 0], [0, 1], [1, 0]]))
    leaves = torch.tensor([[0, 0, 0, 1, 1, 2]])
    assert _vote(book, leaves, leaves >= 0, (2, 1), "tree").nodes.tolist() == [[0, 2]]
    assert _vote(book, leaves, leaves >= 0, (2, 1), "flat").nodes.tolist() == [[0, 1]]


@given(case=cases(), rule=st.sampled_from(["tree", "flat"]))
@OFTEN
def test_agents_are_observed_leaves_and_at_most_the_product_of_budgets(case: Case, rule: Rule) -> None:
    _, leaves, mask, budgets = case
    agents = _vote(*case, rule)
    real = agents.nodes >= 0
    assert agents.nodes.shape[1] <= max(1, math.prod(budgets))
    assert (agents.votes[~real] == 0).all()
    assert (real.int().diff(dim=1) <= 0).all()  # the padding stands on the right
    for row in range(len(leaves)):
        seen = set(leaves[row][mask[row]].tolist()) - {-1}
        found = agents.nodes[row][real[row]].tolist()
        assert set(found) <= seen
        assert len(set(found)) == len(found)
        assert bool(found) == bool(seen)


@given(case=cases(), rule=st.sampled_from(["tree", "flat"]), more=st.integers(1, 4))
@OFTEN
def test_padding_and_items_without_id_never_vote(case: Case, rule: Rule, more: int) -> None:
    book, leaves, mask, budgets = case
    plain = _vote(*case, rule)
    wide_leaves = torch.nn.functional.pad(leaves, (more, 0))
    wide_leaves[:, 0] = -1
    wide_mask = torch.nn.functional.pad(mask, (more, 0))
    wide_mask[:, 0] = True  # a real event of an item without an ID
    wide = _vote(book, wide_leaves, wide_mask, budgets, rule)
    assert torch.equal(plain.nodes, wide.nodes)
    assert torch.equal(plain.votes, wide.votes)


@given(case=cases(), rule=st.sampled_from(["tree", "flat"]))
@OFTEN
def test_requests_of_a_batch_do_not_see_each_other(case: Case, rule: Rule) -> None:
    book, leaves, mask, budgets = case
    together = _vote(*case, rule)
    for row in range(len(leaves)):
        alone = _vote(book, leaves[row : row + 1], mask[row : row + 1], budgets, rule)
        assert _pairs(alone, 0) == _pairs(together, row)


def test_a_history_without_any_vote_has_no_agent() -> None:
    leaves = torch.tensor([[-1, -1], [0, 1]])
    agents = _vote(LINE, leaves, torch.tensor([[True, True], [False, False]]), (2,), "tree")
    assert agents.nodes.tolist() == [[-1], [-1]]
    assert agents.votes.tolist() == [[0], [0]]


def test_old_behaviors_can_count_less() -> None:
    """Two old events on leaf 0 against one fresh one on leaf 1: who wins depends on the half-life."""
    leaves, ages = torch.tensor([[0, 0, 1]]), torch.tensor([[100, 90, 1]])
    parents = [torch.from_numpy(parent) for parent in LINE.parents]

    def first(half_life: float | None) -> int:
        return int(vote(leaves, leaves >= 0, parents, Election((1,)), ages, half_life).nodes[0, 0])

    assert [first(half_life) for half_life in (None, 1e6, 10.0)] == [0, 0, 1]
    agents = vote(leaves, leaves >= 0, parents, Election((2,)), ages, 100.0)
    old, older, fresh = (int(recency_weights(np.array(age), 100.0)) for age in (90, 100, 1))
    assert agents.nodes.tolist() == [[0, 1]]
    assert agents.votes.tolist() == [[old + older, fresh]]


@given(case=cases(), rule=st.sampled_from(["tree", "flat"]))
@OFTEN
def test_weights_count_as_so_many_events(case: Case, rule: Rule) -> None:
    """Weights 2 and 1 by turns, against each event written once or twice."""
    book, leaves, mask, budgets = case
    twice = torch.arange(leaves.shape[1]) % 2 == 0
    heads = np.concatenate([[0], np.cumsum(mask.sum(dim=1).numpy())])
    weights = np.where(np.broadcast_to(twice.numpy(), leaves.shape), 2, 1)[mask.numpy()]
    found = counting.count_agents(leaves[mask].numpy(), heads, book.parents, Election(budgets, rule), weights)
    index = torch.repeat_interleave(torch.arange(leaves.shape[1]), torch.where(twice, 2, 1))
    expected = _vote(book, leaves[:, index], mask[:, index], budgets, rule)
    np.testing.assert_array_equal(found[0], expected.nodes)
    np.testing.assert_array_equal(found[1], expected.votes)


def test_recency_weights_are_halved_and_never_nothing() -> None:
    ages = np.array([0, 10, 20, 10**9])
    assert recency_weights(ages, 10.0).tolist() == [FRESH, FRESH // 2, FRESH // 4, 1]


def _splits(product: int, depth: int, least: int) -> bool:
    """Whether a number is a product of so many factors, each at least `least`."""
    if depth == 1:
        return product >= least
    return any(product % k == 0 and _splits(product // k, depth - 1, least) for k in range(least, product + 1))


@given(agents=st.integers(1, 500), depth=st.integers(1, 5), breadth=st.floats(0, 1))
@settings(max_examples=300, deadline=None)
def test_budgets_multiply_to_at_most_the_agents(agents: int, depth: int, breadth: float) -> None:
    budgets = split_budget(agents, depth, breadth)
    assert len(budgets) == depth
    assert min(budgets) >= (2 if agents >= 2**depth else 1)
    assert math.prod(budgets) <= agents
    # No split of at least two a level wastes less.
    least = min(2, *budgets)
    for product in range(math.prod(budgets) + 1, agents + 1):
        assert not _splits(product, depth, least)


@pytest.mark.parametrize(
    ("agents", "depth", "breadth", "expected"),
    [
        (200, 1, 0.3, (200,)),
        (200, 2, 0.7, (40, 5)),
        (64, 3, 0.7, (16, 2, 2)),
        (128, 3, 0.7, (32, 2, 2)),
        (32, 3, 0.7, (8, 2, 2)),
        (64, 3, 0.5, (8, 4, 2)),
        (101, 2, 0.7, (25, 4)),
        (8, 2, 1.0, (4, 2)),
        (8, 2, 0.0, (2, 4)),
        (3, 2, 0.5, (3, 1)),
    ],
)
def test_breadth_is_the_share_of_the_budget_spent_at_the_first_level(
    agents: int, depth: int, breadth: float, expected: tuple[int, ...]
) -> None:
    assert split_budget(agents, depth, breadth) == expected


def test_weights_are_shares_of_the_kept_votes_and_sum_to_one() -> None:
    agents = Agents(
        torch.tensor([[5, 2, 7], [1, -1, -1], [-1, -1, -1]]), torch.tensor([[6, 3, 1], [4, 0, 0], [0, 0, 0]])
    )
    torch.testing.assert_close(agents.weights(), torch.tensor([[0.6, 0.3, 0.1], [1, 0, 0], [0, 0, 0]]))
    even = agents.weights(1e6)
    torch.testing.assert_close(even[0], torch.full((3,), 1 / 3), atol=1e-4, rtol=0)
    for temperature in (0.3, 1.0, 4.0):
        torch.testing.assert_close(agents.weights(temperature).sum(dim=1), torch.tensor([1.0, 1.0, 0.0]))

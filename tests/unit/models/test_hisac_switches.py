"""HiSAC's switches: what is routed, every leaf an agent, shuffled IDs, the block behind the agents."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from hisac_branch import LENGTHS, SPACE, make_branch, some_histories
from kit import BACKBONE, WITHOUT_ID, make_history
from torch import Tensor

from hisac_lab.models.contract import Candidates, History, UserState
from hisac_lab.models.hisac import HiSACConfig
from hisac_lab.models.path_votes import PathVotes, VotesBranch, VotesConfig

HEADS = HiSACConfig().heads
SWITCHES: dict[str, dict[str, Any]] = {
    "over behaviors": {},
    "over agents": {"softmax_over": "agents"},
    "hard": {"routing": "hard"},
}


def _events(history: History) -> Tensor:
    return torch.randn(*history.items.shape, BACKBONE.dim, generator=torch.Generator().manual_seed(0))


def _routed(history: History) -> Tensor:
    return history.mask & ~torch.isin(history.items, torch.tensor(WITHOUT_ID))


def _repeating() -> History:
    """Few items, each many times, one of them without a semantic ID."""
    history = make_history([40, 12, 0, 25], items=7)
    history.items[0, 5] = WITHOUT_ID[1]
    return history


@pytest.mark.parametrize("switch", SWITCHES)
@pytest.mark.parametrize("weight", ["bias", "factor"])
def test_routing_each_item_once_gives_the_same_numbers(switch: str, weight: str) -> None:
    """Equal items are routed alike, so a unit of n equal behaviors takes part n times."""
    history = _repeating()
    states, routes = [], []
    for by in ("events", "items"):
        branch = make_branch(**SWITCHES[switch], weight=weight, route_by=by, temperature=0.3)
        states.append(branch.encode(history, _events(history)))
        routes.append(branch.route(history, branch.agents(history)))
    assert branch.units(history).values.shape[1] <= 7
    torch.testing.assert_close(routes[1], routes[0], atol=1e-6, rtol=1e-4)
    for name in ("keys", "values", "bias"):
        torch.testing.assert_close(states[1][name], states[0][name], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("switch", SWITCHES)
def test_routing_by_leaf_is_exact_where_items_lie_on_their_leaf(switch: str) -> None:
    """Hard routing knows leaves only; soft routing is off by how far items lie from their leaf."""
    history = _repeating()
    plain, rough = (make_branch(**SWITCHES[switch], route_by=by, temperature=0.3) for by in ("events", "leaves"))
    routes = [one.route(history, one.agents(history)) for one in (plain, rough)]
    off = float((routes[0] - routes[1]).abs().sum() / routes[0].sum())
    assert off == 0 if switch == "hard" else 0.01 < off < 0.3
    known = plain.item_leaf >= 0
    for branch in (plain, rough):
        branch.semantic = branch.semantic.clone()  # the space is shared by all tests
        branch.semantic[known] = branch.leaf_vectors[branch.item_leaf[known]]
        branch.item_square = branch.semantic.square().sum(dim=1)
    states = [one.encode(history, _events(history)) for one in (plain, rough)]
    for name in ("keys", "values", "bias"):
        torch.testing.assert_close(states[1][name], states[0][name], atol=1e-5, rtol=1e-4)


def test_without_hierarchical_voting_every_observed_leaf_is_an_agent() -> None:
    branch, history = make_branch(every_leaf=True, agents=999), some_histories()
    agents, routed = branch.agents(history), _routed(history)
    for row in range(len(LENGTHS)):
        leaves = branch.item_leaf[history.items[row]][routed[row]].tolist()
        kept = agents.nodes[row][agents.nodes[row] >= 0].tolist()
        assert sorted(kept) == sorted(set(leaves))
        assert agents.votes[row][: len(kept)].tolist() == [leaves.count(leaf) for leaf in kept]


def test_shuffled_ids_route_by_the_embeddings_of_other_items() -> None:
    """The control keeps tree and geometry and breaks what an ID says of its item."""
    own, shuffled = make_branch(), make_branch(ids="shuffled")
    assert torch.equal(own.leaf_vectors, shuffled.leaf_vectors)
    assert sorted(own.item_leaf.tolist()) == sorted(shuffled.item_leaf.tolist())
    assert not torch.equal(own.item_leaf, shuffled.item_leaf)
    known = own.item_leaf >= 0
    distances = [
        (one.semantic[known] - one.leaf_vectors[one.item_leaf[known]]).square().sum(dim=1).sort().values
        for one in (own, shuffled)
    ]
    torch.testing.assert_close(distances[0], distances[1])


def test_agents_can_stand_in_front_of_a_transformer_block() -> None:
    """The compressed sequence goes through the block, and candidates attend to its outputs."""
    branch, history = make_branch(reader="transformer"), some_histories()
    assert branch.block is not None
    with torch.no_grad():
        state = branch.encode(history, _events(history))
        faded = branch.fade(history.ages)
        assert isinstance(faded, Tensor)
        values = branch.value(_events(history)) * faded[..., None]
        agents, bias = branch.compress(history, values)
        for row in range(len(LENGTHS)):
            there = bias[row] > -1e30
            if there.any():
                pairs = bias[row][there].expand(1, 1, int(there.sum()), -1)
                mixed = branch.block.tokens(agents[row][there][None], pairs)[0][0]
                expected = branch.reader.to_key(mixed)
                torch.testing.assert_close(state["keys"][row][there], expected, atol=1e-5, rtol=1e-4)


def test_a_candidate_is_told_the_votes_of_its_own_path() -> None:
    """Per level: whether a behavior was there, the log of how many, the log of the days since the newest."""
    branch = VotesBranch(VotesConfig(votes_from="all"), BACKBONE, SPACE)
    history = make_history([40, 0, 9], items=7)
    items = torch.tensor([[3, WITHOUT_ID[0], 20]]).expand(3, -1)
    assert isinstance(branch.path, PathVotes)
    seen: list[Tensor] = []
    branch.path.out.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    branch.path.attend(branch.path.encode(history), items)
    for row, column in itertools.product(range(3), range(3)):
        for level in range(3):
            node = SPACE.codebook.item_nodes[items[row, column], level]
            mine = SPACE.codebook.item_nodes[history.items[row], level]
            hits = [
                age / 86_400
                for age, there, own in zip(history.ages[row].tolist(), history.mask[row], mine, strict=True)
                if there and own == node >= 0
            ]
            wanted = [1.0, math.log1p(len(hits)), math.log1p(min(hits))] if hits else [0.0, 0.0, 0.0]
            assert seen[0][row, column, 3 * level : 3 * level + 3].tolist() == pytest.approx(wanted, rel=1e-5)


def test_votes_alone_answer_from_the_path_alone() -> None:
    """Other events at the same nodes change nothing, and no candidate vector is looked at."""
    torch.manual_seed(0)
    branch = VotesBranch(VotesConfig(votes_from="all"), BACKBONE, SPACE)
    history = make_history([9, 4])
    items = torch.arange(6).view(2, 3)
    answers = []
    for seed in (0, 1):
        drawn = torch.Generator().manual_seed(seed)
        events, vectors = (
            torch.randn(2, 9, BACKBONE.dim, generator=drawn),
            torch.randn(2, 3, BACKBONE.dim, generator=drawn),
        )
        state = UserState(branch.encode(history, events))
        answers.append(branch.attend(state, Candidates(items, vectors, vectors, lambda items, *_: items)))
    assert torch.equal(*answers)
    assert isinstance(branch.path, PathVotes)
    assert torch.equal(answers[0], branch.path.attend(branch.path.encode(history), items))

"""What a branch read, to look at: weights of agents that give its answer again, votes of nodes as counted by hand."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from kit import BACKBONE, EVERY, ITEMS, as_backbone, lively, make_history, make_items

from hisac_lab.models.contract import Candidates, History, UserState
from hisac_lab.models.hisac import HiSACBranch
from hisac_lab.models.packing import unpack
from hisac_lab.models.path_votes import VotesBranch, VotesConfig
from hisac_lab.ops.attention import join_heads, split_heads

SPACE = make_items()
LENGTHS = [14, 3, 0, 7, 1]
CANDIDATES = torch.randint(0, ITEMS, (len(LENGTHS), 6), generator=torch.Generator().manual_seed(5))
AGENTS = sorted(name for name, config in EVERY.items() if config.kind == "hisac")
VOTES = sorted(name for name, config in EVERY.items() if isinstance(config, VotesConfig))
DAY = 86_400


def read(name: str, history: History) -> tuple[HiSACBranch, UserState, Candidates]:
    """A branch, the state it makes and the candidates that it is asked."""
    model = as_backbone(lively(name, SPACE))
    state = model.encode(history)
    state = state if model.state_bits == 32 else UserState(unpack(state.tensors))
    vectors = model.encoder(CANDIDATES)
    assert isinstance(model.long, HiSACBranch)
    return model.long, state, Candidates(CANDIDATES, vectors, vectors, model.embed)


@pytest.mark.parametrize("name", sorted(EVERY))
def test_every_model_weighs_its_agents_or_has_none(name: str) -> None:
    model, history = lively(name, SPACE), make_history(LENGTHS)
    if "instances" not in model.sides:
        history = dataclasses.replace(history, instances=None)
    with torch.no_grad():
        weights, votes = model.explain(model.encode(history), CANDIDATES)
    assert (weights is not None) == (name in AGENTS)
    assert bool(votes) == (name in VOTES or getattr(EVERY[name], "counts", None) is not None)
    if weights is not None:
        agents = model.agents(history)
        assert agents is not None
        there = agents.nodes >= 0
        assert weights.shape[-1] == there.shape[1]
        assert (weights * ~there[:, None, None, :]).abs().max() == 0
        assert torch.allclose(weights.sum(dim=-1), there.any(dim=1)[:, None, None].float(), atol=1e-6)
    for facts in votes.values():
        assert facts.shape == (*CANDIDATES.shape, 2)


@pytest.mark.parametrize("name", AGENTS)
@torch.no_grad()
def test_weights_give_the_answer_of_the_branch_again(name: str) -> None:
    branch, state, asked = read(name, make_history(LENGTHS))
    weights = branch.agent_weights(state, asked)
    read_values = join_heads(weights @ split_heads(state["values"], branch.config.heads))
    again = branch.reader.merge(read_values)
    width = again.shape[-1]
    if branch.sums is not None:
        again = again + branch.sums(branch.gaps(state["nodes"], asked.items), state["counts"])
    if branch.counts is not None and branch.counts.answers:
        again = again + branch.counts.attend(state, asked)
    torch.testing.assert_close(again, branch.attend(state, asked)[..., :width], atol=1e-6, rtol=1e-6)
    assert weights.std() > 1e-3


@torch.no_grad()
def test_without_an_agent_its_share_goes_to_the_others() -> None:
    branch, state, asked = read("hisac", make_history(LENGTHS))
    weights = branch.agent_weights(state, asked)
    bias = state["bias"].clone()
    bias[:, 0] = torch.finfo(torch.float32).min
    rest = branch.agent_weights(UserState(state.tensors | {"bias": bias}), asked)
    wanted = weights[..., 1:] / weights[..., 1:].sum(dim=-1, keepdim=True).clamp(min=1e-12)
    torch.testing.assert_close(rest[0, :, :, 1:], wanted[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", VOTES)
@torch.no_grad()
def test_votes_of_a_candidates_nodes_are_those_counted_by_hand(name: str) -> None:
    history = make_history(LENGTHS)
    model = as_backbone(lively(name, SPACE))
    branch, config = model.long, EVERY[name]
    assert isinstance(branch, VotesBranch)
    assert isinstance(config, VotesConfig)
    told = model.explain(model.encode(history), CANDIDATES)[1]
    assert len(told) == branch.path.counts
    nodes = branch.path.item_nodes
    for place, facts in enumerate([told[name] for name in branch.names][: nodes.shape[1]]):
        column = nodes[:, place]
        for row in range(len(LENGTHS)):
            events = history.voters(branch.path.first_voting).mask[row]
            for at, item in enumerate(CANDIDATES[row].tolist()):
                same = events & (column[history.items[row]] == column[item]) & (column[item] >= 0)
                days = float(history.ages[row][same].min()) / DAY if same.any() else 0.0
                assert facts[row, at].tolist() == pytest.approx([int(same.sum()), days], rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(
    ("config", "names"),
    [
        (VotesConfig(), ["residual level 1", "residual level 2", "residual level 3"]),
        (VotesConfig(books=("flat_6",), own_item=True), ["flat_6", "the item itself"]),
        (
            VotesConfig(books=("flat_6", "residual"), nearest=2, exposures=True),
            [
                *(f"residual level {level}" for level in (1, 2, 3)),
                "flat_6",
                *(f"residual level {level}, negatives" for level in (1, 2, 3)),
                "flat_6, negatives",
            ],
        ),
    ],
)
def test_partitions_are_named_in_their_order(config: VotesConfig, names: list[str]) -> None:
    branch = VotesBranch(config, BACKBONE, SPACE)
    assert branch.names == names
    assert len(names) == branch.path.counts

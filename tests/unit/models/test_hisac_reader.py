"""How candidates ask HiSAC's agents: frozen distances, facts in the values, sums, and what votes on the score are."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hisac_branch import LENGTHS, SPACE, make_branch, some_histories
from kit import BACKBONE, WITHOUT_ID, ask, make_history
from torch import Tensor

from hisac_lab.models.contract import History, UserState
from hisac_lab.models.heads import BROAD, SHARP, Kernel, TargetHeads
from hisac_lab.models.hisac import PAPER, HiSACBranch, HiSACConfig
from hisac_lab.models.path_votes import VotesBranch, VotesConfig

ITEMS = torch.tensor([[3, 20, 7, WITHOUT_ID[0]]]).expand(5, -1)


def _drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, BACKBONE.dim, generator=torch.Generator().manual_seed(seed))


def _gap(branch: HiSACBranch, item: int, leaf: int) -> float:
    """Squared distance in double precision, 0 where the item has no vector."""
    if item in WITHOUT_ID:
        return 0.0
    return float((SPACE.semantic[item].double() - branch.leaf_vectors[leaf].double()).square().sum())


def _by_hand(branch: HiSACBranch, state: dict[str, Tensor], vectors: Tensor, agents: Tensor) -> Tensor:
    """Attention over agents, one candidate, head and agent at a time."""
    heads, reader = branch.config.heads, branch.reader
    width, out = BACKBONE.dim // heads, torch.zeros_like(vectors)
    queries = reader.to_query(vectors) if reader.learned else vectors
    for row in range(len(vectors)):
        kept = [column for column, leaf in enumerate(agents[row].tolist()) if leaf >= 0]
        for column, item in enumerate(ITEMS[row].tolist() if kept else []):
            for head in range(heads):
                part = slice(head * width, (head + 1) * width)
                scores = torch.tensor([float(state["bias"][row, a]) for a in kept])
                if branch.config.score != "learned":
                    assert reader.kernel is not None
                    tau = math.exp(float(reader.kernel.log_tau[head]))
                    scores -= torch.tensor([_gap(branch, item, int(agents[row, a])) / tau for a in kept])
                if reader.learned:
                    scores += state["keys"][row, kept, part] @ queries[row, column, part] / math.sqrt(width)
                out[row, column, part] = torch.softmax(scores, dim=0) @ state["values"][row, kept, part]
    merged: Tensor = reader.merge(out)
    return merged


@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("weight", ["bias", "none"])
@pytest.mark.parametrize("score", ["frozen", "both", "learned"])
def test_a_frozen_score_is_the_distance_over_a_temperature_per_head(score: str, weight: str, heads: int) -> None:
    branch, history, vectors = make_branch(score=score, weight=weight, heads=heads), some_histories(), _drawn(5, 4)
    with torch.no_grad():
        state = branch.encode(history, _drawn(*history.items.shape))
        found = branch.attend(UserState(state), ask(vectors, ITEMS))
        wanted = _by_hand(branch, state, vectors, branch.agents(history).nodes)
    assert ("keys" in state) == (score != "frozen")
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


def test_a_candidate_without_a_frozen_vector_is_answered_by_votes_alone() -> None:
    branch, history = make_branch(score="frozen"), make_history([12])
    state = branch.encode(history, _drawn(1, 12))
    answer = branch.attend(UserState(state), ask(_drawn(1, 1), torch.tensor([[WITHOUT_ID[0]]])))
    shares = branch.agents(history).weights()[..., None]
    torch.testing.assert_close(answer, branch.reader.merge((shares * state["values"]).sum(dim=1, keepdim=True)))


def test_temperatures_start_between_a_sharp_and_a_broad_one_and_stay_positive() -> None:
    for heads, wanted in ((4, [SHARP, 0.1148, 0.2196, BROAD]), (1, [math.sqrt(SHARP * BROAD)])):
        assert Kernel(heads).log_tau.exp().tolist() == pytest.approx(wanted, rel=1e-3)
    branch, history = make_branch(score="frozen"), some_histories()
    optimizer = torch.optim.SGD(branch.parameters(), lr=100.0)
    state = branch.encode(history, _drawn(*history.items.shape))
    branch.attend(UserState(state), ask(_drawn(5, 4), ITEMS)).square().sum().backward()
    assert branch.reader.kernel is not None
    before = branch.reader.kernel.log_tau.exp().detach().clone()
    optimizer.step()
    after = branch.reader.kernel.log_tau.exp()
    assert (after > 0).all()
    assert (after != before).all()


@pytest.mark.parametrize("route_by", ["events", "items", "leaves"])
@pytest.mark.parametrize("pruned", ["dropped", "routed"])
def test_facts_are_added_to_the_values_whatever_is_routed(route_by: str, pruned: str) -> None:
    branch, history = make_branch(route_by=route_by, pruned=pruned, facts=True), some_histories()
    agents, events = branch.agents(history), _drawn(*history.items.shape)
    state = branch.encode(history, events)
    assert branch.told is not None
    assert agents.facts is not None
    assert agents.facts.shape[2] == 2 + len(branch.config.half_lives)
    plain = make_branch(route_by=route_by, pruned=pruned).encode(history, events)
    torch.testing.assert_close(state["values"], plain["values"] + branch.told(agents.facts.log1p()))
    for name in ("keys", "bias"):
        torch.testing.assert_close(state[name], plain[name])
    voting = (history.mask & (branch.item_leaf[history.items] >= 0)).sum(dim=1)
    held = agents.facts[..., 0].sum(dim=1)
    assert torch.equal(held, agents.votes.sum(dim=1).float())
    assert (held <= voting).all()
    assert torch.equal(held, voting.float()) == (pruned == "routed")


def test_sums_are_counts_weighed_by_distance() -> None:
    """log(1 + sum of exp(-gap / tau) n) per head and count, not divided by the sum of the weights."""
    branch, history = make_branch(sums=True, pruned="routed", half_lives=(2.0, 50.0)), some_histories()
    assert branch.sums is not None
    seen: list[Tensor] = []
    branch.sums.out.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    state = branch.encode(history, _drawn(*history.items.shape))
    branch.attend(UserState(state), ask(_drawn(5, 4), ITEMS))
    agents, taus = branch.agents(history), branch.sums.kernel.log_tau.exp().tolist()
    assert agents.facts is not None
    counts = agents.facts[..., :3]
    for row in range(len(LENGTHS)):
        for column, item in enumerate(ITEMS[row].tolist()):
            wanted = [
                math.log1p(sum(math.exp(-_gap(branch, item, leaf) / tau) * float(counts[row, a, n])
                               for a, leaf in enumerate(agents.nodes[row].tolist()) if leaf >= 0))
                for tau in taus for n in range(3)
            ]  # fmt: skip
            assert seen[0][row, column].tolist() == pytest.approx(wanted, rel=1e-4, abs=1e-6)


def _all_behaviors(branch: HiSACBranch, state: dict[str, Tensor], history: History, events: Tensor) -> History:
    """Each behavior with a leaf as an agent of its own, by its leaf's key, one vote each."""
    leaf = torch.where(history.mask, branch.item_leaf[history.items], -1)
    nodes = branch.agents(history).nodes
    place = (leaf[:, :, None] == nodes[:, None, :]).float().argmax(dim=2)
    rows = torch.arange(len(leaf))[:, None]
    left = branch.fade(history.ages)
    assert isinstance(left, Tensor)
    state["values"] = branch.reader.to_value(branch.value(events) * left[..., None])
    state["bias"] = torch.zeros(leaf.shape).masked_fill(leaf < 0, torch.finfo(torch.float32).min)
    if "keys" in state:
        state["keys"] = state["keys"][rows, place]
    if "nodes" in state:
        state["nodes"] = leaf
    return history


@pytest.mark.parametrize("score", ["frozen", "learned", "both"])
def test_attention_over_agents_is_attention_over_behaviors_with_their_keys(score: str) -> None:
    """With every leaf an agent, hard routing and log votes: log n on the score and mean values lose nothing."""
    branch, history = make_branch(score=score, every_leaf=True, routing="hard"), make_history([40, 12, 0, 25], items=9)
    events, candidates = _drawn(*history.items.shape), ask(_drawn(4, 4), ITEMS[:4])
    state = branch.encode(history, events)
    assert state["values"].shape[1] < 9
    found = branch.attend(UserState(state), candidates)
    full = dict(state)
    _all_behaviors(branch, full, history, events)
    assert full["values"].shape[1] == 40
    torch.testing.assert_close(found, branch.attend(UserState(full), candidates), atol=1e-5, rtol=1e-4)


def test_a_frozen_reader_keeps_leaves_and_no_keys() -> None:
    frozen, learned = (make_branch(score=score) for score in ("frozen", "learned"))
    history = make_history([30])
    kept = frozen.agents(history).nodes.shape[1]
    assert frozen.cost(history).state_bytes == learned.cost(history).state_bytes - kept * (4 * BACKBONE.dim - 8)
    assert not hasattr(frozen.reader, "to_key")
    assert {name for name, _ in TargetHeads(8, 2).named_parameters()} < {
        name for name, _ in TargetHeads(8, 2, "both").named_parameters()
    }


def test_agents_without_facts_are_refused_where_facts_are_read() -> None:
    branch, history = make_branch(sums=True), make_history([4])
    bare = dataclasses.replace(history, agents=dataclasses.replace(branch.agents(history), facts=None))
    with pytest.raises(AssertionError, match="counted without facts"):
        branch.encode(bare, _drawn(1, 4))


def test_the_papers_reading_is_the_named_one() -> None:
    """What a leaderboard writes out for `hisac_paper`: nothing of ours is on."""
    assert HiSACConfig(score="learned", facts=False, pruned="dropped", fill=False) == PAPER
    assert HiSACBranch.examples["hisac_paper"] == PAPER.model_copy(update={"agents": 8})
    branch, history = make_branch(), some_histories()
    assert set(branch.encode(history, _drawn(*history.items.shape))) == {"keys", "values", "bias"}
    assert branch.agents(history).facts is None


@pytest.mark.parametrize("into", ["tower", "gate"])
def test_counts_beside_the_agents_are_those_of_votes_alone(into: str) -> None:
    settings = {"half_lives": (7.0,), "books": ("residual", "flat_6"), "into": into}
    agents, both = make_branch(), make_branch(counts=settings)
    history, candidates = some_histories(), ask(torch.randn(5, 3, BACKBONE.dim), torch.arange(15).view(5, 3))
    events = torch.randn(5, history.items.shape[1], BACKBONE.dim)
    alone = VotesBranch(VotesConfig.model_validate(settings), BACKBONE, SPACE)
    assert both.counts is not None
    both.load_state_dict(agents.state_dict() | {f"counts.{name}": part for name, part in alone.state_dict().items()})
    state, plain = UserState(both.encode(history, events)), UserState(agents.encode(history, events))
    counted = UserState(alone.encode(history, events))
    expected = agents.attend(plain, candidates)
    if into == "gate":
        expected = expected + alone.attend(counted, candidates)
    torch.testing.assert_close(both.attend(state, candidates), expected)
    assert both.extra_width == alone.extra_width
    if into == "tower":
        batches = [(history, candidates.items, torch.ones(5, 3, dtype=torch.bool))]
        both.standardize(batches)
        alone.standardize(batches)
        assert torch.equal(both.extra(state, candidates), alone.extra(counted, candidates))

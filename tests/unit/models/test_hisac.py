"""HiSAC: routing by the formula, what is frozen, where votes and decay enter, and the refusals."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from hisac_branch import LENGTHS, SPACE, make_branch, some_histories
from kit import BACKBONE, DAY, ITEMS, WITHOUT_ID, ask, make_book, make_history, says
from torch import Tensor

from hisac_lab.codebook.votes import Agents, split_budget
from hisac_lab.models.catalog import build
from hisac_lab.models.contract import History, UserState
from hisac_lab.models.hisac import HiSACBranch, HiSACConfig

SWITCHES: dict[str, dict[str, Any]] = {
    "over behaviors": {},
    "over agents": {"softmax_over": "agents"},
    "hard": {"routing": "hard"},
}


def _events(history: History, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*history.items.shape, BACKBONE.dim, generator=generator)


def _routed(history: History) -> Tensor:
    return history.mask & ~torch.isin(history.items, torch.tensor(WITHOUT_ID))


def _cells(branch: HiSACBranch, history: History) -> list[tuple[int, list[tuple[int, int]], list[tuple[int, int]]]]:
    """Per request its number, its agents (column, leaf) and its routed behaviors (column, item)."""
    agents, routed = branch.agents(history), _routed(history)
    return [
        (
            row,
            [(column, int(leaf)) for column, leaf in enumerate(agents.nodes[row]) if leaf >= 0],
            [(column, int(item)) for column, item in enumerate(history.items[row]) if routed[row, column]],
        )
        for row in range(len(history.items))
    ]


def _by_hand(branch: HiSACBranch, history: History) -> Tensor:
    """alpha, one cell at a time, in double precision."""
    agents = branch.agents(history)
    alpha = torch.zeros(*agents.nodes.shape, history.items.shape[1], dtype=torch.float64)
    tau, leaf_of = branch.config.temperature, SPACE.codebook.item_nodes[:, 1]

    def score(leaf: int, item: int) -> float:
        gap = branch.leaf_vectors[leaf].double() - SPACE.semantic[item].double()
        return math.exp(-float(gap @ gap) / tau)

    for row, mine, behaviors in _cells(branch, history):
        for a, leaf in mine:
            for i, item in behaviors:
                if branch.config.routing == "hard":
                    alpha[row, a, i] = float(leaf_of[item] == leaf)
                elif branch.config.softmax_over == "behaviors":
                    alpha[row, a, i] = score(leaf, item)
                else:
                    alpha[row, a, i] = score(leaf, item) / sum(score(other, item) for _, other in mine)
            alpha[row, a] /= alpha[row, a].sum()
    return alpha


@pytest.mark.parametrize("vote", ["tree", "flat"])
@pytest.mark.parametrize("switch", SWITCHES)
def test_routing_matches_the_formula(switch: str, vote: str) -> None:
    branch, history = make_branch(**SWITCHES[switch], vote=vote, temperature=0.4), some_histories()
    found = branch.route(history, branch.agents(history))
    torch.testing.assert_close(found.double(), _by_hand(branch, history), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("temperature", [0.05, 0.3, 5.0])
@pytest.mark.parametrize("switch", SWITCHES)
def test_routing_rows_sum_to_one(switch: str, temperature: float) -> None:
    branch, history = make_branch(**SWITCHES[switch], temperature=temperature), some_histories()
    agents = branch.agents(history)
    sums = branch.route(history, agents).sum(dim=2)
    torch.testing.assert_close(sums, (agents.nodes >= 0).float(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("switch", SWITCHES)
def test_padding_and_items_without_id_are_not_routed(switch: str) -> None:
    branch, history = make_branch(**SWITCHES[switch]), some_histories()
    alpha = branch.route(history, branch.agents(history))
    assert not alpha.transpose(1, 2)[~_routed(history)].any()
    if switch == "over behaviors":
        rows = (branch.agents(history).nodes >= 0).any(dim=1)
        assert (alpha[rows].sum(dim=1)[_routed(history)[rows]] > 0).all()


def test_with_the_softmax_over_agents_every_behavior_spends_mass_one() -> None:
    """Undoing the division by an agent's mass, the shares of a behavior sum to one."""
    branch, history = make_branch(softmax_over="agents", temperature=0.4), some_histories()
    alpha = branch.route(history, branch.agents(history)).double()
    for row, mine, behaviors in _cells(branch, history):
        if not mine:
            continue
        columns = [column for column, _ in behaviors]
        matrix = alpha[row, : len(mine)][:, columns]  # alpha[a, i] = s[a, i] / mass[a]
        mass = torch.linalg.lstsq(matrix.T, torch.ones(len(columns), 1, dtype=torch.float64)).solution
        assert float(mass.sum()) == pytest.approx(len(columns), rel=1e-3)
        torch.testing.assert_close((matrix * mass).sum(dim=0), torch.ones(len(columns)).double(), atol=1e-3, rtol=0)


def test_hard_routing_is_the_mean_over_an_agents_own_leaf() -> None:
    branch, history = make_branch(routing="hard"), some_histories()
    agents, events = branch.agents(history), _events(history)
    mixed = branch.route(history, agents) @ events
    leaves = branch.item_leaf[history.items]
    for row in range(len(LENGTHS)):
        for a, leaf in enumerate(agents.nodes[row]):
            own = (leaves[row] == leaf) & history.mask[row]
            if leaf >= 0:
                assert int(own.sum()) == int(agents.votes[row, a])
                torch.testing.assert_close(mixed[row, a], events[row][own].mean(dim=0))
            else:
                assert not mixed[row, a].any()


@pytest.mark.parametrize("switch", ["over behaviors", "over agents"])
def test_a_hot_temperature_gives_every_agent_the_plain_mean(switch: str) -> None:
    branch, history = make_branch(**SWITCHES[switch], temperature=1e7), some_histories()
    agents, events, routed = branch.agents(history), _events(history), _routed(history)
    mixed = branch.route(history, agents) @ events
    for row in range(len(LENGTHS)):
        mean = events[row][routed[row]].mean(dim=0)
        for agent in mixed[row][agents.nodes[row] >= 0]:
            torch.testing.assert_close(agent, mean, atol=1e-5, rtol=1e-4)


def test_a_cold_temperature_picks_the_nearest_behavior() -> None:
    branch, history = make_branch(temperature=1e-4), make_history([9])
    alpha = branch.route(history, branch.agents(history))
    assert (alpha.max(dim=2).values > 0.3).all()  # at most a few repeats of one item share an agent


@pytest.mark.parametrize("switch", ["over behaviors", "over agents"])
def test_the_order_of_the_history_does_not_matter_without_decay(switch: str) -> None:
    branch = make_branch(**SWITCHES[switch], agents=1, depth=1, budgets=None)
    history = make_history([11])
    order = torch.randperm(11, generator=torch.Generator().manual_seed(0))
    events = _events(history)
    still = dataclasses.replace(history, ages=torch.zeros_like(history.ages))
    mixed = dataclasses.replace(still, items=still.items[:, order])
    agents = branch.agents(still)
    one = branch.encode(dataclasses.replace(still, agents=agents), events)
    other = branch.encode(dataclasses.replace(mixed, agents=agents), events[:, order])
    for name in one:
        torch.testing.assert_close(one[name], other[name])


def test_pruned_behaviors_still_count() -> None:
    """One agent is left; behaviors on other leaves reach it all the same, unless routing is hard."""
    history = make_history([12])
    reach = {}
    for routing in ("soft", "hard"):
        branch = make_branch(budgets=(1, 1), temperature=0.5, routing=routing)
        events = _events(history).requires_grad_()
        state = branch.encode(history, events)
        assert state["keys"].shape[1] == 1
        state["keys"].square().sum().backward()
        assert events.grad is not None
        pruned = branch.item_leaf[history.items] != branch.agents(history).nodes
        assert 3 < int(pruned.sum()) < 12
        reach[routing] = events.grad.abs().sum(dim=2)[pruned]
    assert (reach["soft"] > 0).all()
    assert not reach["hard"].any()


@pytest.mark.parametrize("days", [1, 30, 365])
def test_old_events_decay(days: int) -> None:
    """A history that is older by some days reaches the agents weaker by exp(-rate * days), and the rate is learned."""
    branch, history = make_branch(), make_history([8, 5])
    older = dataclasses.replace(history, ages=history.ages + days * DAY * history.mask)
    events = _events(history)
    now, then = branch.encode(history, events), branch.encode(older, events)
    assert branch.decay is not None
    rate = torch.nn.functional.softplus(branch.decay)
    assert 0 < rate.item() < 0.1
    for name in ("keys", "values"):
        torch.testing.assert_close(then[name], now[name] * torch.exp(-rate * days), atol=1e-7, rtol=1e-4)
    torch.testing.assert_close(then["bias"], now["bias"])
    then["keys"].sum().backward()
    assert branch.decay.grad is not None
    assert branch.decay.grad.item() != 0


@pytest.mark.parametrize("decay", ["exponential", "power"])
def test_an_event_from_after_the_request_weighs_no_more_than_one_of_its_moment(decay: str) -> None:
    """No log that passes the leak check has one; unbounded, a year ahead would weigh hundreds of events."""
    branch = make_branch(decay=decay)
    left = branch.fade(torch.tensor([[-365 * DAY, 0, DAY]]))
    assert isinstance(left, torch.Tensor)
    assert left[0, :2].tolist() == [1.0, 1.0]
    assert left[0, 2] < 1


def test_frozen_parts_get_no_gradient() -> None:
    """Embeddings, codewords and the tree are buffers; routing carries no gradient; training leaves them as they are."""
    model = build(HiSACConfig(agents=6), BACKBONE, SPACE, 0)
    branch = model.long
    assert isinstance(branch, HiSACBranch)
    frozen = {name: part.clone() for name, part in model.named_buffers()}
    assert {name.split(".")[-1] for name in frozen} >= {"semantic", "fields", "leaf_vectors", "item_leaf", "parents_0"}
    history = some_histories()
    assert not branch.route(history, branch.agents(history)).requires_grad
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(history, torch.arange(20).view(5, 4)).square().mean().backward()
        optimizer.step()
    for name, part in model.named_buffers():
        assert not part.requires_grad
        assert part.grad is None
        assert torch.equal(part, frozen[name])


def _plain_attention(branch: HiSACBranch, state: dict[str, Tensor], queries: Tensor, repeats: Tensor | None) -> Tensor:
    """Multi-head attention by loops, each key and value repeated instead of biased when `repeats` is given."""
    heads, width = branch.config.heads, BACKBONE.dim // branch.config.heads
    out = torch.zeros_like(queries)
    for row in range(len(queries)):
        real = torch.isfinite(state["bias"][row]) & (state["bias"][row] > -1e30)
        times = torch.ones(int(real.sum()), dtype=torch.int64) if repeats is None else repeats[row][real]
        bias = state["bias"][row][real] if repeats is None else torch.zeros(int(real.sum()))
        keys, values, bias = (
            part.repeat_interleave(times, dim=0)
            for part in (state["keys"][row][real], state["values"][row][real], bias)
        )
        if not len(keys):
            continue
        query = branch.reader.to_query(queries[row])
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            scores = query[:, part] @ keys[:, part].T / math.sqrt(width) + bias
            out[row, :, part] = torch.softmax(scores, dim=1) @ values[:, part]
    merged: Tensor = branch.reader.merge(out)
    return merged


@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("weight", ["bias", "factor", "none"])
def test_candidates_see_the_history_through_agents_only(weight: str, heads: int) -> None:
    """The state is K agents however long the history, and the answer is plain multi-head attention over them."""
    branch = make_branch(weight=weight, heads=heads)
    history, queries = some_histories(), torch.randn(5, 3, BACKBONE.dim)
    state = branch.encode(history, _events(history))
    assert set(state) == {"keys", "values", "bias"}
    long = branch.encode(make_history([200]), torch.randn(1, 200, BACKBONE.dim))
    for name, part in state.items():
        assert part.shape[1] <= 6, name
        assert long[name].shape[1] <= 6
    found = branch.attend(UserState(state), ask(queries))
    torch.testing.assert_close(found, _plain_attention(branch, state, queries, None), atol=1e-5, rtol=1e-4)


def test_vote_weight_is_a_bias() -> None:
    """log(share of votes) on the score: the same as if each agent stood there once per vote."""
    branch, history = make_branch(), some_histories()
    state, agents = branch.encode(history, _events(history)), branch.agents(history)
    real = agents.nodes >= 0
    shares = agents.votes / agents.votes.sum(dim=1, keepdim=True)
    torch.testing.assert_close(state["bias"][real], torch.log(shares)[real])
    assert (state["bias"][~real] < -1e30).all()
    queries = torch.randn(5, 3, BACKBONE.dim)
    repeated = _plain_attention(branch, state, queries, agents.votes)
    torch.testing.assert_close(branch.attend(UserState(state), ask(queries)), repeated, atol=1e-5, rtol=1e-4)


def test_vote_weight_can_be_a_factor_or_nothing() -> None:
    history = some_histories()
    states = {name: make_branch(weight=name).encode(history, _events(history)) for name in ("bias", "factor", "none")}
    agents = make_branch().agents(history)
    real, weights = agents.nodes >= 0, agents.weights()[..., None]
    for name in ("keys", "values"):
        torch.testing.assert_close(states["none"][name], states["bias"][name])
        torch.testing.assert_close(states["factor"][name], states["bias"][name] * weights)
    for name in ("factor", "none"):
        assert not states[name]["bias"][real].any()
        assert (states[name]["bias"][~real] < -1e30).all()


def test_a_high_weight_temperature_evens_the_weights() -> None:
    history = some_histories()
    real = make_branch().agents(history).nodes >= 0
    spread = [
        float(make_branch(weight_temperature=heat).encode(history, _events(history))["bias"][0][real[0]].std())
        for heat in (0.5, 1.0, 4.0)
    ]
    assert spread[0] > spread[1] > spread[2] > 0


def test_a_history_without_agents_answers_like_nosome_histories() -> None:
    branch = make_branch()
    history = make_history([3, 0])
    history.items[0] = WITHOUT_ID[0]
    state = branch.encode(history, _events(history))
    answers = branch.attend(UserState(state), ask(torch.randn(2, 2, BACKBONE.dim)))
    torch.testing.assert_close(answers, branch.reader.merge.bias.expand(2, 2, -1))


def test_agents_given_beforehand_are_not_counted_again() -> None:
    branch, history = make_branch(), make_history([12])
    leaf = branch.item_leaf[history.items[0, -1]].view(1, 1)
    given = dataclasses.replace(history, agents=Agents(leaf, torch.ones_like(leaf)))
    assert branch.encode(given, _events(history))["keys"].shape[1] == 1


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_depth_uses_the_first_levels_of_the_codebook(depth: int) -> None:
    branch = make_branch(depth=depth, agents=4)
    assert len(branch.parents) == len(branch.election.budgets) == depth
    assert branch.item_leaf.tolist() == SPACE.codebook.item_nodes[:, depth - 1].tolist()


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"depth": 4}, ("models.*.depth", "4 levels", "the 3 of the codebook", "tokenize.widths")),
        ({"depth": 1, "agents": 6}, ("models.*.agents", "6 agents", "5 leaves at depth 1", "lower agents")),
        ({"budgets": (2, 3, 1), "depth": 2}, ("models.*.budgets", "[2, 3, 1]", "2 levels", "one k per level")),
        ({"budgets": (2, 3), "depth": None}, ("models.*.budgets", "[2, 3]", "3 levels")),
        ({"budgets": (50, 50), "depth": 2}, ("models.*.agents", "2500 agents", "leaves at depth 2")),
        ({"heads": 3}, ("models.*.heads", "3 heads", "backbone.dim 8")),
    ],
    ids=["too deep", "too many agents", "too many budgets", "too few budgets", "budgets too large", "heads"],
)
def test_settings_that_do_not_fit_are_refused(changes: dict[str, Any], parts: tuple[str, ...]) -> None:
    with says("settings", *parts):
        make_branch(**changes)


def test_depth_null_takes_all_levels_and_budgets_override_agents() -> None:
    assert make_branch(depth=None, budgets=(3, 2, 1), agents=ITEMS).election.budgets == (3, 2, 1)


@pytest.mark.parametrize("fill", [True, False])
def test_more_agents_than_leaves_are_refused_by_what_was_asked(fill: bool) -> None:
    """Thirteen, though the budgets that they are split into multiply to no more than the twelve leaves."""
    number = np.arange(ITEMS)
    space = dataclasses.replace(SPACE, codebook=make_book(np.stack([number % 4, number // 4 % 3], axis=1)))
    assert math.prod(split_budget(13, 2, 0.7)) == 12 == len(space.codebook.parents[-1])
    with says("models.*.agents", "13 agents are more than the 12 leaves"):
        HiSACBranch(HiSACConfig(agents=13, fill=fill), BACKBONE, space)
    for config in (HiSACConfig(agents=12, fill=fill), HiSACConfig(agents=13, fill=fill, every_leaf=True)):
        HiSACBranch(config, BACKBONE, space)

"""What a model read of a user for each candidate: its agents, what stands behind them, and votes of nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from hisac_lab.base.artifacts import Array
from hisac_lab.codebook.votes import Agents
from hisac_lab.models.backbone import Ranker
from hisac_lab.models.contract import History, LongBranch, UserState

Explanation: TypeAlias = dict[str, Any]
ITEMS = 3
"""Items that are named of each agent, those with most weight in it."""
DIGITS = 6


@runtime_checkable
class OnTree(Protocol):
    """A branch whose agents are leaves of the codebook."""

    @property
    def parents(self) -> list[Tensor]:
        """Of each node its parent's number, one tensor per level."""


def explain(
    model: Ranker, history: History, state: UserState, candidates: Tensor, names: Sequence[str | int], count: int
) -> Explanation:
    """Explains the scores of one request.

    Args:
        model: What scores.
        history: One history.
        state: What the model made of it.
        candidates: (1, C) int64.
        names: Ids of items by number.
        count: Agents of each candidate at most, those with most weight.

    Returns:
        `agents`, those that some candidate names; `votes_kept`, the share of the history's votes that all agents hold;
        `candidates`, for each its agents with their weight, the mean share over the heads, and the votes of its own
        nodes; or a `note` that the model explains nothing.
    """
    weights, votes = model.explain(state, candidates)
    found: Explanation = {"candidates": [{} for _ in range(candidates.shape[1])]}
    if weights is not None and model.long is not None:
        _add_agents(found, model.long, history, weights[0].mean(dim=0), names, count)
    if votes:
        told = {name: part[0].double().numpy().round(3).tolist() for name, part in votes.items()}
        for place, one in enumerate(found["candidates"]):
            pairs = {name: rows[place] for name, rows in told.items()}
            one["votes"] = {name: {"votes": pair[0], "days": pair[1]} for name, pair in pairs.items() if pair[0] > 0}
    if weights is None and not votes:
        what = type(model if model.long is None else model.long).__name__.removesuffix("Branch")
        return {"note": f"{what} explains nothing: it keeps neither agents nor votes of nodes"}
    return found


def _add_agents(
    found: Explanation, long: LongBranch, history: History, weights: Tensor, names: Sequence[str | int], count: int
) -> None:
    shown = long.shown(history)
    agents = long.agents(shown) if history.agents is None else history.agents
    assert agents is not None, f"{type(long).__name__} weighs agents and counts none"
    there = agents.nodes[0] >= 0
    named = set[int]()
    for one, shares in zip(found["candidates"], weights[:, there].double().numpy().round(DIGITS).tolist(), strict=True):
        most = sorted(range(len(shares)), key=lambda place: (-shares[place], place))[:count]
        one["agents"] = [{"agent": place, "weight": shares[place]} for place in most]
        named.update(most)
    found["agents"] = _described(long, shown, agents, sorted(named), names)
    if agents.coverage is not None:
        found["votes_kept"] = round(float(agents.coverage[0]), DIGITS)


def _described(
    long: LongBranch, history: History, agents: Agents, places: Sequence[int], names: Sequence[str | int]
) -> list[Explanation]:
    """Agents by their place: nodes from the first level down to their leaf, votes, and the items they mostly hold."""
    share, routes = agents.weights()[0].tolist(), long.route(history, agents)
    held = {} if routes is None else _held(history, routes[0], places, names)
    described = []
    for place in places:
        one: Explanation = {"agent": place, "votes": int(agents.votes[0, place]), "share": round(share[place], DIGITS)}
        if isinstance(long, OnTree):
            one["path"] = _path([level.numpy() for level in long.parents], int(agents.nodes[0, place]))
        if place in held:
            one["items"] = held[place]
        described.append(one)
    return described


def _held(
    history: History, routes: Tensor, places: Sequence[int], names: Sequence[str | int]
) -> dict[int, list[Explanation]]:
    """Items with most weight in each agent, (K, L), with how many events they are and how old the newest is."""
    real = history.mask[0]
    items, where, events = torch.unique(history.items[0, real], return_inverse=True, return_counts=True)
    newest = torch.full_like(items, torch.iinfo(torch.int64).max)
    newest = newest.scatter_reduce(0, where, history.ages[0, real], "amin")
    mass = torch.zeros(len(routes), len(items)).index_add_(1, where, routes[:, real].float())
    top = mass.topk(min(ITEMS, len(items)), dim=1)
    return {
        place: [
            {
                "item": names[int(items[at])],
                "weight": round(weight, DIGITS),
                "events": int(events[at]),
                "newest": int(newest[at]),
            }
            for at, weight in zip(top.indices[place].tolist(), top.values[place].tolist(), strict=True)
            if weight > 0
        ]
        for place in places
    }


def _path(parents: Sequence[Array], node: int) -> list[int]:
    """Numbers of the nodes from the first level down to a leaf; nodes of a level are numbered in the order of codes."""
    path = [node]
    for level in range(len(parents) - 1, 0, -1):
        path.insert(0, int(parents[level][path[0]]))
    return path

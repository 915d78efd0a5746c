"""Votes that histories leave at nodes, plain and fading, and the age of the newest: counted at once or event by event.

A vote fades by half with every half-life, so that a sum of faded votes is brought to a later time by one product, and
takes a new vote by one sum: nothing of the history has to be kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hisac_lab.ops.jagged import distinct

DAY = 86_400.0
NOWHERE = torch.iinfo(torch.int64).max
VOTES, AGE = 0, 1  # places of the plain votes and of the age among the facts


class Tally(NamedTuple):
    """Votes of R histories; the nodes of a row ascend, padded on the right.

    Attributes:
        nodes: Each node with a vote once, `NOWHERE` in the padding; (R, U) int64.
        facts: Its votes, the days since the newest, and its votes as each of H half-lives fades them, 0 in the padding;
            (R, U, 2 + H) float32.
    """

    nodes: Tensor
    facts: Tensor


def count_votes(
    nodes: Tensor, ages: Tensor, mask: Tensor, half_lives: Sequence[float] = (), weights: Tensor | None = None
) -> Tally:
    """Counts the votes of R histories.

    Args:
        nodes: Node of each event, not negative where it counts; (R, L) int64.
        ages: Seconds from event to request; (R, L) int64.
        mask: True at events that count; (R, L) bool.
        half_lives: H half-lives, in days.
        weights: Votes of each event; (R, L) float32. None: one each.
    """
    days = ages.float() / DAY
    votes = torch.ones_like(days) if weights is None else weights
    return _add_up(nodes, mask, [votes, days, *(votes * torch.exp2(days / -half_life) for half_life in half_lives)])


def later(tally: Tally, days: Tensor, half_lives: Sequence[float]) -> Tally:
    """The same votes seen so many days later.

    Args:
        tally: Votes of R histories, with H half-lives.
        days: Since then; (R,) float32.
        half_lives: Those it was counted with.
    """
    left = days.new_ones(len(days), tally.facts.shape[-1])
    for place, half_life in enumerate(half_lives, AGE + 1):
        left[:, place] = torch.exp2(days / -half_life)
    facts = tally.facts * left[:, None]
    facts[..., AGE] += days[:, None]
    return Tally(tally.nodes, facts.masked_fill(tally.nodes[..., None] == NOWHERE, 0))


def fold(tally: Tally, event: Tally, days: Tensor, half_lives: Sequence[float]) -> Tally:
    """The votes once more events have come.

    Args:
        tally: Votes of R histories up to an earlier time.
        event: Votes of the new events alone, at a later time.
        days: Between the two times; (R,) float32.
        half_lives: Those that both were counted with.
    """
    nodes, facts = later(tally, days, half_lives)
    place = torch.searchsorted(nodes, event.nodes).clamp(max=nodes.shape[1] - 1)
    known = (nodes.gather(1, place) == event.nodes) & (event.nodes < NOWHERE)
    rows = place[..., None].expand_as(event.facts)
    more = event.facts.clone()
    more[..., AGE] = (more[..., AGE] - facts.gather(1, rows)[..., AGE]).clamp(max=0)  # the newest has the lowest age
    facts.scatter_add_(1, rows, more * known[..., None])
    first = torch.where(known, NOWHERE, event.nodes)
    if bool((first == NOWHERE).all()):
        return Tally(nodes, facts)
    nodes, order = torch.cat([nodes, first], dim=1).sort(dim=1)
    facts = torch.cat([facts, event.facts * ~known[..., None]], dim=1)
    facts = facts.gather(1, order[..., None].expand_as(facts))
    width = int((nodes < NOWHERE).sum(dim=1).max())
    return Tally(nodes[:, :width].contiguous(), facts[:, :width].contiguous())


def read_votes(tally: Tally, nodes: Tensor, weights: Tensor | None = None) -> Tensor:
    """What the histories say of nodes: whether there are votes, log votes, log days, log faded votes.

    Args:
        tally: Votes of R histories, with H half-lives.
        nodes: n nodes of each of C candidates, -1 for none; (R, C, n) int64.
        weights: Share of each in the candidate; (R, C, n) float32. None: one each, n is 1.

    Returns:
        (R, C, 3 + H) float32: shares of votes add up before the logarithm, of presence and log days as they are.
    """
    wanted = nodes.flatten(1).contiguous()
    place = torch.searchsorted(tally.nodes, wanted).clamp(max=tally.nodes.shape[1] - 1)
    share = (tally.nodes.gather(1, place) == wanted).view(nodes.shape).to(tally.facts.dtype)
    share = share if weights is None else share * weights
    rows = place[..., None].expand(-1, -1, tally.facts.shape[-1])
    facts = tally.facts.gather(1, rows).view(*nodes.shape, -1)
    sums = (facts * share[..., None]).sum(dim=2).log1p()
    age = (facts[..., AGE].log1p() * share).sum(dim=2)
    columns = [share.sum(dim=2)[..., None], sums[..., :AGE], age[..., None], sums[..., AGE + 1 :]]
    return torch.cat(columns, dim=-1)


def _add_up(nodes: Tensor, mask: Tensor, facts: Sequence[Tensor]) -> Tally:
    """Adds up entries of the same node, (R, N) each; of ages the lowest is kept."""
    kinds = distinct(nodes, mask)
    width = kinds.values.shape[1]
    place = torch.where(kinds.slots < 0, width, kinds.slots)
    columns = []
    for kind, values in enumerate(facts):
        if kind == AGE:
            column = values.new_full((len(nodes), width + 1), torch.inf).scatter_reduce_(1, place, values, "amin")
        else:
            column = values.new_zeros(len(nodes), width + 1).scatter_add_(1, place, values)
        columns.append(column[:, :width])
    padding = kinds.values < 0
    table = torch.stack(columns, dim=-1).masked_fill(padding[..., None], 0)
    return Tally(kinds.values.masked_fill(padding, NOWHERE), table)

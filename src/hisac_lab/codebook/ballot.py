"""Votes of one user, kept up to date: a new behavior is one step up its path, an old one that leaves one step down.

Counts are additive (docs/papers/hisac.md#hierarchical-voting), so this equals counting again, at the cost of one path
per event. It needs neither torch nor the histories of others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from hisac_lab.codebook.counting import Election, enough
from hisac_lab.codebook.tree import Codebook

Node = tuple[int, int]
"""Level and number of a node."""


@dataclass(frozen=True)
class Tally:
    """What a user says of one node.

    Attributes:
        level: Level of the node, from 0.
        node: Its number in that level.
        votes: Behaviors below it.
        last: Number of the newest of them in the order they were added.
        kept: Whether the node and all above it survived the pruning.
    """

    level: int
    node: int
    votes: int
    last: int
    kept: bool


class Ballot:
    """Votes of one user for the nodes of a codebook.

    Args:
        book: The codebook; items without a semantic ID never vote.
    """

    def __init__(self, book: Codebook) -> None:
        self.book = book
        self._added = 0
        self._events: deque[int] = deque()
        self._votes: dict[Node, int] = {}
        self._places: dict[Node, deque[int]] = {}
        self._children: dict[Node, set[Node]] = {}

    def __len__(self) -> int:
        return len(self._events)

    def add(self, item: int) -> None:
        """A new behavior."""
        above: Node = (-1, 0)
        for level, node in enumerate(self.book.item_nodes[item].tolist()):
            if node < 0:
                break
            here = (level, node)
            self._votes[here] = self._votes.get(here, 0) + 1
            self._places.setdefault(here, deque()).append(self._added)
            self._children.setdefault(above, set()).add(here)
            above = here
        self._events.append(item)
        self._added += 1

    def add_all(self, items: Iterable[int]) -> None:
        """New behaviors, oldest first."""
        for item in items:
            self.add(item)

    def expire(self) -> None:
        """The oldest behavior leaves.

        Raises:
            IndexError: There is none.
        """
        above: Node = (-1, 0)
        for level, node in enumerate(self.book.item_nodes[self._events.popleft()].tolist()):
            if node < 0:
                break
            here = (level, node)
            self._votes[here] -= 1
            self._places[here].popleft()
            if not self._votes[here]:
                del self._votes[here], self._places[here]
                self._children[above].discard(here)
            above = here

    def tallies(self, election: Election) -> list[Tally]:
        """Every node with a vote, level by level, best first under each parent; pruned ones too.

        Args:
            election: Which leaves become agents, with a k for each level in use; "flat" counts leaves alone. Leaves
                that fill free places are as pruned as the rest.
        """
        depth, tallies = len(election.budgets), []
        if election.rule == "flat":
            leaves = self._ranked([node for node in self._votes if node[0] == depth - 1])
            return [self._tally(node, place < election.places) for place, node in enumerate(leaves)]
        parents: list[tuple[Node, bool]] = [((-1, 0), True)]
        for budget in election.budgets:
            level: list[tuple[Node, bool]] = []
            for parent, alive in parents:
                for place, node in enumerate(self._ranked(self._children.get(parent, ()))):
                    level.append((node, alive and place < budget))
            tallies += [self._tally(node, kept) for node, kept in level]
            parents = level
        return tallies

    def agents(self, election: Election) -> list[Tally]:
        """The interest-agents: leaves of the last level in use, most votes first, then most recent.

        Args:
            election: Which leaves become agents, with a k for each level in use.
        """
        last = len(election.budgets) - 1
        leaves = [tally for tally in self.tallies(election) if tally.level == last]
        leaves.sort(key=lambda tally: (not tally.kept, -tally.votes, -tally.last))
        places = sum(tally.kept for tally in leaves) if election.wanted is None else election.wanted
        kept = [replace(tally, kept=True) for tally in leaves[:places]]
        kept.sort(key=lambda tally: (-tally.votes, -tally.last))
        if election.keep is None:
            return kept
        cast = sum(votes for (level, _), votes in self._votes.items() if level == 0)
        votes = np.array([[tally.votes for tally in kept]], np.int64)
        return kept[: int(enough(votes, np.array([cast]), election.keep).sum())]

    def _ranked(self, nodes: Iterable[Node]) -> list[Node]:
        return sorted(nodes, key=lambda node: (-self._votes[node], -self._places[node][-1], node))

    def _tally(self, node: Node, kept: bool) -> Tally:
        return Tally(*node, self._votes[node], self._places[node][-1], kept)

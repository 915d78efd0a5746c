"""What nodes mean in the items' own words, and what one user's votes come to: for people, by no model."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hisac_lab.base.artifacts import Array
from hisac_lab.codebook.counting import Election, count_agents, levels_of
from hisac_lab.codebook.tree import Codebook

WORD = re.compile(r"[^\W\d_]{3,}")
TELLING = 2.0
"""How much likelier a word is inside a group at least, to tell it from those around it."""


@dataclass(frozen=True)
class Voted:
    """A node with a user's votes.

    Attributes:
        level: Its level, from 0.
        node: Its number in that level.
        votes: What it has.
        last: Place of the newest behavior below it in the history.
    """

    level: int
    node: int
    votes: int
    last: int


@dataclass(frozen=True)
class Portrait:
    """One user's votes.

    Attributes:
        behaviors: Events in the history.
        voting: Those whose item has a semantic ID.
        votes: Votes in all; as many as those events, unless older ones count less.
        agents: The interest-agents, most votes first.
        cut: Nodes that were pruned while the node above them was kept, most votes first.
    """

    behaviors: int
    voting: int
    votes: int
    agents: tuple[Voted, ...]
    cut: tuple[Voted, ...]

    @property
    def covered(self) -> float:
        """Share of the votes that the agents hold."""
        return sum(agent.votes for agent in self.agents) / self.votes if self.votes else 0.0


def portray(
    book: Codebook,
    items: Array,
    election: Election,
    weights: Array | None = None,
) -> Portrait:
    """Lets one history vote.

    Args:
        book: The codebook, cut to the depth in use.
        items: Items of the history, oldest first; (n,) int.
        election: Which leaves become agents.
        weights: Votes of each behavior; (n,) int64. None: one each.
    """
    leaf = book.item_nodes[items, -1]
    heads = np.array([0, len(leaf)])
    nodes, _ = count_agents(leaf, heads, book.parents, election, weights)
    agents = nodes[0][nodes[0] >= 0].tolist()
    kept: list[set[int]] = [set(agents)]
    for level in range(book.depth - 1, 0, -1):
        kept.insert(0, {int(book.parents[level][node]) for node in kept[0]})
    by_leaf: dict[int, Voted] = {}
    cut: list[Voted] = []
    total = 0
    for level, entries in enumerate(levels_of(leaf, heads, book.parents, weights)):
        for node, votes, last in zip(
            *(part.tolist() for part in (entries.node, entries.votes, entries.last)), strict=True
        ):
            voted = Voted(level, node, votes, last)
            parent_kept = not level or int(book.parents[level][node]) in kept[level - 1]
            if level == book.depth - 1:
                by_leaf[node] = voted
                total += votes
            if node not in kept[level] and parent_kept:
                cut.append(voted)
    cut.sort(key=lambda node: (-node.votes, -node.last, node.level))
    voting = int((leaf >= 0).sum())
    return Portrait(len(leaf), voting, total, tuple(by_leaf[node] for node in agents), tuple(cut))


def words_of(texts: Sequence[str], group: Array, around: Array, count: int) -> list[str]:
    """Words that tell a group of items from those around it: share inside times the log of how much likelier inside.

    Words that are hardly likelier, such as articles, tell nothing.

    Args:
        texts: Text of every item.
        group: Rows of the group.
        around: Rows of what it is told from, the group among them.
        count: Words at most.
    """
    inside, outside = (Counter(word for row in rows for word in _words(texts[row])) for rows in (group, around))
    alike = len(group) == len(around)

    def weight(word: str) -> float:
        share = inside[word] / len(group)
        likelier = share / (outside[word] / len(around))
        return share if alike else share * float(np.log(likelier)) * (likelier >= TELLING)

    ranked = sorted(inside, key=lambda word: (-weight(word), word))
    return [word for word in ranked if weight(word) > 0][:count]


def typical(book: Codebook, vectors: Array, node: int, level: int, count: int) -> Array:
    """Items of a node nearest to its vector, nearest first, one of each place; (n <= count,) int64.

    Args:
        book: The codebook.
        vectors: The items in the space of its vectors; (items, S).
        node: Number of the node.
        level: Its level.
        count: Items at most.
    """
    members = book.items_at(node, level)
    distance = ((np.asarray(vectors[members]) - book.vectors[level][node]) ** 2).sum(axis=1)
    return members[np.argsort(distance, kind="stable")[:count]]


def _words(text: str) -> set[str]:
    return {word.lower() for word in WORD.findall(text)}

"""What the report shows of the codebook and of one user's votes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tile:
    """A first-level node of the codebook.

    Attributes:
        code: Its code.
        items: How many items lie below it.
        children: Items below each of its children, most first; its own items where it has no deeper level.
        words: Words that tell its items from all others.
        titles: The items nearest to its vector, nearest first.
    """

    code: int
    items: int
    children: tuple[int, ...]
    words: tuple[str, ...]
    titles: tuple[str, ...]


@dataclass(frozen=True)
class Bar:
    """A node that a user has voted for.

    Attributes:
        path: Its codes.
        level: Its level, from 1.
        votes: The user's votes.
        name: What it means: words, or a title.
        kept: An interest-agent; otherwise it was pruned.
    """

    path: str
    level: int
    votes: int
    name: str
    kept: bool


@dataclass(frozen=True)
class UserPortrait:
    """One user's votes.

    Attributes:
        user: The user's own id.
        behaviours: Events of the history.
        voting: Those whose item has a semantic ID.
        covered: Share of the votes that the agents hold.
        agents: All agents, most votes first.
        cut: The pruned nodes with most votes.
        cut_by_level: Number and votes of all pruned nodes, by level.
    """

    user: str
    behaviours: int
    voting: int
    covered: float
    agents: tuple[Bar, ...]
    cut: tuple[Bar, ...]
    cut_by_level: tuple[tuple[int, int], ...]

"""What the report knows of embeddings, semantic IDs, the codebook and one user's votes."""

from __future__ import annotations

from dataclasses import dataclass

from hisac_lab.report.record import Record


class Embedded(Record):
    """Manifest of `embed`; `parts` by weight."""

    method: str
    parts: dict[str, float]
    dim: int
    items_without_embedding: int


class Level(Record):
    """One level of the semantic IDs; purity and agreement only where they could be measured."""

    width: int
    use: float
    perplexity: float
    evenness: float
    entropy_bits: float
    explained_variance: float
    prefixes: int
    fan_out: float
    purity: float | None = None
    seed_agreement: float | None = None


class Quality(Record):
    """The measures of the gate."""

    levels: list[Level]
    ids: int
    collision_rate: float
    largest_bucket: int
    max_bucket_share: float
    explained_variance: float
    cosine: float
    neighbour_overlap: float
    purity_by_chance: float | None = None
    purity_lift: float | None = None


class Refit(Record):
    """What a fit that started from an earlier one changed."""

    new_items: int
    old_items: int
    changed_ids: float
    changed_by_level: list[float]


class Tokenized(Record):
    """Manifest of `tokenize`."""

    method: str
    category: str | None
    quality: Quality
    refit: Refit | dict[str, int]


class Book(Record):
    """Manifest of `codebook`."""

    depth: int
    digest: str
    method: str
    nodes: list[int]
    items_without_id: int


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

"""What the report knows: the records of what the stages wrote, and what it reads of the codebook."""

from __future__ import annotations

from dataclasses import dataclass

from hisac_lab.abtest.records import ABTested, ABTests
from hisac_lab.codebook.records import CodebookFacts
from hisac_lab.config.promotion import PromotionConfig
from hisac_lab.evaluation.records import Evaluated, Scores, Seconds
from hisac_lab.events.records import Prepared
from hisac_lab.inference.records import Claim, Point, Trained
from hisac_lab.ops.choice import rounded
from hisac_lab.registry.records import Evidence
from hisac_lab.sources.records import Acquired
from hisac_lab.sweep.records import Ablated, Best, Swept, Trial
from hisac_lab.tokens.records import Embedded, Tokenized


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
class Event:
    """An event of a history.

    Attributes:
        day: UTC date.
        title: Of the item.
        path: Its semantic ID, as deep as votes are counted; a dash without one.
        vote: What its vote went to: agent, pruned, or none where it has no semantic ID.
    """

    day: str
    title: str
    path: str
    vote: str


@dataclass(frozen=True)
class Share:
    """An agent in what a candidate read.

    Attributes:
        path: Its codes.
        name: What it means: words, or a title.
        weight: Its share of what was read.
    """

    path: str
    name: str
    weight: float


@dataclass(frozen=True)
class Asked:
    """A candidate that one user was asked about, and what a model read of the user for it.

    Attributes:
        title: Of the item.
        positive: Whether the user took it.
        probability: The model's answer.
        agents: Those with most weight, most first; empty where the model has none.
        votes: By partition, votes of its own node and days since the newest.
    """

    title: str
    positive: bool
    probability: float
    agents: tuple[Share, ...]
    votes: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class UserPortrait:
    """One user's votes, as they stand at the user's first request of the test period.

    Attributes:
        user: The user's own id.
        day: UTC date of that request.
        behaviors: Events of the history.
        voting: Those that vote: not known to be negative, and of an item with a semantic ID.
        covered: Share of the votes that the agents hold.
        agents: All agents, most votes first.
        cut: The pruned nodes with most votes.
        cut_by_level: Number and votes of all pruned nodes, by level.
        events: The newest of those that vote, newest first.
        asked: Of the best model that has agents and of the best that keeps votes of nodes, by name, the candidates.
    """

    user: str
    day: str
    behaviors: int
    voting: int
    covered: float
    agents: tuple[Bar, ...]
    cut: tuple[Bar, ...]
    cut_by_level: tuple[tuple[int, int], ...]
    events: tuple[Event, ...]
    asked: dict[str, tuple[Asked, ...]]


class Run(Trained):
    """A training run with its curve."""

    curve: list[Point]


@dataclass(frozen=True)
class Sweep:
    """The sweep of one model: its place, what was found, all trials in number order, what the model takes of it.

    Attributes:
        ablation: Every trial beside a reference; empty where trials had different seeds.
    """

    place: int
    swept: Swept
    trials: tuple[Trial, ...]
    best: Best
    ablation: tuple[Ablated, ...] = ()


@dataclass(frozen=True)
class Local:
    """What differs between machines, for a page that is no output.

    Attributes:
        seconds: Measured times by model.
        said: Labels and texts: commit, version, machine.
    """

    seconds: dict[str, Seconds]
    said: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Facts:
    """Everything that the report says, before it is put into words.

    Attributes:
        tiles: The first-level nodes of the codebook, those with most items first.
        portrait: The votes of the user with the longest history, and what candidates read of them.
        sweeps: Of each swept model, by its name.
        runs: By model, then seed.
        cards: Fidelity cards by model; empty before the stage `register` has run.
        evidence: What the gates ask of each model; likewise.
        promotion: The gates' settings.
        pipeline: Digest of all outputs; empty before `register` has run.
        digests: SHA-256 of each artifact directory by the stage's (or run's) name, in the order of the graph; None
            for a stage that has not run.
        arithmetic: That of each stage or run, by the same names.
        local: What differs between machines; None in an output.
    """

    acquired: Acquired
    prepared: Prepared
    embedded: Embedded
    tokenized: Tokenized
    book: CodebookFacts
    tiles: tuple[Tile, ...]
    portrait: UserPortrait
    sweeps: tuple[Sweep, ...]
    runs: tuple[Run, ...]
    evaluated: Evaluated
    scores: Scores
    abtested: ABTested
    tests: ABTests
    cards: dict[str, tuple[Claim, ...]]
    digests: dict[str, str | None]
    arithmetic: dict[str, str]
    evidence: dict[str, Evidence]
    promotion: PromotionConfig
    pipeline: str = ""
    local: Local | None = None

    @property
    def ranking(self) -> list[str]:
        """Models by AUC as it is shown, best first; equals by name."""
        return ranked(self.scores)

    @property
    def rivals(self) -> list[str]:
        """Models that read user and item and learned from their own labels, best first; the others are controls."""
        models = self.scores.models
        return [name for name in self.ranking if models[name].control is None and models[name].labels == "own"]

    @property
    def gaps(self) -> dict[tuple[str, str], tuple[float, float]]:
        """Of each ordered pair of models, the first less the second in AUC, and its corrected p-value."""
        pairs = self.scores.pairs
        there = {(pair.one, pair.other): (pair.difference, pair.p) for pair in pairs}
        return there | {(pair.other, pair.one): (-pair.difference, pair.p) for pair in pairs}


def ranked(scores: Scores) -> list[str]:
    """See `Facts.ranking`."""
    shown = {name: rounded(model.auc.value) for name, model in scores.models.items()}
    return sorted(shown, key=lambda name: (-shown[name], name))

"""What the stage `evaluate` writes."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from hisac_lab.base.records import Output, Record, Stored

Interval = tuple[float, float]
SLATE = 500
"""Candidates of a whole request, as its cost is told."""


class Estimate(Record):
    """A value with its interval."""

    value: float
    interval: Interval


class Metric(Estimate):
    """A metric: mean over seeds, interval over users, paired difference to the reference."""

    seed_spread: float
    difference: float
    difference_interval: Interval


class Bin(Record):
    """Mean prediction and observed share of positives in one bin of predictions."""

    predicted: float
    observed: float


class Calibration(Record):
    """Expected calibration error, ratio of predicted to observed positives, curve.

    Attributes:
        chance: What the error would be in the mean if every prediction were right: it falls with the samples.
    """

    error: float
    ratio: float
    curve: list[Bin]
    chance: float = 0.0


class SeedScores(Record):
    """One run on the test period; beside the AUC stands every other metric under its own name."""

    auc: float
    valid_auc: float
    calibration: Calibration

    def values(self) -> dict[str, float]:
        """Every number by name."""
        return {name: value for name, value in self.facts().items() if isinstance(value, float)}


class ServingCost(Record):
    """Counted cost of serving.

    Attributes:
        state_bytes: Mean bytes of user state.
        encode_macs: Mean multiply-adds of matrix products per request, once for all its candidates.
        candidate_macs: Mean multiply-adds of matrix products per candidate.
        agents: Mean interest-agents of a request; None where a model has none.
        votes_kept: Mean share of a request's votes that their leaves have, likewise.
    """

    state_bytes: float
    encode_macs: float
    candidate_macs: float
    agents: float | None = None
    votes_kept: float | None = None

    @property
    def request_macs(self) -> float:
        """Multiply-adds of a whole request: its history once, and `SLATE` candidates."""
        return self.encode_macs + SLATE * self.candidate_macs


class ModelScores(Record):
    """One model on the test period.

    Attributes:
        metrics: By name; None where the test period leaves the metric undefined (`Scores.undefined` says why).
        slices: AUC by kind of slice and bin, likewise.
        settings: Those of its training runs.
        control: The only side of a request that its settings read, item or user; None: it reads both.
        labels: Which its runs learned from.
        tasks: AUC of each further answer that it gives; None where it is undefined.
    """

    metrics: dict[str, Metric | None]
    slices: dict[str, dict[str, Metric | None]]
    seeds: dict[int, SeedScores]
    best_seed: int
    cost: ServingCost
    parameters: int
    settings: dict[str, Any]
    control: Literal["item", "user"] | None = None
    labels: Literal["own", "shuffled"] = "own"
    tasks: dict[str, Estimate | None] = Field(default_factory=dict)

    @property
    def auc(self) -> Metric:
        """AUC over the whole test period, which always has both classes."""
        auc = self.metrics["auc"]
        assert auc is not None
        return auc

    @property
    def served(self) -> SeedScores:
        """The run with the best validation AUC: the one that the A/B test shows."""
        return self.seeds[self.best_seed]


class Gap(Record):
    """AUC of a model less another, paired over users."""

    difference: float
    interval: Interval


class Pair(Record):
    """Two models on the same resampled users: one less other; `p` is Holm-corrected over all pairs, in all bins."""

    one: str
    other: str
    difference: float
    interval: Interval
    p: float


class Scores(Stored):
    """What every model scores.

    Attributes:
        pairs: Of all models, in AUC.
        bin_pairs: The same by kind of slice and bin, corrected by kind; bins without an AUC are left out.
        users: Of each metric that is a mean over users, how many can tell models apart by it; the others are left out.
        undefined: Why a metric, or `KIND/BIN`, has no value.
        slices: Test samples per kind and bin.
        oracles: AUCs of the known truth.
        popularity: Each model against who ranks by the positives that items had so far.
    """

    FILE: ClassVar[str] = "metrics.json"

    models: dict[str, ModelScores]
    pairs: list[Pair] = Field(default_factory=list)
    bin_pairs: dict[str, dict[str, list[Pair]]] = Field(default_factory=dict)
    users: dict[str, int] = Field(default_factory=dict)
    undefined: dict[str, str] = Field(default_factory=dict)
    slices: dict[str, dict[str, int]]
    oracles: dict[str, Estimate] = Field(default_factory=dict)
    popularity: dict[str, Gap] = Field(default_factory=dict)


class Evaluated(Output):
    """Manifest of `evaluate`.

    Attributes:
        fingerprint: Digest of split, candidates, negatives, history limit and metrics.
        reference: The model that every other is compared with.
        confidence: Level of the intervals.
        negatives: Where negatives come from, in words.
        seeds_drawn: Whether intervals hold the draw of seeds beside that of users.
    """

    fingerprint: str
    reference: str
    confidence: float
    negatives: str
    test_samples: int
    test_users: int
    seeds_drawn: bool = False


class Seconds(Record):
    """Times of one model on this machine, medians."""

    device: str
    encode_us_per_request: float
    score_us_per_candidate: float


class Timings(Record):
    """What differs between machines; never an output."""

    fingerprint: str
    models: dict[str, Seconds]


class AgentRead(Record):
    """An interest-agent that a candidate read.

    Attributes:
        path: Numbers of its nodes, from the first level down to its leaf.
        weight: Its share of what the candidate read, the mean over the heads.
    """

    path: list[int]
    weight: float


class CandidateRead(Record):
    """What a model read of a user for one candidate.

    Attributes:
        probability: Its answer.
        agents: Those with most weight, most first; empty where the model has none.
        votes: By partition, votes of the candidate's own node and days since the newest; those with votes alone.
    """

    probability: float
    agents: list[AgentRead] = Field(default_factory=list)
    votes: dict[str, tuple[float, float]] = Field(default_factory=dict)


class Readings(Stored):
    """One user's first request of the test period, and what models read of the user for its candidates.

    Attributes:
        user: Number of the user: of those in the test period the one whose history was the longest by then.
        time: Of the request, seconds.
        begin: First event of the history in the store.
        end: One past its last event.
        items: The first different items that the user met in the test period.
        positive: Whether each was a positive.
        models: Of each model that keeps agents or votes, by the run with the best validation AUC, the candidates.
    """

    FILE: ClassVar[str] = "readings.json"

    user: int
    time: int
    begin: int
    end: int
    items: list[int]
    positive: list[bool]
    models: dict[str, list[CandidateRead]] = Field(default_factory=dict)

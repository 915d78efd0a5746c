"""What the report knows: typed, frozen records of what the stages wrote.

Field names are the keys of the stages' JSON files; keys that the report does not use are ignored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import Field

from hisac_lab.ops.choice import rounded
from hisac_lab.report.record import Record
from hisac_lab.report.token_facts import Book, Embedded, Tile, Tokenized, UserPortrait

Interval = tuple[float, float]


class Made(Record):
    """Every manifest: in which arithmetic the stage has computed, "portable" or "native"."""

    arithmetic: str


class Acquired(Record):
    """Manifest of `acquire`; `files` maps a raw file's name to its SHA-256."""

    dataset: str
    layout: str
    files: dict[str, str]


class Split(Record):
    """One period; times in seconds since 1970, UTC; histories in events."""

    samples: int
    requests: int
    users: int
    positive_share: float
    first: int = Field(alias="from")
    last: int = Field(alias="to")
    history_p10: int
    history_p50: int
    history_p90: int
    history_p99: int


class Month(Record):
    """Events of one month; the share is None where the log has no feedback."""

    events: int
    positive_share: float | None = None


class Profile(Record):
    """Shape of the log."""

    months: dict[str, Month]
    history_length_deciles: list[int]
    history_length_p99: int
    item_age_days: dict[str, int]
    test_share_of_new_users: float
    test_share_of_new_items: float


class Leaks(Record):
    """What the check of every history counted."""

    samples_checked: int
    history_of_another_user: int
    history_after_the_request: int
    history_left_out: int


class Prepared(Record):
    """Manifest of `prepare`."""

    users: int
    items: int
    events: int
    history_events: int
    events_out_of_order: int
    events_outside: int
    events_repeated: int
    samples_without_history: int
    samples_not_kept: int
    leaks: Leaks
    negatives: str
    time_unit: str
    history_limit: int
    splits: dict[str, Split]
    protocol: str
    profile: Profile


class Swept(Record):
    """Manifest of `sweep`."""

    model: str
    best: int
    chosen: int
    rule: str
    auc: float
    best_auc: float
    standard_error: float
    cost: float
    budgets: list[int]


class Point(Record):
    """One validation of a training run."""

    step: int
    train_loss: float
    valid_auc: float
    valid_log_loss: float


class Run(Record):
    """Manifest of one training run; `curve` is its curve.jsonl."""

    name: str
    seed: int
    parameters: int
    steps: int
    valid_auc: float
    settings: dict[str, Any]
    curve: list[Point]


class Sliced(Record):
    """A value with its interval."""

    value: float
    interval: Interval


class Metric(Sliced):
    """A metric: mean over seeds, interval over users, paired difference to the reference."""

    seed_spread: float
    difference: float
    difference_interval: Interval


class Bin(Record):
    """Mean prediction and observed share of positives in one bin of predictions."""

    predicted: float
    observed: float


class Calibration(Record):
    """Expected calibration error, ratio of predicted to observed positives, curve."""

    error: float
    ratio: float
    curve: list[Bin]


class SeedScores(Record):
    """One run on the test period."""

    auc: float
    valid_auc: float
    calibration: Calibration


class Cost(Record):
    """Counted cost of serving."""

    state_bytes: float
    encode_macs: float
    candidate_macs: float


class ModelScores(Record):
    """One model on the test period."""

    metrics: dict[str, Metric]
    slices: dict[str, dict[str, Sliced]]
    seeds: dict[str, SeedScores]
    best_seed: int
    cost: Cost
    parameters: int

    @property
    def served(self) -> SeedScores:
        """The run with the best validation AUC: the one that the A/B test shows."""
        return self.seeds[str(self.best_seed)]


class Pair(Record):
    """Two models on the same resampled users; `p` is Holm-corrected over all pairs."""

    one: str
    other: str
    difference: float
    interval: Interval
    p: float


class Scores(Record):
    """metrics.json of `evaluate`; `slices` counts test samples per bin, `ceilings` are AUCs of the known truth."""

    models: dict[str, ModelScores]
    pairs: list[Pair] = Field(default_factory=list)
    slices: dict[str, dict[str, int]]
    ceilings: dict[str, Sliced] = Field(default_factory=dict)


class Evaluated(Record):
    """Manifest of `evaluate`."""

    fingerprint: str
    reference: str
    confidence: float
    negatives: str
    test_samples: int
    test_users: int


class Arms(Record):
    """A number for each arm."""

    control: float
    treatment: float


class Lift(Record):
    """Relative lift of the treatment with its interval."""

    value: float
    low: float
    high: float
    p_value: float

    @property
    def interval(self) -> Interval:
        """Both ends."""
        return self.low, self.high


class Test(Record):
    """One two-arm test."""

    users: Arms
    ctr: Arms
    lift: Lift
    lift_cuped: Lift
    cuped_variance_removed: float
    sample_ratio_p: float
    true_lift: float
    verdict: str


class Tests(Record):
    """abtest.json; `tests` by treatment, `aa` the control against itself."""

    control: str
    tests: dict[str, Test]
    aa: Test
    caveat: str


class World(Record):
    """The simulated users' world."""

    real_users: int
    exposures: int
    holdout_auc: float
    dim: int


class ABTested(Record):
    """Manifest of `abtest`."""

    test_fingerprint: str
    confidence: float
    world: World


class CardLine(Record):
    """One line of a fidelity card."""

    claim: str
    status: str
    source: str
    test: str = ""


@dataclass(frozen=True)
class Trial:
    """One trial of the sweep, its settings as written in trials.csv; the error is of the difference to the best."""

    number: int
    settings: dict[str, str]
    auc: float
    standard_error: float
    cost: float
    on_front: bool


@dataclass(frozen=True)
class Facts:
    """Everything that the report says, before it is put into words.

    Attributes:
        tiles: The first-level nodes of the codebook, those with most items first.
        portrait: The votes of the user with the longest history.
        trials: In number order.
        runs: By model, then seed.
        cards: Fidelity cards by model; empty before the stage `register` has run.
        digests: SHA-256 of each artefact directory by the stage's (or run's) name, in the order of the graph; None
            for a stage that has not run.
        arithmetic: That of each stage or run, by the same names.
    """

    acquired: Acquired
    prepared: Prepared
    embedded: Embedded
    tokenized: Tokenized
    book: Book
    tiles: tuple[Tile, ...]
    portrait: UserPortrait
    swept: Swept
    trials: tuple[Trial, ...]
    runs: tuple[Run, ...]
    evaluated: Evaluated
    scores: Scores
    abtested: ABTested
    tests: Tests
    cards: dict[str, tuple[CardLine, ...]]
    digests: dict[str, str | None]
    arithmetic: dict[str, str]

    @property
    def ranking(self) -> list[str]:
        """Models by AUC as it is shown, best first; equals by name."""
        shown = {name: rounded(model.metrics["auc"].value) for name, model in self.scores.models.items()}
        return sorted(shown, key=lambda name: (-shown[name], name))

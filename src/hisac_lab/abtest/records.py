"""What the stage `abtest` writes."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from hisac_lab.base.errors import UserError
from hisac_lab.base.records import Output, Record, Stored
from hisac_lab.config.abtest import EvidenceKind, Family

Verdict = Literal["better", "worse", "equivalent", "undecided", "no verdict"]
NO_VERDICT: Verdict = "no verdict"


class NothingToJudge(UserError):
    """The log says too little to compare policies by: the stage gives no verdict, with this as the reason."""


class Users(Record):
    """Users of each arm."""

    control: int
    treatment: int


class Rates(Record):
    """Click-through rate of each arm."""

    control: float
    treatment: float


class Lift(Record):
    """Relative lift of the treatment over the control, (treatment - control) / control.

    Attributes:
        low: Lower end of the interval.
        high: Upper end.
        p_value: Two-sided, of no difference.
    """

    value: float
    low: float
    high: float
    p_value: float

    @property
    def interval(self) -> tuple[float, float]:
        """Both ends."""
        return self.low, self.high


class Part(Record):
    """What one source of chance adds to the error of a lift.

    Attributes:
        error: Standard error from it alone; None: it was not measured.
        degrees: Degrees of freedom behind that; None where there is nothing to estimate.
    """

    error: float | None
    degrees: float | None = None


class Difference(Record):
    """A metric of both arms, their difference and its interval over users.

    Attributes:
        low: Lower end of the interval, corrected by Holm as one of all metrics beside the lift of all treatments.
        high: Upper end.
        p_holm: p-value of no difference, corrected the same way.
    """

    control: float
    treatment: float
    value: float
    low: float
    high: float
    p_holm: float

    @property
    def interval(self) -> tuple[float, float]:
        """Both ends."""
        return self.low, self.high


class Draw(Record):
    """One simulated test: users split by a hash, clicks drawn, read as a real test is.

    Attributes:
        lift_cuped: After what the same users did before the test is taken out.
        lift_stratified: Post-stratified by the length of histories.
        cuped_variance_removed: Share of the variance over users that CUPED removes.
        stratified_variance_removed: Share of the variance of the difference that post-stratification removes; below
            zero where the strata explain less than they cost.
    """

    users: Users
    ctr: Rates
    lift: Lift
    lift_cuped: Lift
    lift_stratified: Lift
    cuped_variance_removed: float
    stratified_variance_removed: float
    sample_ratio_p: float


class Span(Record):
    """An interval."""

    low: float
    high: float


class Day(Record):
    """A test of several days as it stands after one of them.

    Attributes:
        day: From 1.
        today: Lift of that day alone.
        lift: Of all days till then.
        once: Its interval where this is the only look.
        bound: Its interval where each day of the test is a look, by a group-sequential bound.
        sequence: Its interval where there are any number of looks, by a confidence sequence.
    """

    day: int
    today: float
    lift: float
    once: Span
    bound: Span
    sequence: Span


class Replayed(Record):
    """Off-policy estimates of one treatment, on logged exposures.

    Attributes:
        exposures: That were replayed.
        effective: Effective sample size of the treatment's weights.
        effective_control: Of the control's.
        clipped: Share of the treatment's weight above the limit of clipped weights.
        lifts: By estimator; the verdict stands on `doubly_robust`. One that has no clicks of an arm is left out.
    """

    exposures: int
    effective: float
    effective_control: float
    clipped: float
    lifts: dict[str, Lift]


class ABTest(Record):
    """One treatment against the control.

    Attributes:
        lift: In expected clicks per slate, on the same users and pools; the interval holds every part.
        corrected: The same as one of several treatments, by Holm: better and worse are told by whether it holds zero.
        parts: Sources of chance: users, pools, world, family of the world, seeds, clicks.
        p_holm: p-value of no difference, Holm-corrected over treatments.
        p_equivalence: That the lift is not within the margin, Holm-corrected over treatments.
        detectable: The least lift that is found with a power of 80 %.
        power: Chance to find a lift as large as the margin.
        metrics: Beside the lift: clicks per user, slates with a click, weighted clicks, share of the long tail,
            diversity of a slate.
        slices: The lift of users by the length of their history, such as "16 to 40"; intervals and p-values are
            corrected by Holm over all slices of all treatments.
        draw: A simulated test of the same two policies; None: logged exposures stand behind it.
        days: The same test day by day, where it has several.
        replay: Off-policy estimates; None: click probabilities stand behind it.
        worlds: Lift in each fitted world with the right to judge, by its parts alone; none without such worlds.
        contradiction: Where one of these finds it better and another worse, which: then there is no verdict.
    """

    lift: Lift
    corrected: Lift
    parts: dict[str, Part]
    p_holm: float
    p_equivalence: float
    detectable: float
    power: float
    metrics: dict[str, Difference]
    slices: dict[str, Lift] = Field(default_factory=dict)
    draw: Draw | None = None
    verdict: Verdict
    days: tuple[Day, ...] = ()
    replay: Replayed | None = None
    worlds: dict[Family, Lift] = Field({})
    contradiction: str = ""


AA, SAMPLE_RATIO = "aa", "sample_ratio"
"""Checks of the instrument: the control against itself, and users in halves; a test lacks what it does not draw."""


class Check(Record):
    """Something that has to hold, or there is no verdict; `says` has value and limit in words."""

    name: str
    holds: bool
    says: str


class Instrument(Record):
    """Simulated tests of the control against itself.

    Attributes:
        tests: How many.
        rates: Level to the share of tests with a p-value below it.
        ks_p: That the p-values are uniform (Kolmogorov-Smirnov).
        tenths: Share of the tests with a p-value in each tenth, from 0 on.
    """

    tests: int
    rates: dict[str, float]
    ks_p: float
    tenths: tuple[float, ...]


class ABTests(Stored):
    """All tests by treatment.

    Attributes:
        evidence: What stands behind the verdicts: the log's own known click probabilities, logged exposures, or a
            fitted world.
        checks: The right to judge; where one does not hold, every verdict is "no verdict".
        tests: By treatment; empty where the log has nothing to compare policies by.
        aa: The control against itself; None where there is no test.
        seeds: The runs of each model that took part.
        margin: Lifts within it, either way, are as good as none.
        caveat: What this kind of evidence cannot show.
    """

    FILE: ClassVar[str] = "abtest.json"

    control: str
    evidence: EvidenceKind
    checks: tuple[Check, ...]
    tests: dict[str, ABTest]
    aa: Instrument | None
    seeds: dict[str, tuple[int, ...]]
    margin: float
    caveat: str

    @property
    def reason(self) -> str:
        """Why there is no verdict, by the first check that does not hold; empty where there may be one."""
        failed = [check.says for check in self.checks if not check.holds]
        more = len(failed) - 1
        rest = "1 more check does not hold" if more == 1 else f"{more} more checks do not hold"
        return "".join(failed[:1]) + (f", and {rest}" if more > 0 else "")

    def reason_of(self, treatment: str) -> str:
        """Why there is no verdict on one treatment; empty where there may be one, and for the control."""
        test = self.tests.get(treatment)
        return self.reason or ("" if test is None else test.contradiction)


class Hindsight(Record):
    """A world that was fitted on exposures from both sides of the moment.

    Attributes:
        exposures: It was fitted on.
        judged: Exposures of the test period, on which it is judged, each by a fit without it.
        auc: On these.
        gauc: The same inside each user; None where no user has both classes.
        calibration_error: Expected calibration error on these.
        apart: How far its clicks on these are from the log's, by statistic.
        size: What it is made of, by name.
        refits: On resampled users.
        judges: Whether it has the right to.
    """

    family: Family
    exposures: int
    judged: int
    auc: float
    gauc: float | None
    calibration_error: float
    apart: dict[str, float]
    size: dict[str, float]
    refits: int
    judges: bool


class Setup(Record):
    """Who is tested on what.

    Attributes:
        real_users: Test users with exposures at two times and items enough.
        pool: Items a policy chooses from.
        repeated: Share of test exposures whose item the user had met before.
        without_met: Whether pools leave out what the user has met.
    """

    real_users: int
    pool: int
    repeated: float
    without_met: bool


class ABTested(Output):
    """Manifest of `abtest`.

    Attributes:
        fingerprint: That of the evaluation.
        test_fingerprint: Digest of it and of the section `abtest`.
        worlds: Those that were fitted; the lifts are of the first.
        confidence: Level of the intervals.
    """

    control: str
    fingerprint: str
    test_fingerprint: str
    setup: Setup
    worlds: tuple[Hindsight, ...] = Field(())
    confidence: float

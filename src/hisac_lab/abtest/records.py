"""What the stage `abtest` writes."""

from __future__ import annotations

from typing import ClassVar

from hisac_lab.base.records import Output, Record, Stored


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


class ABTest(Record):
    """One two-arm test.

    Attributes:
        lift_cuped: After what the same users did before the test is taken out.
        true_lift: What the world knows to be true.
        verdict: won, lost or undecided.
    """

    users: Users
    ctr: Rates
    lift: Lift
    lift_cuped: Lift
    cuped_variance_removed: float
    sample_ratio_p: float
    true_lift: float
    verdict: str


class ABTests(Stored):
    """All tests by treatment; `aa` is the control against itself, `seeds` the run of each model that was shown."""

    FILE: ClassVar[str] = "abtest.json"

    control: str
    tests: dict[str, ABTest]
    aa: ABTest
    seeds: dict[str, int]
    caveat: str


class WorldFit(Record):
    """The world that was fitted on real users; `dim` counts its factors."""

    real_users: int
    exposures: int
    holdout_auc: float
    dim: int


class ABTested(Output):
    """Manifest of `abtest`.

    Attributes:
        fingerprint: That of the evaluation.
        test_fingerprint: Digest of it and of the section `abtest`.
        confidence: Level of the intervals.
    """

    control: str
    fingerprint: str
    test_fingerprint: str
    world: WorldFit
    confidence: float

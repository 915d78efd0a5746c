"""Simulated users in a world of known click probabilities: a test as it would be run, and what the instrument is worth.

Each simulated user is a real one, drawn with replacement, and belongs to one trained run of the arm they are in. The
lift itself is not estimated here, it is known (see `estimate`): these tests show what split, clicks and statistics add.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from hisac_lab.abtest.records import Draw, Instrument, Rates, Users
from hisac_lab.abtest.statistics import assign, cuped, post_stratified, relative_lift, sample_ratio
from hisac_lab.base.artifacts import Array

CHUNK = 20_000  # simulated users at once: memory does not grow with their number
LEVELS = (0.01, 0.05, 0.1)
AA_USERS = 4_000


@dataclass(frozen=True)
class Crowd:
    """Simulated users.

    Attributes:
        users: How many.
        confidence: Level of the intervals.
        before: Chance of a click on each thing shown to a real user before the test, one run each; (S, T, k).
        seed: Of users and clicks.
        habits: What log and models say of each real user before the test; (T, h). None: nothing.
        strata: Number of each real user's stratum; (T,). None: there is one.
    """

    users: int
    confidence: float
    before: Array
    seed: int
    habits: Array | None = None
    strata: Array | None = None

    def test(self, control: Array, treatment: Array, salt: str) -> Draw:
        """One test: split by hash, draw clicks, read the result.

        Args:
            control: Chance of a click on each thing that a run shows a real user; (runs, T, k).
            treatment: The same of the other arm.
            salt: Salt of the split, and of the draws.
        """
        names = [f"user-{number}" for number in range(self.users)]
        treated = assign(names, salt)
        random = np.random.default_rng([self.seed, 3, *salt.encode()])
        habits = np.zeros((self.before.shape[1], 0)) if self.habits is None else self.habits
        strata = np.zeros(self.before.shape[1], np.int64) if self.strata is None else self.strata
        rate, known = np.zeros(self.users), np.zeros((self.users, 1 + habits.shape[1]))
        stratum = np.zeros(self.users, np.int64)
        for at in range(0, self.users, CHUNK):
            arm = treated[at : at + CHUNK]
            template = random.integers(control.shape[1], size=len(arm))
            known[at : at + CHUNK, 0] = _clicks(self.before, template, random)
            known[at : at + CHUNK, 1:] = habits[template]
            stratum[at : at + CHUNK] = strata[template]
            for chosen, chances in ((arm, treatment), (~arm, control)):
                rate[at + np.flatnonzero(chosen)] = _clicks(chances, template[chosen], random)
        adjusted, removed = cuped(rate, known)
        plain = relative_lift(rate[treated], rate[~treated], self.confidence)
        stratified, less = post_stratified(rate, treated, stratum, self.confidence)
        return Draw(
            users=Users(treatment=int(treated.sum()), control=int((~treated).sum())),
            ctr=Rates(treatment=round(float(rate[treated].mean()), 6), control=round(float(rate[~treated].mean()), 6)),
            lift=plain,
            lift_cuped=relative_lift(adjusted[treated], adjusted[~treated], self.confidence),
            lift_stratified=stratified,
            cuped_variance_removed=removed,
            stratified_variance_removed=less,
            sample_ratio_p=sample_ratio(int(treated.sum()), int((~treated).sum())),
        )

    def against_itself(self, control: Array, tests: int, salt: str) -> Instrument:
        """Tests of the control against itself, of `AA_USERS` users at most: how often they find what is not there."""
        few = replace(self, users=min(self.users, AA_USERS))
        found = [few.test(control, control, f"{salt}/{number}").lift_cuped.p_value for number in range(tests)]
        return instrument(np.array(found))


def instrument(p_values: Array) -> Instrument:
    """What p-values of tests of a policy against itself say of the instrument; (tests,)."""
    tenths = np.histogram(p_values, 10, (0, 1))[0] / len(p_values)
    return Instrument(
        tests=len(p_values),
        rates={f"{level:g}": round(float((p_values < level).mean()), 6) for level in LEVELS},
        ks_p=round(float(stats.kstest(p_values, "uniform").pvalue), 6),
        tenths=tuple(np.round(tenths, 6).tolist()),
    )


def shown_chances(chances: Array, places: Array, examined: Array) -> Array:
    """Chance of a click on each thing shown; (T, visits, pool), (S, T, visits, slate), (slate,) to (S, T, k)."""
    taken = np.stack([np.take_along_axis(chances, run, axis=2) for run in places]) * examined
    return taken.reshape(len(places), len(chances), -1)


def _clicks(chances: Array, template: Array, random: np.random.Generator) -> Array:
    """Share of shown things that each user clicks on; (S, T, k), (n,) to (n,)."""
    run = random.integers(len(chances), size=len(template))
    mine = chances[run, template]
    share: Array = (random.random(mine.shape, dtype=np.float32) < mine).mean(axis=1)
    return share

"""The value of a policy from clicks on what another policy showed: importance weighting and what tames its variance.

A round is one logged exposure: an item, shown with a known chance (its propensity), and clicked or not. The weight of a
round is what the policy under test would show of that item over that chance. All estimators are means over rounds, a
user's rounds first, so that every user counts alike:

- `ips`: weight times reward (Horvitz and Thompson, JASA 1952); unbiased.
- `self_normalized`: over the mean weight in place of its expectation (Swaminathan and Joachims, NeurIPS 2015).
- `clipped`: weights at most a limit (Ionides, JCGS 2008); biased towards zero, of least variance.
- `doubly_robust`: a click model's value of the slate, and the weighted rest (Dudik et al., ICML 2011); unbiased by
  propensities alone.
- `clusters`: weights of the semantic ID in place of the item (marginalized, Saito and Joachims, ICML 2022); unbiased
  where items of one code are liked alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from hisac_lab.abtest.records import Check, Instrument
from hisac_lab.abtest.simulated import instrument
from hisac_lab.abtest.statistics import BROKEN, least
from hisac_lab.base.artifacts import Array
from hisac_lab.base.errors import UserError
from hisac_lab.ops.choice import rounded

PROPENSITY = "propensity"
JUDGE = "doubly_robust"
"""The estimator that verdicts stand on."""


@dataclass(frozen=True)
class Rounds:
    """N logged exposures under one policy.

    Attributes:
        user: Of each, 0..T-1, each with a round; (N,).
        reward: Click over the chance that its place was looked at; (N,).
        weight: Chance that the policy's slate holds the item, by how well its place is seen, over the propensity; (N,).
        expected: What the weights come to in the mean: how much of a slate is seen; (N,).
        liked: Chance of a click on the item by the click model; (N,).
        direct: Clicks of the policy's slate by the click model; (N,).
        by_code: Weight by semantic ID; (N,). None: there are none.
    """

    user: Array
    reward: Array
    weight: Array
    expected: Array
    liked: Array
    direct: Array
    by_code: Array | None = None

    def mean(self, values: Array) -> Array:
        """Of each user's rounds; (N,) to (T,)."""
        counts = np.bincount(self.user)
        means: Array = np.bincount(self.user, values) / counts
        return means

    @property
    def effective(self) -> float:
        """Effective sample size (Kish 1965): rounds of equal weight that would tell as much."""
        weight = self.weight / np.bincount(self.user)[self.user]
        squares = float((weight**2).sum())
        return float(weight.sum()) ** 2 / squares if squares else 0.0

    def clipped(self, limit: float) -> float:
        """Share of the weight that lies above a limit, which is in multiples of the expected weight."""
        total = float(self.weight.sum())
        above = np.maximum(self.weight - limit * self.expected.mean(), 0)
        return float(above.sum()) / total if total else 0.0


def values(rounds: Rounds, limit: float) -> dict[str, Array]:
    """Clicks of a slate by each estimator: what every user adds, so that the mean over users is the estimate; (T,).

    That of `self_normalized` is linear in the neighborhood of the estimate (delta method).

    Args:
        rounds: Of one policy.
        limit: Of clipped weights, in multiples of the expected weight.
    """
    weighted, weight = rounds.mean(rounds.weight * rounds.reward), rounds.mean(rounds.weight)
    expected = float(rounds.mean(rounds.expected).mean())
    share = weighted.mean() / weight.mean() if weight.mean() else 0.0
    normalized = share + (weighted - share * weight) / weight.mean() if weight.mean() else np.zeros(len(weight))
    cut = np.minimum(rounds.weight, limit * rounds.expected.mean())
    found = {
        "ips": weighted,
        "self_normalized": expected * normalized,
        "clipped": rounds.mean(cut * rounds.reward),
        JUDGE: rounds.mean(rounds.direct + rounds.weight * (rounds.reward - rounds.liked)),
    }
    if rounds.by_code is not None:
        found["clusters"] = rounds.mean(rounds.by_code * rounds.reward)
    return found


def checked_propensities(propensity: Array, where: str) -> Array:
    """Logged propensities as float64, (N,).

    Args:
        propensity: As they stand in the log.
        where: The log in words.

    Raises:
        UserError: One of them is no chance above zero.
    """
    chance = propensity.astype(np.float64)
    bad = ~((chance > 0) & (chance <= 1))
    if bad.any():
        what = (
            f"{int(bad.sum()):,} of {len(chance):,} propensities are no chance above 0, the first is {chance[bad][0]:g}"
        )
        raise UserError(where, what, "log the chance with which each item was shown", PROPENSITY)
    return chance


def weights_hold(rounds: Mapping[str, Rounds]) -> Check:
    """Whether the weights come to what they must where the propensities are right and every item could be shown.

    Args:
        rounds: Of each policy by its name.
    """
    worst, p_value, corrected = least({name: _as_expected(one) for name, one in rounds.items()})
    policy = rounds[worst]
    found, wanted = (float(policy.mean(each).mean()) for each in (policy.weight, policy.expected))
    says = (
        f"the weights of {worst} come to {found:.3f} in the mean, {wanted:.3f} if the propensities are right: "
        f"p {p_value:.4g}, times {len(rounds)} by Bonferroni's correction {corrected:.4f}, the limit is {BROKEN}"
    )
    return Check(name="weights", holds=rounded(corrected) >= BROKEN, says=says)


def _as_expected(rounds: Rounds) -> float:
    """p-value of no difference between weights and what they come to in the mean."""
    gap = rounds.mean(rounds.weight - rounds.expected)
    error = float(gap.std(ddof=1)) / np.sqrt(len(gap))
    return float(2 * stats.norm.sf(abs(gap.mean()) / error) if error else np.isclose(gap.mean(), 0))


def halves(clicks: Array, tests: int, salt: str) -> Instrument:
    """The control against itself: users split in equal halves at random, again and again, read by Welch's t.

    Args:
        clicks: What every user adds to the control's value; (T,), four users or more.
        tests: How many.
        salt: Of the splits.
    """
    p_values = []
    for number in range(tests):
        one, other = np.array_split(np.random.default_rng([number, *salt.encode()]).permutation(clicks), 2)
        flat = one.var() + other.var() == 0
        p_values.append(float(flat or stats.ttest_ind(one, other, equal_var=False).pvalue))
    return instrument(np.array(p_values))

"""How large a test has to be before it begins: two arms of other users, read as a relative lift.

Spreads are relative: the standard deviation of a user's clicks over their mean, the same in both arms.
"""

from __future__ import annotations

import math

from scipy import optimize, stats

from hisac_lab.abtest.records import Lift, Users
from hisac_lab.abtest.statistics import power_of


def users_needed(effect: float, spread: float, confidence: float, power: float) -> float:
    """Users of each arm with which a test finds an effect with such power, by the noncentral t (Cohen 1988).

    Args:
        effect: Lift, or another difference of the means, of the same unit as the spread.
        spread: Standard deviation over the users of an arm.
        confidence: One less the chance of a false alarm.
        power: Chance to find it; above the chance of a false alarm.

    Returns:
        Not rounded; two at least.
    """

    def lacking(users: float) -> float:
        return _power(effect, spread, users, confidence) - power

    low = high = 2.0
    if lacking(low) >= 0:
        return low
    while lacking(high) < 0:
        low, high = high, 2 * high
    return float(optimize.brentq(lacking, low, high, xtol=1e-12, rtol=1e-14))


def least_lift(users: float, spread: float, confidence: float, power: float) -> float:
    """The least lift that a test of so many users in each arm finds with such power; the inverse of `users_needed`."""

    def lacking(effect: float) -> float:
        return _power(effect, spread, users, confidence) - power

    high = spread
    while lacking(high) < 0:
        high *= 2
    return float(optimize.brentq(lacking, 0.0, high, xtol=1e-15, rtol=1e-14))


def relative_spread(lift: Lift, users: Users, confidence: float) -> float:
    """The spread behind a lift that was read with its interval."""
    error = (lift.high - lift.low) / 2 / float(stats.norm.ppf(0.5 + confidence / 2))
    return error / (1 + lift.value) / math.sqrt(1 / users.treatment + 1 / users.control)


def _power(effect: float, spread: float, users: float, confidence: float) -> float:
    return power_of(effect, spread * math.sqrt(2 / users), 2 * users - 2, confidence)

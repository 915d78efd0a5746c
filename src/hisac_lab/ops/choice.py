"""Choices that noise cannot flip: what is compared is rounded first, ties go by a stated order.

The last digits of a float depend on the order of a sum, hence on the processor. So no decision looks at them: a value
counts as higher only where it is higher at `DIGITS` decimals, which are also the decimals that reports show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

DIGITS = 4
"""Decimals of shares, AUCs, lifts and p-values in a decision, unless a rule states fewer."""

T = TypeVar("T")


def rounded(value: float, digits: int = DIGITS) -> float:
    """The value as decisions see it; zero has no sign."""
    return round(float(value), digits) + 0.0


def higher(value: float, other: float, digits: int = DIGITS) -> bool:
    """Whether `value` is above `other` at so many decimals."""
    return rounded(value, digits) > rounded(other, digits)


def highest(choices: Iterable[T], value: Callable[[T], float], tie: Callable[[T], Any], digits: int = DIGITS) -> T:
    """The choice with the highest value at so many decimals; of equals the one whose `tie` is lowest.

    Args:
        choices: One at least, in any order.
        value: What is to be high.
        tie: A key that no two choices share, and that holds no float of a computation.
        digits: Decimals of the value.
    """
    return min(choices, key=lambda choice: (-rounded(value(choice), digits), tie(choice)))

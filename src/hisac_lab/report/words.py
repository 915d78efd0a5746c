"""How numbers are written: fixed digits, real minus signs, UTC dates. Nothing here depends on a locale."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from hisac_lab.evaluation.records import Interval
from hisac_lab.ops.choice import rounded
from hisac_lab.report.facts import Facts

METRICS = {"auc": "AUC", "gauc": "GAUC", "log_loss": "log loss"}


def integer(value: float) -> str:
    """12,345."""
    return f"{value:,.0f}"


def fixed(value: float, digits: int = 4) -> str:
    """0.7138, with a real minus sign."""
    return f"{value:.{digits}f}".replace("-", "−")


def signed(value: float, digits: int = 4) -> str:
    """+0.0052 or −0.0043; zero has no sign."""
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def percent(value: float, digits: int = 1) -> str:
    """56.7 %."""
    return f"{fixed(100 * value, digits)} %"


def signed_percent(value: float, digits: int = 2) -> str:
    """+0.52 %."""
    return f"{signed(100 * value, digits)} %"


def day(seconds: int) -> str:
    """Seconds since 1970 as a UTC date, yyyy-mm-dd."""
    return str(np.datetime64(seconds, "s"))[:10]


def moment(seconds: int) -> str:
    """Seconds since 1970 as yyyy-mm-dd hh:mm:ss UTC."""
    return str(np.datetime64(seconds, "s")).replace("T", " ") + " UTC"


def first_number(label: str) -> float:
    """Key to sort bins such as "16 to 40" by their lower end."""
    return float(label.split(maxsplit=1)[0])


def between(interval: Interval, show: Callable[[float], str] = fixed) -> str:
    """[0.6964, 0.7298], each end written by `show`."""
    return f"[{show(interval[0])}, {show(interval[1])}]"


def confidence(level: float) -> str:
    """95 %, 99.5 %."""
    return f"{100 * level:.6g} %"


def excludes_zero(interval: Interval) -> bool:
    """Whether both ends, as they are shown, are on the same side of zero."""
    return rounded(interval[0]) > 0 or rounded(interval[1]) < 0


def is_sure(difference: float, p: float, level: float) -> bool:
    """Whether a difference that is not shown as zero has a p-value, as rounded, below the level."""
    return rounded(difference) != 0 and rounded(p) < rounded(level)


MOST_NAMED = 4
"""Names in a sentence, beyond which the rest is counted."""


def named(names: Sequence[str]) -> str:
    """`a`, `b` and `c`; many are cut: `a`, `b`, `c`, `d` and 8 more."""
    shown = [f"`{name}`" for name in names[:MOST_NAMED]]
    if len(names) > MOST_NAMED:
        return f"{', '.join(shown)} and {len(names) - MOST_NAMED} more"
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1] if shown else "")))


def told_apart(differences: Sequence[tuple[str, Interval]], than: str) -> str:
    """Which of several differences leave out zero, in a sentence.

    Args:
        differences: Names with the intervals of their differences, more is better.
        than: What they are compared with, in words.
    """
    better = [name for name, ends in differences if excludes_zero(ends) and ends[0] > 0]
    worse = [name for name, ends in differences if excludes_zero(ends) and ends[0] <= 0]
    if not differences:
        return f"There is nothing beside {than}."
    if not better and not worse:
        return f"Nothing to choose between: every interval of a difference to {than} holds zero."
    said = [f"{word} than {than}: {named(found)}" for word, found in (("better", better), ("worse", worse)) if found]
    rest = len(differences) - len(better) - len(worse)
    told = "; ".join([*said, *([f"not to be told from it: {rest}"] if rest else [])])
    return f"{told[0].upper()}{told[1:]}."


def times(value: float, base: float, whose: str) -> str:
    """How many times the base: "1.3 times its", say; both numbers where the base is zero."""
    return f"{value / base:.2g} times {whose}" if base else f"{value:,.0f} against 0"


def metric_names(facts: Facts) -> dict[str, str]:
    """Metric keys and their names: pooled AUC, AUC per user, log loss, then the ranking metrics."""
    metrics = facts.scores.models[facts.ranking[0]].metrics
    keys = [key for key in METRICS if key in metrics] + sorted(set(metrics) - set(METRICS))
    return {key: METRICS.get(key, key.replace("ndcg", "NDCG").replace("recall", "Recall")) for key in keys}

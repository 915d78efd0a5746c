"""What the dimensions of a sweep did: trials grouped by their values, and what the groups explain."""

from __future__ import annotations

import numpy as np

from hisac_lab.sweep.records import Trial

LEAST = 6
"""Complete trials below which nothing is said of what a dimension explains."""
BINS = 4
"""Groups of the values of a dimension that has many."""


def groups_of(done: list[Trial]) -> dict[str, dict[str, list[float]]]:
    """AUCs of the trials by each dimension's values, those of a long range in bins of as many trials."""
    found: dict[str, dict[str, list[float]]] = {}
    for name in dict.fromkeys(name for trial in done for name in trial.settings):
        pairs = [(trial.settings[name], trial.auc or 0.0) for trial in done if name in trial.settings]
        values = sorted({value for value, _ in pairs}, key=_order)
        groups: dict[str, list[float]] = {}
        if len(values) > 2 * BINS and all(_order(value)[0] == 0 for value in values):
            ordered = sorted(pairs, key=lambda pair: _order(pair[0]))
            for part in np.array_split(np.arange(len(ordered)), BINS):
                ends = [ordered[at][0] for at in (part[0], part[-1])]
                groups["–".join(f"{float(end):.2g}" for end in ends)] = [ordered[at][1] for at in part]
        else:
            groups = {value: [auc for other, auc in pairs if other == value] for value in values}
        found[name] = groups
    return found


def _order(value: str) -> tuple[int, float, str]:
    try:
        return 0, float(value), value
    except ValueError:
        return 1, 0.0, value


def explained(done: list[Trial]) -> dict[str, float]:
    """Share of the variance of AUC that each dimension's groups explain, less what as many groups do by chance.

    That is one less the ratio of the mean squares within groups and in all; not below zero.
    """
    shares = {}
    for name, groups in groups_of(done).items():
        every = np.concatenate(list(groups.values()))
        free = len(every) - len(groups)
        if len(every) < LEAST or free < 1 or len(groups) < 2:
            continue
        within = sum(float(((np.array(aucs) - np.mean(aucs)) ** 2).sum()) for aucs in groups.values())
        total = float(((every - every.mean()) ** 2).sum())
        if total > 0:
            shares[name] = round(max(0.0, 1 - (within / free) / (total / (len(every) - 1))), 4)
    return shares

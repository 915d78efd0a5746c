"""Gradient boosted trees, fitted by LightGBM in one thread, so that the same rows give the same trees."""

from __future__ import annotations

from typing import Any, NamedTuple

from hisac_lab.base.artifacts import Array
from hisac_lab.base.errors import SETTINGS, UserError


class Growth(NamedTuple):
    """How trees grow.

    Attributes:
        rounds: Trees.
        leaves: Of a tree at most.
        depth: Splits from root to leaf at most.
        rate: Share of each tree's step.
        least: Rows in a leaf at least.
        column_share: Share of the columns that each tree may ask, drawn.
        bins: Values of a column that are told apart at most.
    """

    rounds: int
    leaves: int
    depth: int
    rate: float
    least: int
    column_share: float
    bins: int = 255


def boosted(rows: Array, labels: Array, weights: Array | None, growth: Growth, seed: int) -> Any:
    """Trees that lower the log loss, one after the other, leaf by leaf.

    Args:
        rows: (n, F) numbers, none of them missing.
        labels: 0 or 1; (n,).
        weights: Of each row; (n,). None: all weigh 1.
        growth: How they grow.
        seed: Of the columns that are drawn.

    Returns:
        A `lightgbm.Booster`.

    Raises:
        UserError: LightGBM is not installed.
    """
    try:
        import lightgbm
    except ImportError as error:
        hint = "pip install 'hisac-lab[trees]'"
        raise UserError(SETTINGS, "boosted trees need LightGBM, which is not installed", hint) from error
    settings = {
        "objective": "binary",
        "num_leaves": growth.leaves,
        "max_depth": growth.depth,
        "learning_rate": growth.rate,
        "min_data_in_leaf": growth.least,
        "feature_fraction": growth.column_share,
        "max_bin": growth.bins,
        "use_missing": False,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "verbosity": -1,
    }
    data = lightgbm.Dataset(rows, labels, weight=weights)
    return lightgbm.train(settings, data, growth.rounds)

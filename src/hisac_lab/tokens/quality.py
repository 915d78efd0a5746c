"""Quality of semantic IDs, and the gate that stops the graph when it is poor.

Use alone proves nothing: three levels at 98 % use can still put 20,000 items on 250 IDs. So collisions and the
largest bucket are measured beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hisac_lab.base.artifacts import Array
from hisac_lab.base.errors import UserError
from hisac_lab.config.tokens import TokenizeLimits


def measure(vectors: Array, codes: Array, decode: Callable[[Array], Array], widths: tuple[int, ...]) -> dict[str, Any]:
    """Measures per level and for the full ID.

    Args:
        vectors: (n, D) embeddings.
        codes: (n, L) semantic IDs.
        decode: From (n, l) codes to (n, D) reconstructions.
        widths: Codes per level.

    Returns:
        `levels`: per level use, perplexity, explained variance and the distinct prefixes down to it;
        `ids`, `collision_rate` (share of items that share their ID), `largest_bucket`, `max_bucket_share`.
    """
    centred = float(((vectors - vectors.mean(axis=0)) ** 2).sum())
    levels = []
    for level, width in enumerate(widths):
        share = np.bincount(codes[:, level], minlength=width) / len(codes)
        used = share[share > 0]
        left = float(((vectors - decode(codes[:, : level + 1])) ** 2).sum())
        levels.append(
            {
                "width": width,
                "use": round(float(np.mean(share > 0)), 6),
                "perplexity": round(float(np.exp(-(used * np.log(used)).sum())), 4),
                "explained_variance": round(1 - left / centred, 6) if centred else 1.0,
                "prefixes": len(np.unique(codes[:, : level + 1], axis=0)),
            }
        )
    buckets = np.unique(codes, axis=0, return_counts=True)[1]
    return {
        "levels": levels,
        "ids": len(buckets),
        "collision_rate": round(float(buckets[buckets > 1].sum() / len(codes)), 6),
        "largest_bucket": int(buckets.max()),
        "max_bucket_share": round(float(buckets.max() / len(codes)), 6),
    }


def check_limits(quality: dict[str, Any], limits: TokenizeLimits) -> None:
    """The gate.

    Raises:
        UserError: Names the measure, its value, the limit and what to change.
    """
    use = min(level["use"] for level in quality["levels"])
    verdicts = (
        ("min_use", use >= limits.min_use, use, "lower tokenize.widths"),
        (
            "max_collision_rate",
            quality["collision_rate"] <= limits.max_collision_rate,
            quality["collision_rate"],
            "raise tokenize.widths or add a level",
        ),
        (
            "max_bucket_share",
            quality["max_bucket_share"] <= limits.max_bucket_share,
            quality["max_bucket_share"],
            "give the items on that ID different texts, or add a level",
        ),
    )
    for name, holds, value, mend in verdicts:
        if not holds:
            raise UserError(
                "params.yaml",
                f"the semantic IDs reach {value:.3f}, the limit is {getattr(limits, name)}",
                mend,
                f"tokenize.limits.{name}",
            )

"""Quality of semantic IDs, and the gate that stops the graph when it is poor.

Use alone proves nothing: three levels at 98 % use can still put 20,000 items on 250 IDs. So collisions, crowding, what
is left of the embedding, of its neighborhoods and of the items' categories are measured beside it, and what a second
seed would have said.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from hisac_lab.base.artifacts import Array
from hisac_lab.base.errors import SETTINGS, UserError
from hisac_lab.config.tokens import TokenizeConfig
from hisac_lab.ops.choice import DIGITS, rounded
from hisac_lab.tokens.prefixes import Prefixes, prefixes
from hisac_lab.tokens.quantizer import ResidualQuantizer
from hisac_lab.tokens.random_codes import distinct_rows

BLOCK = 16384
EVEN = 0.2  # evenness of codes of which nobody need be told
CORPUS = 100_000  # items among which neighbors are sought, at most
PROBES_AT_ONCE = 64


def measure(
    vectors: Array,
    codes: Array,
    quantizer: ResidualQuantizer,
    neighbors: int,
    probes: int,
    categories: Array | None = None,
    other_codes: Array | None = None,
) -> dict[str, Any]:
    """Measures per level and for the full ID.

    Args:
        vectors: (n, D) embeddings of the items that have one; may be memory-mapped.
        codes: (n, L) semantic IDs.
        quantizer: Where they come from.
        neighbors: k of the neighbor overlap.
        probes: Items whose neighbors are compared, at most.
        categories: Category of each item, or None; (n,) int.
        other_codes: Semantic IDs of a fit with another seed, or None; (n, L).

    Returns:
        `levels`: per level width, use, perplexity, evenness (perplexity over width), entropy (bits), prefixes and
        fan-out, explained variance, purity of prefixes (share of pairs of items with that prefix that share their
        category; None without such pairs) and seed agreement (adjusted Rand index).
        For the full ID: `ids`, `occupancy` (see there), `collision_rate` (share of items that share their ID),
        `largest_bucket`, `max_bucket_share`, `fair_share` (of items on an ID, if all had as many),
        `explained_variance`, `mean_squared_error`, `cosine`, `neighbor_overlap`.
        With categories `purity_by_chance` and `purity_lift` (first level over chance).
    """
    tree = prefixes(codes)
    other = None if other_codes is None else prefixes(other_codes)
    variance, errors, cosine = _reconstruction(vectors, codes, quantizer)
    levels = []
    for level, (width, nodes) in enumerate(zip(quantizer.widths, tree, strict=True)):
        share = np.bincount(codes[:, level], minlength=width) / len(codes)
        used = share[share > 0]
        entropy = float(-(used * np.log(used)).sum())
        facts: dict[str, Any] = {
            "width": width,
            "use": float(np.mean(share > 0)),
            "perplexity": float(np.exp(entropy)),
            "evenness": float(np.exp(entropy)) / width,
            "entropy_bits": entropy / float(np.log(2)),
            "explained_variance": 1 - errors[level] / variance if variance else 1.0,
            "prefixes": len(nodes.count),
            "fan_out": len(nodes.count) / (len(tree[level - 1].count) if level else 1),
        }
        if categories is not None:
            facts["purity"] = purity(nodes.node, categories)
        if other is not None:
            facts["seed_agreement"] = agreement(nodes.node, other[level].node)
        levels.append(facts)
    buckets, distinct = tree[-1].count, distinct_rows(vectors)
    quality: dict[str, Any] = {
        "levels": levels,
        "ids": len(buckets),
        "occupancy": occupancy(len(buckets), distinct, quantizer.widths),
        "collision_rate": float(buckets[buckets > 1].sum() / len(codes)),
        "largest_bucket": int(buckets.max()),
        "max_bucket_share": float(buckets.max() / len(codes)),
        "fair_share": 1 / max(1, min(distinct, math.prod(quantizer.widths))),
        "explained_variance": levels[-1]["explained_variance"],
        "mean_squared_error": errors[-1] / len(codes),
        "cosine": cosine,
        "neighbor_overlap": overlap(vectors, tree[-1], codes, quantizer, neighbors, probes),
    }
    if categories is not None:
        chance = purity(np.zeros(len(codes), np.int64), categories)
        first = levels[0]["purity"]
        quality["purity_by_chance"] = chance
        quality["purity_lift"] = first / chance if chance and first is not None else None
    rounded: dict[str, Any] = _rounded(quality)
    return rounded


def occupancy(ids: int, items: int, widths: Sequence[int]) -> float:
    """Distinct IDs over those that as many items would take on average if each fell on one at random.

    Collisions are many where items are many for the IDs there can be; this is not, so one limit fits all catalogs.

    Args:
        ids: Distinct full IDs.
        items: With distinct embeddings.
        widths: Codes per level.
    """
    leaves = math.prod(widths)
    return ids / (leaves * -math.expm1(items * math.log1p(-1 / leaves))) if items else 1.0


def uneven(quality: dict[str, Any]) -> str | None:
    """Which level has the least even codes, in words, when it is not a fifth of what it could be; else None."""
    number, level = min(enumerate(quality["levels"], 1), key=lambda entry: (entry[1]["evenness"], entry[0]))
    if level["evenness"] >= EVEN:
        return None
    return f"level {number} has {level['width']} codes, but spreads the items as {level['perplexity']:.1f} would"


def evener(config: TokenizeConfig) -> str:
    """What makes codes more even, and IDs with them more."""
    if config.balanced:
        return "lower tokenize.widths"
    if config.method != "residual_kmeans":
        return "set tokenize.method: residual_kmeans and tokenize.balanced: true"
    full = "tokenize.fit: full and " if config.fit != "full" else ""
    return f"set {full}tokenize.balanced: true"


def purity(groups: Array, categories: Array) -> float | None:
    """Share of the pairs of items in one group that are in one category; None when no group has a pair.

    Unlike a majority share, small groups do not flatter it.

    Args:
        groups: (n,) int.
        categories: (n,) int.
    """
    inside = np.bincount(groups).astype(np.float64)
    pairs = float((inside * (inside - 1)).sum())
    both = np.unique(groups.astype(np.int64) * (int(categories.max(initial=0)) + 1) + categories, return_counts=True)[1]
    return float((both * (both - 1.0)).sum() / pairs) if pairs else None


def agreement(groups: Array, others: Array) -> float:
    """Adjusted Rand index of two groupings (Hubert and Arabie 1985): 1 for equal, about 0 for unrelated ones.

    Args:
        groups: Group of each item; (n,) int64.
        others: The same of another grouping.
    """

    def pairs(counts: Array) -> float:
        return float((counts * (counts - 1.0)).sum() / 2)

    both = pairs(np.unique(groups * (int(others.max()) + 1) + others, return_counts=True)[1])
    rows, columns, total = pairs(np.bincount(groups)), pairs(np.bincount(others)), len(groups) * (len(groups) - 1) / 2
    if rows == columns == both:
        return 1.0
    expected = rows * columns / total
    return (both - expected) / ((rows + columns) / 2 - expected)


def overlap(
    vectors: Array, leaves: Prefixes, codes: Array, quantizer: ResidualQuantizer, neighbors: int, probes: int
) -> float:
    """Share of an item's k nearest by ID that are among its k nearest by embedding.

    Items on one ID are equally near by it, so each counts with its chance to be picked; an item as near by embedding
    as the k-th nearest counts as one of them. Probes and, beyond 100,000 items, the items sought among are evenly
    spaced rows.

    Args:
        vectors: (n, D) embeddings.
        leaves: The full IDs.
        codes: (n, L) semantic IDs.
        quantizer: Gives the distance between IDs.
        neighbors: k.
        probes: Items compared, at most.
    """
    corpus = _spaced(len(vectors), CORPUS)
    points = np.asarray(vectors[corpus], np.float32)
    _, first, leaf, count = np.unique(leaves.node[corpus], return_index=True, return_inverse=True, return_counts=True)
    places = quantizer.decode(codes[corpus[first]])
    members = np.argsort(leaf, kind="stable")
    begins = np.cumsum(count) - count
    nearest = min(neighbors, len(corpus) - 1)
    if nearest < 1:
        return 1.0
    asked = _spaced(len(corpus), probes)
    kept = 0.0
    for start in range(0, len(asked), PROBES_AT_ONCE):
        rows = asked[start : start + PROBES_AT_ONCE]
        true = _distances(points[rows], points)
        true[np.arange(len(rows)), rows] = np.inf
        limit = np.partition(true, nearest - 1, axis=1)[:, nearest - 1] + 1e-6
        coded = _distances(places[leaf[rows]], places)
        coded[np.arange(len(rows)), leaf[rows]] = -1.0
        width = min(nearest + 1, len(count))
        close = np.argpartition(coded, width - 1, axis=1)[:, :width]
        close = np.take_along_axis(close, np.argsort(np.take_along_axis(coded, close, 1), axis=1, kind="stable"), 1)
        for place, row in enumerate(rows):
            wanted = nearest
            for leaf_at in close[place]:
                items = members[begins[leaf_at] : begins[leaf_at] + count[leaf_at]]
                items = items[items != row]
                reached = min(wanted, len(items))
                if reached:
                    kept += reached * float(np.mean(true[place, items] <= limit[place]))
                wanted -= reached
    return kept / (nearest * len(asked))


def check_limits(quality: dict[str, Any], config: TokenizeConfig) -> None:
    """The gate. Measures are rounded first; of random codes, the control, only use and crowding are judged.

    Raises:
        UserError: Names the measure, its value, the limit and what to change.
    """
    levels, limits = quality["levels"], config.limits
    more = "raise tokenize.widths or add a level"
    apart = "give the items on that ID texts that differ" + ("" if config.balanced else f", or {evener(config)}")
    crowded = limits.max_bucket_share or rounded(max(0.05, 4 * quality["fair_share"]))
    rules: list[tuple[str, float | None, str]] = [
        ("min_use", min(level["use"] for level in levels), "lower tokenize.widths"),
        ("min_evenness", min(level["evenness"] for level in levels), evener(config)),
        ("min_fan_out", levels[1]["fan_out"] if len(levels) > 1 else None, "lower the first of tokenize.widths"),
        ("min_occupancy", quality["occupancy"], evener(config)),
        ("max_bucket_share", quality["max_bucket_share"], apart),
    ]
    if config.method != "random":
        rules += [
            ("min_explained_variance", quality["explained_variance"], more),
            ("min_neighbor_overlap", quality["neighbor_overlap"], more),
            ("min_purity_lift", quality.get("purity_lift"), "choose another embed.method"),
            ("min_seed_agreement", levels[0].get("seed_agreement"), "lower the first of tokenize.widths"),
        ]
    for name, measured, hint in rules:
        if measured is None:
            continue
        value, limit = rounded(measured), crowded if name == "max_bucket_share" else getattr(limits, name)
        if value < limit if name.startswith("min") else value > limit:
            raise UserError(
                SETTINGS,
                f"the semantic IDs reach {value:.{DIGITS}f}, the limit is {limit}",
                hint,
                f"tokenize.limits.{name}",
            )


def _reconstruction(vectors: Array, codes: Array, quantizer: ResidualQuantizer) -> tuple[float, list[float], float]:
    """Squared norms about the mean, squared error per depth (sums over items), mean cosine at full depth."""
    mean = sum(np.asarray(vectors[at : at + BLOCK]).sum(axis=0, dtype=np.float64) for at in _starts(vectors))
    mean = (mean / len(vectors)).astype(np.float32)
    variance, cosine, errors = 0.0, 0.0, [0.0] * codes.shape[1]
    for at in _starts(vectors):
        block = np.asarray(vectors[at : at + BLOCK])
        variance += float(((block - mean) ** 2).sum(dtype=np.float64))
        for level in range(codes.shape[1]):
            close = quantizer.reconstruct(codes[at : at + BLOCK, : level + 1])
            errors[level] += float(((block - close) ** 2).sum(dtype=np.float64))
        norms = np.linalg.norm(block, axis=1) * np.linalg.norm(close, axis=1)
        cosine += float((np.einsum("nd,nd->n", block, close) / np.maximum(norms, 1e-12)).sum(dtype=np.float64))
    return variance, errors, cosine / len(vectors)


def _starts(vectors: Array) -> range:
    return range(0, len(vectors), BLOCK)


def _spaced(count: int, most: int) -> Array:
    """At most so many of `count` rows, evenly spaced."""
    wanted = min(count, most)
    rows: Array = np.arange(wanted, dtype=np.int64) * count // max(wanted, 1)
    return rows


def _distances(points: Array, centers: Array) -> Array:
    """Squared distances: (a, S) and (b, S) to (a, b)."""
    squares: Array = (points**2).sum(axis=1)[:, None] - 2 * points @ centers.T + (centers**2).sum(axis=1)
    return np.maximum(squares, 0)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_rounded(part) for part in value]
    return round(value, 6) if isinstance(value, float) else value

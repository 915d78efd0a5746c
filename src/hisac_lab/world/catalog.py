"""Items of the world: a tree of topics, a popularity tail, words and content vectors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd

from hisac_lab.base.artifacts import Array, save_arrays
from hisac_lab.config.world import World
from hisac_lab.world.words import FILLERS, THEMES, TOPICS

SPREAD = 0.3
"""Standard deviation of the items' own appeal, in logits."""
LEVEL_SCALES = (1.0, 0.8, 0.5)
"""Length of the topic's, subtopic's and theme's part of a content vector."""


@dataclass(frozen=True)
class Catalog:
    """N items in the order of their leaves: any topic, subtopic or leaf is a contiguous range.

    A leaf is a (topic, subtopic, theme); G subtopics, and `themes` leaves in each.

    Attributes:
        number: Number of each item in the log, a permutation of 0..N-1; (N,) int32.
        leaf: Leaf of each item; (N,) int32.
        subtopic: Subtopic of each item, 0..G-1; (N,) int32.
        weight: Popularity, a power of its rank, sums to 1; (N,).
        ends: Running sum of `weight`; (N,).
        leaf_bounds: Where each leaf starts in the running sum, and the end; (leaves + 1,).
        subtopic_bounds: The same of subtopics; (G + 1,).
        in_leaf: Share of the item in the popularity of its leaf; (N,).
        in_subtopic: The same of its subtopic; (N,).
        appeal: What the item itself adds to a click, in logits; (N,).
        phase: Weekly and yearly phase of each topic's season; (topics, 2).
        link: The subtopic that items of each leaf join to their own; -1 where they are no guides; (leaves,).
        themes: Leaves of each subtopic.
        subtopics: Subtopics of each topic.
    """

    number: Array
    leaf: Array
    subtopic: Array
    weight: Array
    ends: Array
    leaf_bounds: Array
    subtopic_bounds: Array
    in_leaf: Array
    in_subtopic: Array
    appeal: Array
    phase: Array
    link: Array
    themes: int
    subtopics: int


def make_catalog(world: World) -> Catalog:
    """Draws the items; the same seed gives the same items."""
    random = np.random.default_rng([world.seed, 0])
    topics, subtopics, themes = world.topics
    leaves = topics * subtopics * themes
    # Every leaf has an item; the others fall on leaves of uneven size.
    size = random.gamma(2.0, size=leaves)
    others = random.choice(leaves, world.items - leaves, p=size / size.sum())
    leaf = np.sort(np.concatenate([np.arange(leaves), others])).astype(np.int32)
    weight = (1.0 + random.permutation(world.items)) ** -world.popularity
    ends = np.cumsum(weight / weight.sum())
    weight = np.diff(ends, prepend=0.0)  # what the running sum rounds them to: draws and propensities agree
    first = np.searchsorted(leaf, np.arange(leaves + 1))
    leaf_bounds = np.r_[0.0, ends][first]
    subtopic, subtopic_bounds = leaf // themes, leaf_bounds[::themes]
    return Catalog(
        number=random.permutation(world.items).astype(np.int32),
        leaf=leaf,
        subtopic=subtopic,
        weight=weight,
        ends=ends,
        leaf_bounds=leaf_bounds,
        subtopic_bounds=subtopic_bounds,
        in_leaf=weight / np.diff(leaf_bounds)[leaf],
        in_subtopic=weight / np.diff(subtopic_bounds)[subtopic],
        appeal=random.normal(0, SPREAD, world.items),
        phase=random.uniform(0, 2 * np.pi, (topics, 2)),
        link=_links(world),
        themes=themes,
        subtopics=subtopics,
    )


def _links(world: World) -> Array:
    """The subtopic each leaf links to: any other one, from all themes but the first; (leaves,)."""
    topics, subtopics, themes = world.topics
    own = np.arange(topics * subtopics)[:, None]
    links = np.full((len(own), themes), -1)
    if world.two_step:
        steps = np.random.default_rng([world.seed, 3]).integers(1, len(own), (len(own), themes - 1))
        links[:, 1:] = (own + steps) % len(own)
    return links.ravel()


def write_catalog(catalog: Catalog, world: World, out: Path) -> None:
    """Writes `items.parquet` (item, text, topic, subtopic, theme) and `vectors.npy`, (N, dim), rows of length 1.

    Rows of both are in the order of the items' numbers. A guide's text ends with the subtopic it links to, and its
    vector holds the parts of that subtopic and its topic as it holds its own.
    """
    random = np.random.default_rng([world.seed, 1])
    order = np.argsort(catalog.number, kind="stable")
    leaf = catalog.leaf[order]
    topic, subtopic, theme = np.unravel_index(leaf, world.topics)
    names = list(TOPICS)
    # A filler, two words of the theme, the subtopic and two words of it, the topic.
    filler = random.integers(0, len(FILLERS), world.items)
    style, detail = (np.array(list(permutations(range(most), 2))) for most in (4, 3))
    style, detail = (pairs[random.integers(0, len(pairs), world.items)] for pairs in (style, detail))
    texts = []
    for f, h, (a, b), t, s, (c, d) in zip(filler, theme, style, topic, subtopic, detail, strict=True):
        words, (name, *more) = THEMES[h], TOPICS[names[t]][s]
        texts.append(f"{FILLERS[f]} {words[a]} {words[b]} {name} {more[c]} {more[d]} {names[t]}")
    link = catalog.link[leaf]
    for row in np.flatnonzero(link >= 0):
        there, at = divmod(int(link[row]), catalog.subtopics)
        texts[row] += f" {TOPICS[names[there]][at][0]}"
    pd.DataFrame(
        {
            "item": np.arange(world.items, dtype=np.int32),
            "text": texts,
            "topic": [names[t] for t in topic],
            "subtopic": [TOPICS[names[t]][s][0] for t, s in zip(topic, subtopic, strict=True)],
            "theme": [THEMES[h][0] for h in theme],
        }
    ).to_parquet(out / "items.parquet", index=False)

    vectors = world.noise * random.standard_normal((world.items, world.dim), np.float32)
    for depth, scale in enumerate(LEVEL_SCALES, 1):
        node, below = leaf // math.prod(world.topics[depth:]), math.prod(world.topics[depth:2])
        parts = scale * random.standard_normal((math.prod(world.topics[:depth]), world.dim), np.float32)
        vectors += parts[node]
        if depth < len(world.topics):
            vectors += np.where(link[:, None] >= 0, parts[link // below], 0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    save_arrays(out, {"vectors": vectors})

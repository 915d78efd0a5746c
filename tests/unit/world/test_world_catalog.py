"""Items of the world: their tree, their tail, and words and vectors that tell topics apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hisac_lab.config.tokens import EmbedConfig
from hisac_lab.config.world import World, WorldConfig, resolve
from hisac_lab.tokens.text import static_vectors
from hisac_lab.world.catalog import Catalog, make_catalog, write_catalog
from hisac_lab.world.words import FILLERS, THEMES, TOPICS


@pytest.fixture(scope="module")
def world() -> World:
    return resolve(WorldConfig(preset="small", items=3_000, popularity=0.8))


@pytest.fixture(scope="module")
def catalog(world: World) -> Catalog:
    return make_catalog(world)


@pytest.fixture(scope="module")
def written(world: World, catalog: Catalog, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("items")
    write_catalog(catalog, world, out)
    return out


def test_words_are_plenty_and_belong_to_one_topic_each() -> None:
    words = [word for subtopics in TOPICS.values() for own in subtopics for word in own]
    styles = [word for theme in THEMES for word in theme]
    everything = [*words, *styles, *FILLERS, *TOPICS]
    assert len(set(everything)) == len(everything)
    assert [len(subtopics) for subtopics in TOPICS.values()] == [16] * 16
    assert {len(own) for subtopics in TOPICS.values() for own in subtopics} == {4}
    assert [len(theme) for theme in THEMES] == [4] * 8


def test_every_range_of_the_running_sum_holds_the_popularity_of_its_items(catalog: Catalog, world: World) -> None:
    assert sorted(catalog.number) == list(range(world.items))
    assert (np.diff(catalog.leaf) >= 0).all()
    leaves = np.prod(world.topics)
    assert set(catalog.leaf) == set(range(leaves))
    weight = np.bincount(catalog.leaf, catalog.weight)
    np.testing.assert_allclose(np.diff(catalog.leaf_bounds), weight, rtol=1e-9)
    np.testing.assert_allclose(np.bincount(catalog.leaf, catalog.in_leaf), 1, rtol=1e-9)
    np.testing.assert_allclose(np.bincount(catalog.subtopic, catalog.in_subtopic), 1, rtol=1e-9)
    np.testing.assert_array_equal(catalog.subtopic, catalog.leaf // world.topics[2])


@pytest.mark.parametrize("exponent", [0.0, 0.8, 2.0])
def test_popularity_is_a_power_of_the_rank(exponent: float) -> None:
    weight = make_catalog(resolve(WorldConfig(popularity=exponent))).weight
    ranks = np.arange(1, len(weight) + 1)
    slope = np.polyfit(np.log(ranks), np.log(np.sort(weight)[::-1]), 1)[0]
    assert slope == pytest.approx(-exponent, abs=1e-4)
    assert weight.sum() == pytest.approx(1)


def test_the_seed_decides_the_items(world: World, catalog: Catalog) -> None:
    again = make_catalog(world)
    other = make_catalog(resolve(WorldConfig(preset="small", items=3_000, popularity=0.8, seed=1)))
    np.testing.assert_array_equal(catalog.weight, again.weight)
    np.testing.assert_array_equal(catalog.number, again.number)
    assert (catalog.number != other.number).mean() > 0.9


def test_the_table_is_in_the_order_of_the_numbers_and_says_the_topics(
    world: World, catalog: Catalog, written: Path
) -> None:
    table = pd.read_parquet(written / "items.parquet")
    assert table["item"].tolist() == list(range(world.items))
    leaf = np.empty(world.items, np.int64)
    leaf[catalog.number] = catalog.leaf
    # One leaf, one triple of words, and the other way round.
    triples = table[["topic", "subtopic", "theme"]].agg("/".join, axis=1)
    assert pd.Series(leaf).groupby(triples).nunique().max() == 1
    assert triples.groupby(leaf).nunique().max() == 1
    for row in table.sample(50, random_state=0).itertuples():
        words = str(row.text).split()
        (own,) = [own for own in TOPICS[str(row.topic)] if own[0] == row.subtopic]
        (style,) = [style for style in THEMES if style[0] == row.theme]
        assert len(words) == len(set(words)) == 7
        assert words[0] in FILLERS
        assert set(words[1:3]) <= set(style)
        assert words[3] == row.subtopic
        assert set(words[4:6]) <= set(own[1:])
        assert words[6] == row.topic


def test_vectors_and_texts_are_the_closer_the_more_of_the_tree_items_share(written: Path) -> None:
    table = pd.read_parquet(written / "items.parquet")
    vectors = np.load(written / "vectors.npy")
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    texts = np.concatenate(list(static_vectors(EmbedConfig(), written)))
    texts = texts - texts.mean(axis=0)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    codes = np.stack([pd.factorize(table[name])[0] for name in ("topic", "subtopic", "theme")], axis=1)
    random = np.random.default_rng(0)
    left, right = random.integers(0, len(table), (2, 400_000))
    left, right = left[left != right], right[left != right]
    same = codes[left] == codes[right]
    depth = same[:, 0].astype(int) + same[:, :2].all(axis=1) + same.all(axis=1)
    for space in (vectors, texts):
        near = [
            float((space[left[pick]] * space[right[pick]]).sum(axis=1).mean())
            for pick in (np.flatnonzero(depth == level)[:5_000] for level in range(4))
        ]
        assert near[0] + 0.1 < near[1] < near[2] - 0.1
        assert near[2] + 0.05 < near[3]


def test_noise_is_what_items_of_a_leaf_do_not_share(tmp_path: Path) -> None:
    spread = []
    for noise in (0.0, 0.3, 1.0):
        world = resolve(WorldConfig(noise=noise))
        catalog = make_catalog(world)
        write_catalog(catalog, world, tmp_path)
        vectors = np.load(tmp_path / "vectors.npy")[catalog.number]
        first = np.searchsorted(catalog.leaf, catalog.leaf)
        spread.append(float(np.linalg.norm(vectors - vectors[first], axis=1).mean()))
    assert spread[0] == 0
    assert 0 < 2 * spread[1] < spread[2]


def test_a_guide_names_the_subtopic_it_links_to_and_holds_its_vector(tmp_path: Path) -> None:
    world = resolve(WorldConfig(preset="small", items=3_000, two_step=10, noise=0.0, dim=256))
    catalog = make_catalog(world)
    write_catalog(catalog, world, tmp_path)
    table, vectors = pd.read_parquet(tmp_path / "items.parquet"), np.load(tmp_path / "vectors.npy")
    names = [own[0] for topic in list(TOPICS)[: world.topics[0]] for own in TOPICS[topic][: world.topics[1]]]
    link = np.empty(world.items, np.int64)
    link[catalog.number] = catalog.link[catalog.leaf]
    is_guide = link >= 0
    assert (table["theme"].to_numpy() == THEMES[0][0])[~is_guide].all()
    assert (table["theme"].to_numpy() != THEMES[0][0])[is_guide].all()
    words = [text.split() for text in table["text"]]
    assert [words[place][-1] for place in np.flatnonzero(is_guide)] == [names[one] for one in link[is_guide]]
    assert {len(words[place]) for place in np.flatnonzero(~is_guide)} == {7}
    plain = pd.Series(list(vectors[~is_guide])).groupby(table["subtopic"][~is_guide].to_numpy()).first()
    near = (vectors[is_guide] * np.stack(plain[[names[one] for one in link[is_guide]]].to_list())).sum(axis=1)
    other = (vectors[is_guide] * np.stack(plain[[names[one - 1] for one in link[is_guide]]].to_list())).sum(axis=1)
    # Without noise it is the sum of both subtopics and of its theme; the linked one's neighbor shares its topic alone.
    assert near.mean() > other.mean() + 0.15
    assert near.min() > 0.2

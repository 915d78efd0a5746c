"""The codebook: a prefix tree over observed semantic IDs, nodes in code order, vectors as sums."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import Stages, make_items, says

from hisac_lab.base.artifacts import load_array, read_manifest, save_arrays, sha256_tree, write_manifest
from hisac_lab.codebook.build import build_codebook, grow
from hisac_lab.codebook.tree import Codebook
from hisac_lab.config.model import BackboneConfig
from hisac_lab.models.hisac import HiSACBranch, HiSACConfig
from hisac_lab.tokens.quantizer import ResidualQuantizer

codes_of_items = st.integers(1, 3).flatmap(
    lambda depth: st.lists(st.tuples(*[st.integers(0, 3)] * depth), min_size=1, max_size=30)
)


def _grow(ids: list[tuple[int, ...]]) -> tuple[np.ndarray, ResidualQuantizer, Codebook]:
    random = np.random.default_rng(0)
    codes = np.array([*ids, [-1] * len(ids[0])])
    quantizer = ResidualQuantizer(tuple(random.normal(size=(4, 5)).astype(np.float32) for _ in ids[0]))
    return codes, quantizer, grow(codes, quantizer)


@given(ids=codes_of_items)
@settings(max_examples=60, deadline=None)
def test_nodes_are_the_observed_prefixes_in_code_order(ids: list[tuple[int, ...]]) -> None:
    _, _, book = _grow(ids)
    for level in range(book.depth):
        prefixes = sorted({code[: level + 1] for code in ids})
        assert len(book.parents[level]) == len(book.counts[level]) == len(prefixes)
        nodes = [prefixes.index(code[: level + 1]) for code in ids]
        assert book.item_nodes[:, level].tolist() == [*nodes, -1]
        above = sorted({code[:level] for code in ids})
        assert book.parents[level].tolist() == [above.index(prefix[:-1]) for prefix in prefixes]


@given(ids=codes_of_items)
@settings(max_examples=60, deadline=None)
def test_counts_of_children_sum_to_the_parent_and_all_to_the_items(ids: list[tuple[int, ...]]) -> None:
    _, _, book = _grow(ids)
    for level in range(book.depth):
        above = book.counts[level - 1] if level else np.array([len(ids)])
        sums = np.bincount(book.parents[level], book.counts[level], minlength=len(above))
        np.testing.assert_array_equal(sums, above)
        np.testing.assert_array_equal(book.counts[level], np.bincount(book.item_nodes[:-1, level]))


@given(ids=codes_of_items)
@settings(max_examples=30, deadline=None)
def test_a_nodes_vector_is_the_sum_of_the_codewords_on_its_path(ids: list[tuple[int, ...]]) -> None:
    _, quantizer, book = _grow(ids)
    for item, path in enumerate(ids):
        for level in range(book.depth):
            expected = sum(quantizer.codewords[step][path[step]] for step in range(level + 1))
            np.testing.assert_allclose(book.vectors[level][book.item_nodes[item, level]], expected, atol=1e-6)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_agent_is_the_sum_of_its_codewords(stages: Stages, depth: int) -> None:
    """The vector that routing compares with is the sum of the first codewords of the items on that leaf."""
    items = make_items()
    branch = HiSACBranch(HiSACConfig(agents=2, depth=depth), BackboneConfig(), items)
    np.testing.assert_array_equal(branch.leaf_vectors, items.codebook.vectors[depth - 1])
    quantizer, codes = ResidualQuantizer.load(stages.tokenize), load_array(stages.tokenize, "codes")
    book = Codebook.open(stages.codebook).cut(depth)
    expected = sum(quantizer.codewords[level][codes[:, level]] for level in range(depth))
    np.testing.assert_allclose(book.vectors[-1][book.item_nodes[:, -1]], expected, atol=1e-6)


def test_a_cut_is_the_tree_of_the_first_levels() -> None:
    codes, quantizer, book = _grow([(0, 1, 2), (0, 1, 3), (2, 0, 0)])
    cut, grown = book.cut(2), grow(codes[:, :2], quantizer)
    for part in ("parents", "vectors", "counts"):
        for one, other in zip(getattr(cut, part), getattr(grown, part), strict=True):
            np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(cut.item_nodes, grown.item_nodes)
    for depth in (0, 4):
        with pytest.raises(ValueError, match=r"outside 1\.\.3"):
            book.cut(depth)


def test_the_stage_writes_a_tree_that_opens_again(stages: Stages, tmp_path: Path) -> None:
    book = Codebook.open(stages.codebook)
    manifest = read_manifest(stages.codebook)
    assert manifest["depth"] == book.depth == 3
    assert manifest["nodes"] == [len(parent) for parent in book.parents]
    assert manifest["widths"] == [8, 8, 8]
    assert manifest["items_without_id"] == 0
    fans = [manifest["nodes"][0], *(b / a for a, b in zip(manifest["nodes"], manifest["nodes"][1:], strict=False))]
    assert manifest["mean_fan_out"] == pytest.approx(fans, abs=1e-4)
    codes = np.asarray(load_array(stages.tokenize, "codes"))
    grown = grow(codes, ResidualQuantizer.load(stages.tokenize))
    np.testing.assert_array_equal(grown.item_nodes, book.item_nodes)
    build_codebook(tokenized=stages.tokenize, out=tmp_path)
    assert sha256_tree(tmp_path) == sha256_tree(stages.codebook)


def test_the_table_leads_both_ways(stages: Stages) -> None:
    """From an item to its ID and from an ID to its items, by the artifact and by the opened tree."""
    table = pd.read_parquet(stages.codebook / "semantic_ids.parquet")
    codes, book = load_array(stages.tokenize, "codes"), Codebook.open(stages.codebook)
    names = pd.read_parquet(stages.prepare / "items.parquet")["item"]
    assert sorted(table["number"]) == list(range(len(codes)))
    assert table["leaf"].is_monotonic_increasing
    row: Any
    for row in table.itertuples():
        assert row.item == names[row.number]
        assert row.semantic_id == "-".join(map(str, codes[row.number]))
        assert book.path(row.leaf, book.depth - 1) == tuple(codes[row.number])
        assert row.number in book.items_at(row.leaf, book.depth - 1)
    for level in range(book.depth):
        below = [book.items_at(node, level).tolist() for node in range(len(book.parents[level]))]
        assert [len(items) for items in below] == book.counts[level].tolist()
        assert (
            sorted(item for part in below for item in part) == np.flatnonzero(book.item_nodes[:, level] >= 0).tolist()
        )


def test_items_without_an_id_come_last_in_the_table(tmp_path: Path) -> None:
    quantizer = ResidualQuantizer((np.eye(2, dtype=np.float32),))
    save_arrays(tmp_path, {"codes": np.array([[1], [-1], [0], [1]], np.int32)})
    quantizer.save(tmp_path)
    pd.DataFrame({"item": list("abcd")}).to_parquet(tmp_path / "ids.parquet")
    write_manifest(tmp_path, method="residual_kmeans")
    (tmp_path / "book").mkdir()
    build_codebook(tokenized=tmp_path, out=tmp_path / "book")
    table = pd.read_parquet(tmp_path / "book" / "semantic_ids.parquet")
    assert table["item"].tolist() == ["c", "a", "d", "b"]
    assert table["semantic_id"].tolist()[:3] == ["0", "1", "1"]
    assert table["semantic_id"].isna().tolist() == [False, False, False, True]
    assert read_manifest(tmp_path / "book")["items_without_id"] == 1


def test_equal_codebooks_have_equal_digests_and_others_not(stages: Stages) -> None:
    book = Codebook.open(stages.codebook)
    assert book.digest == book.fingerprint() == read_manifest(stages.codebook)["digest"]
    moved = np.array(book.item_nodes)
    moved[0] = moved[1] if (moved[0] != moved[1]).any() else moved[2]
    assert replace(book, item_nodes=moved).fingerprint() != book.digest


def test_a_codebook_of_another_version_is_named(stages: Stages, tmp_path: Path) -> None:
    write_manifest(tmp_path, depth=3)
    with says("manifest.json", "digest: field required", "run the stage"):
        Codebook.open(tmp_path)


def test_items_that_all_lack_an_id_are_refused(tmp_path: Path) -> None:
    save_arrays(tmp_path, {"codes": np.full((5, 2), -1, np.int32)})
    with says("codes.npy", "no item has a semantic ID", "embeddings"):
        build_codebook(tokenized=tmp_path, out=tmp_path)

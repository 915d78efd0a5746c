"""Flat codebooks: fitted beside the semantic IDs, carried by the codebook, kept by a refit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import says
from pydantic import ValidationError
from tokenizing import OPEN, tokenize_vectors, unit_vectors

from hisac_lab.base.artifacts import load_array, read_manifest
from hisac_lab.codebook.build import build_codebook
from hisac_lab.codebook.tree import Codebook
from hisac_lab.config.tokens import TokenizeConfig, flat_names
from hisac_lab.tokens.flat import fit_flat


def _config(**changes: Any) -> TokenizeConfig:
    return TokenizeConfig(widths=(4, 4), compare_seeds=False, limits=OPEN, **changes)


def test_books_of_one_width_are_told_apart_by_a_number() -> None:
    assert flat_names((256, 1024, 256, 256)) == ["flat_256", "flat_1024", "flat_256_2", "flat_256_3"]


@pytest.mark.parametrize("fit", ["full", "mini_batch"])
def test_a_book_does_not_depend_on_the_others_and_its_like_has_another_seed(fit: str) -> None:
    vectors = unit_vectors(120)
    alone = fit_flat(_config(flat=(6,), fit=fit), vectors)
    many = fit_flat(_config(flat=(9, 6, 6), fit=fit), vectors)
    assert list(many) == ["flat_9", "flat_6", "flat_6_2"]
    np.testing.assert_array_equal(many["flat_6"], alone["flat_6"])
    assert not np.array_equal(many["flat_6"], many["flat_6_2"])
    assert not np.array_equal(fit_flat(_config(flat=(6,), fit=fit, seed=1), vectors)["flat_6"], alone["flat_6"])


@given(seed=st.integers(0, 1000))
@settings(max_examples=15)
def test_centers_are_the_means_of_their_items(seed: int) -> None:
    vectors = unit_vectors(60, seed)
    centers = fit_flat(_config(flat=(5,), iterations=200), vectors)["flat_5"]
    nodes = ((vectors[:, None] - centers) ** 2).sum(axis=2).argmin(axis=1)
    for node in range(5):
        np.testing.assert_allclose(centers[node], vectors[nodes == node].mean(axis=0), atol=1e-5)


def test_the_stages_carry_flat_books_to_the_models(tmp_path: Path) -> None:
    vectors = unit_vectors(120)
    vectors[[3, 40]] = 0
    made = tokenize_vectors(tmp_path, vectors, _config(flat=(5, 7)))
    assert read_manifest(made)["flat"] == {"flat_5": 5, "flat_7": 7}
    (tmp_path / "book").mkdir()
    build_codebook(tokenized=made, out=tmp_path / "book")
    book = Codebook.open(tmp_path / "book")
    assert book.digest == book.fingerprint()
    for name, width in (("flat_5", 5), ("flat_7", 7)):
        flat = book.flat[name]
        assert flat.vectors.shape == (width, 6)
        nearest = ((vectors[:, None].astype(float) - flat.vectors) ** 2).sum(axis=2).argmin(axis=1)
        nearest[[3, 40]] = -1
        np.testing.assert_array_equal(flat.item_nodes, nearest)


def test_flat_books_leave_the_semantic_ids_as_they_are_and_count_in_the_digest(tmp_path: Path) -> None:
    vectors, digests = unit_vectors(120), []
    for name, flat in (("plain", ()), ("flat", (5,))):
        made = tokenize_vectors(tmp_path, vectors, _config(flat=flat), name)
        (tmp_path / f"book-{name}").mkdir()
        build_codebook(tokenized=made, out=tmp_path / f"book-{name}")
        digests.append(Codebook.open(tmp_path / f"book-{name}").digest)
        assert ("flat" in read_manifest(made)) == bool(flat)
    np.testing.assert_array_equal(load_array(tmp_path / "plain", "codes"), load_array(tmp_path / "flat", "codes"))
    assert digests[0] != digests[1]


def test_a_refit_without_new_items_keeps_the_books_and_with_some_moves_them_a_little(tmp_path: Path) -> None:
    vectors = unit_vectors(100)
    first = tokenize_vectors(tmp_path, vectors, _config(flat=(6,)))
    config = _config(flat=(6,), previous=str(first))
    again = tokenize_vectors(tmp_path, vectors, config, "again")
    for name in ("flat_6_vectors", "flat_6_nodes"):
        np.testing.assert_array_equal(load_array(again, name), load_array(first, name))
    grown = tokenize_vectors(tmp_path, np.concatenate([vectors, unit_vectors(10, seed=1)]), config, "grown")
    kept = np.mean(load_array(grown, "flat_6_nodes")[:100] == load_array(first, "flat_6_nodes"))
    assert kept > 0.85
    assert not np.array_equal(load_array(grown, "flat_6_vectors"), load_array(first, "flat_6_vectors"))


def test_a_refit_with_other_books_is_refused(tmp_path: Path) -> None:
    first = tokenize_vectors(tmp_path, unit_vectors(120), _config(flat=(6,)))
    with says("tokenize.flat", "[6, 5]", "[6]", "tokenize.previous: null"):
        tokenize_vectors(tmp_path, unit_vectors(120), _config(flat=(6, 5), previous=str(first)), "again")


def test_more_nodes_than_distinct_embeddings_are_refused(tmp_path: Path) -> None:
    with says("tokenize.flat", "200 codes", "120 distinct", "lower it"):
        tokenize_vectors(tmp_path, unit_vectors(120), _config(flat=(200,)))


def test_random_codes_have_no_flat_books() -> None:
    with pytest.raises(ValidationError, match="no geometry"):
        _config(method="random", flat=(5,))

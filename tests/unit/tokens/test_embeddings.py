"""Item embeddings: centred unit rows, near where words are shared, zero where nothing is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kit import Stages, raw_log, says
from tiny import make_log

from hisac_lab.base.artifacts import load_array, read_manifest, sha256_tree
from hisac_lab.config.events import PrepareConfig
from hisac_lab.config.tokens import EmbedConfig
from hisac_lab.events.prepare import prepare
from hisac_lab.tokens import embeddings
from hisac_lab.tokens.embeddings import embed, text_vectors

COOCCURRENCE = EmbedConfig(method="cooccurrence", cooccurrence_dim=16)


def _embed(config: EmbedConfig, prepared: Path, out: Path) -> np.ndarray:
    out.mkdir()
    embed(config, prepared, out)
    return np.asarray(load_array(out, "embeddings"))


@pytest.fixture
def rare(tmp_path: Path) -> Path:
    """A prepared log whose last item, without a title, appears in the test period alone."""
    events, table = make_log()
    late = events.sort_values("time").tail(20).index[::2]
    events.loc[late, "item"] = 81
    titles = [f"{row.item},{row.title}" for row in table.itertuples()] + ["81,"]
    raw = raw_log(tmp_path / "raw", events, "item_id,title\n" + "\n".join(titles) + "\n")
    (tmp_path / "prepare").mkdir()
    prepare(PrepareConfig(duplicates="drop"), raw, tmp_path / "prepare")
    return tmp_path / "prepare"


@pytest.mark.parametrize("config", [EmbedConfig(), COOCCURRENCE], ids=["text", "cooccurrence"])
def test_rows_have_length_one_and_no_common_direction(stages: Stages, tmp_path: Path, config: EmbedConfig) -> None:
    vectors = _embed(config, stages.prepare, tmp_path / "embed")
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert np.linalg.norm(vectors.mean(axis=0)) < 0.1
    manifest = read_manifest(tmp_path / "embed")
    assert manifest == {"method": config.method, "items": 80, "dim": vectors.shape[1], "items_without_embedding": 0}


@pytest.mark.parametrize("config", [EmbedConfig(), COOCCURRENCE], ids=["text", "cooccurrence"])
def test_the_stage_gives_the_same_bytes_again(stages: Stages, tmp_path: Path, config: EmbedConfig) -> None:
    for name in ("one", "two"):
        _embed(config, stages.prepare, tmp_path / name)
    assert sha256_tree(tmp_path / "one") == sha256_tree(tmp_path / "two")


@pytest.mark.parametrize("config", [EmbedConfig(), COOCCURRENCE], ids=["text", "cooccurrence"])
def test_items_of_one_genre_lie_nearer_to_each_other(stages: Stages, tmp_path: Path, config: EmbedConfig) -> None:
    vectors = _embed(config, stages.prepare, tmp_path / "embed")
    genre = make_log()[1]["genre"].to_numpy()
    same = (genre[:, None] == genre) & ~np.eye(80, dtype=bool)
    likeness = vectors @ vectors.T
    assert likeness[same].mean() > likeness[genre[:, None] != genre].mean() + 0.1


def test_equal_texts_have_equal_vectors_and_unknown_words_none() -> None:
    vectors = text_vectors(pd.DataFrame({"text": ["Red River", "Red River", ""]}))
    np.testing.assert_array_equal(vectors[0], vectors[1])
    assert vectors[0].any()
    assert not vectors[2].any()


def test_batches_do_not_show_in_text_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    table = make_log()[1].rename(columns={"title": "text"})
    whole = text_vectors(table)
    monkeypatch.setattr(embeddings, "BATCH", 7)
    np.testing.assert_array_equal(text_vectors(table), whole)


def test_an_item_without_a_known_word_stops_the_stage(rare: Path, tmp_path: Path) -> None:
    with says("items.parquet", "text", "item '81'", "no word", "embed.method: cooccurrence"):
        _embed(EmbedConfig(), rare, tmp_path / "embed")


def test_an_item_unseen_in_training_has_the_zero_vector(rare: Path, tmp_path: Path) -> None:
    vectors = _embed(COOCCURRENCE, rare, tmp_path / "embed")
    norms = np.linalg.norm(vectors, axis=1)
    assert norms[-1] == 0
    np.testing.assert_allclose(norms[:-1], 1, atol=1e-6)
    assert read_manifest(tmp_path / "embed")["items_without_embedding"] == 1


def test_a_missing_package_is_named(stages: Stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "find_spec", lambda name: None)
    with says("wordllama", "embed.method: cooccurrence"):
        _embed(EmbedConfig(), stages.prepare, tmp_path / "embed")


def test_neighbours_count_inside_the_window_and_inside_a_user_only(tmp_path: Path) -> None:
    """Short histories in two worlds of items that share no user: their vectors share nothing."""
    rows = [
        (f"{user:02}", 4 * (user % 2) + (user + step) % 4, 5 if step % 2 else 1, 1000 + 97 * user + step)
        for user in range(60)
        for step in range(4)
    ]
    events = pd.DataFrame(rows, columns=["user", "item", "rating", "time"])
    config = PrepareConfig(history="all", valid_share=0.2)
    (tmp_path / "prepare").mkdir()
    prepare(config, raw_log(tmp_path / "raw", events), tmp_path / "prepare")
    vectors = _embed(EmbedConfig(method="cooccurrence", cooccurrence_dim=4), tmp_path / "prepare", tmp_path / "embed")
    likeness = vectors @ vectors.T
    assert likeness[:4, 4:].max() < likeness[:4, :4].min()

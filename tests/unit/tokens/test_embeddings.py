"""Item embeddings: centered unit rows, near where words are shared, zero where nothing is known."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from kit import Stages, prepare_log, raw_log, says
from tiny import make_log

from hisac_lab.base.artifacts import load_array, read_manifest, sha256_tree
from hisac_lab.config.events import PrepareConfig
from hisac_lab.config.tokens import EmbedConfig, VectorSource
from hisac_lab.tokens import cooccurrence, embeddings, text
from hisac_lab.tokens.embeddings import embed, embed_more

COOCCURRENCE = EmbedConfig(method="cooccurrence", cooccurrence_dim=16)


def _embed(config: EmbedConfig, prepared: Path, out: Path) -> np.ndarray:
    out.mkdir()
    embed(config, prepared=prepared, out=out)
    return np.asarray(load_array(out, "embeddings"))


@pytest.fixture
def rare(tmp_path: Path) -> Path:
    """A prepared log whose last item, without a title, appears in the test period alone."""
    events, table = make_log()
    late = events.sort_values("time").tail(20).index[::2]
    events.loc[late, "item"] = 81
    titles = [f"{row.item},{row.title}" for row in table.itertuples()] + ["81,"]
    raw = raw_log(tmp_path / "raw", events, "item_id,title\n" + "\n".join(titles) + "\n")
    prepare_log(PrepareConfig(duplicates="drop", positive_from=4.0), raw, tmp_path / "prepare")
    return tmp_path / "prepare"


def _later(config: EmbedConfig, stages: Stages, home: Path, rows: list[int]) -> np.ndarray:
    """Vectors of some items again, by the encoder that was fitted on all."""
    _embed(config, stages.prepare, home / "embed")
    (home / "later").mkdir()
    (home / "out").mkdir()
    table = pd.read_parquet(stages.prepare / "items.parquet").iloc[rows]
    table.to_parquet(home / "later/items.parquet", index=False)
    return embed_more(home / "embed", prepared=home / "later", out=home / "out")


def test_an_item_that_comes_later_has_the_vector_that_it_would_have_had(stages: Stages, tmp_path: Path) -> None:
    later = _later(EmbedConfig(), stages, tmp_path, [7, 3])
    np.testing.assert_array_equal(later, np.asarray(load_array(tmp_path / "embed", "embeddings"))[[7, 3]])


def test_items_keep_their_vectors_where_an_earlier_output_centers_them(stages: Stages, tmp_path: Path) -> None:
    table = pd.read_parquet(stages.prepare / "items.parquet")
    home = tmp_path / "first"
    home.mkdir()
    table.iloc[:60].to_parquet(home / "items.parquet", index=False)
    first = _embed(EmbedConfig(), home, tmp_path / "embed")
    kept = _embed(EmbedConfig(previous=str(tmp_path / "embed")), stages.prepare, tmp_path / "kept")
    np.testing.assert_array_equal(kept[:60], first)
    assert (kept[:60] != _embed(EmbedConfig(), stages.prepare, tmp_path / "anew")[:60]).any()
    assert (tmp_path / "kept/text_mean.npy").read_bytes() == (tmp_path / "embed/text_mean.npy").read_bytes()
    with says("embed.previous", "was made of {'text': 1.0}, not of {'supplied': 1.0}"):
        _embed(EmbedConfig(method="supplied", previous=str(tmp_path / "embed")), stages.prepare, tmp_path / "other")


@pytest.mark.parametrize("config", [COOCCURRENCE, EmbedConfig(method="concat", cooccurrence_dim=16)])
def test_histories_embed_no_item_that_has_none(config: EmbedConfig, stages: Stages, tmp_path: Path) -> None:
    with says(
        "embed: method: embeds items by the histories they stand in", "a new item has none", "run the graph anew"
    ):
        _later(config, stages, tmp_path, [7])


@pytest.mark.parametrize("config", [EmbedConfig(), COOCCURRENCE], ids=["text", "cooccurrence"])
def test_rows_have_length_one_and_no_common_direction(stages: Stages, tmp_path: Path, config: EmbedConfig) -> None:
    vectors = _embed(config, stages.prepare, tmp_path / "embed")
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert np.linalg.norm(vectors.mean(axis=0)) < 0.1
    manifest = read_manifest(tmp_path / "embed")
    facts = {
        "arithmetic": "portable",
        "method": config.method,
        "items": 80,
        "dim": vectors.shape[1],
        "items_without_embedding": 0,
    }
    assert manifest == facts | {"parts": {config.method: 1.0}}


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


def _texts(home: Path, texts: list[str]) -> Path:
    """A prepared folder with nothing but items and their texts."""
    home.mkdir(exist_ok=True)
    pd.DataFrame({"item": [str(row) for row in range(len(texts))], "text": texts}).to_parquet(home / "items.parquet")
    return home


def test_equal_texts_have_equal_vectors_and_unknown_words_none(tmp_path: Path) -> None:
    (vectors,) = text.static_vectors(EmbedConfig(), _texts(tmp_path, ["Red River", "Red River", ""]))
    np.testing.assert_array_equal(vectors[0], vectors[1])
    assert vectors[0].any()
    assert not vectors[2].any()


@pytest.mark.parametrize("method", ["text", "supplied", "cooccurrence", "concat"])
def test_batches_do_not_show_in_the_result(
    stages: Stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: Any
) -> None:
    prepared = tmp_path / "prepare"
    shutil.copytree(stages.prepare, prepared)
    np.save(prepared / "vectors.npy", np.random.default_rng(0).normal(size=(80, 6)).astype(np.float32))
    config = EmbedConfig(method=method, cooccurrence_dim=8)
    whole = _embed(config, prepared, tmp_path / "whole")
    monkeypatch.setattr(cooccurrence, "EVENTS_AT_ONCE", 40)
    for module in (text, cooccurrence, embeddings):
        monkeypatch.setattr(module, "BATCH", 7)
    np.testing.assert_allclose(_embed(config, prepared, tmp_path / "parts"), whole, atol=1e-5)


def test_supplied_vectors_are_taken_as_they_came(stages: Stages, tmp_path: Path) -> None:
    prepared = tmp_path / "prepare"
    shutil.copytree(stages.prepare, prepared)
    given = np.random.default_rng(0).integers(-127, 128, (80, 6)).astype(np.float32)
    given[9] = 0
    np.save(prepared / "vectors.npy", given)
    vectors = _embed(EmbedConfig(method="supplied"), prepared, tmp_path / "embed")
    assert not vectors[9].any()
    centered = given - given[np.arange(80) != 9].mean(axis=0)
    centered[9] = 0
    cosine = (vectors * centered).sum(axis=1) / np.linalg.norm(centered, axis=1).clip(1)
    np.testing.assert_allclose(np.delete(cosine, 9), 1, atol=1e-5)
    assert read_manifest(tmp_path / "embed")["items_without_embedding"] == 1


@pytest.mark.parametrize(
    ("vectors", "words"),
    [
        (None, ("vectors.npy", "has no vectors", "embed.method: text")),
        (np.ones((79, 3), np.float32), ("vectors.npy", "79 x 3", "80 items", "one row per item")),
        (np.ones((80, 3), np.float32), ("all equal or zero", "differ")),
        (np.zeros((80, 3), np.float32), ("all equal or zero", "differ")),
        (np.where(np.arange(240).reshape(80, 3) == 17, np.nan, 1).astype(np.float32), ("vectors.npy", "row 5 is not")),
    ],
    ids=["none", "too few", "constant", "zero", "not a number"],
)
def test_supplied_vectors_that_cannot_serve_are_refused(
    stages: Stages, tmp_path: Path, vectors: np.ndarray | None, words: tuple[str, ...]
) -> None:
    prepared = tmp_path / "prepare"
    shutil.copytree(stages.prepare, prepared)
    if vectors is not None:
        np.save(prepared / "vectors.npy", vectors)
    with says(*words):
        _embed(EmbedConfig(method="supplied"), prepared, tmp_path / "embed")


def test_equal_texts_alone_are_refused(tmp_path: Path) -> None:
    with says("all equal or zero", "texts or vectors that differ"):
        _embed(EmbedConfig(), _texts(tmp_path / "prepare", ["Red River"] * 5), tmp_path / "embed")


def test_concatenation_weighs_its_parts(stages: Stages, tmp_path: Path) -> None:
    """Rows of length one side by side: distances are the weighted sums of the parts' distances."""
    parts: dict[VectorSource, float] = {"text": 3.0, "cooccurrence": 1.0}
    both = _embed(EmbedConfig(method="concat", concat=parts, cooccurrence_dim=16), stages.prepare, tmp_path / "embed")
    text_rows = _embed(EmbedConfig(), stages.prepare, tmp_path / "text")
    company = _embed(COOCCURRENCE, stages.prepare, tmp_path / "company")
    joined = np.concatenate([company, 3 * text_rows], axis=1)
    joined -= joined.mean(axis=0)
    np.testing.assert_allclose(both, joined / np.linalg.norm(joined, axis=1, keepdims=True), atol=1e-5)
    means = ["cooccurrence_mean.npy", "embeddings_mean.npy", "text_mean.npy"]
    files = sorted(path.name for path in (tmp_path / "embed").iterdir())
    assert files == sorted(["embeddings.npy", "manifest.json", *means])


def test_a_larger_shift_leaves_fewer_pairs(stages: Stages, tmp_path: Path) -> None:
    """With k so large that no pair is above it nothing is left to embed by."""
    plain = _embed(COOCCURRENCE, stages.prepare, tmp_path / "plain")
    shifted = _embed(COOCCURRENCE.model_copy(update={"cooccurrence_shift": 1.5}), stages.prepare, tmp_path / "shifted")
    assert not np.allclose(plain, shifted, atol=0.05)
    with says("all equal or zero"):
        _embed(COOCCURRENCE.model_copy(update={"cooccurrence_shift": 1e6}), stages.prepare, tmp_path / "none")


class _Model:
    """Stands for a sentence-transformers model: a text's vector is its length and its words."""

    def __init__(self, path: str, device: str, local_files_only: bool) -> None:
        assert local_files_only
        if not (Path(path) / "modules.json").exists():
            raise ValueError("no modules.json")

    def encode(self, texts: list[str], convert_to_numpy: bool, show_progress_bar: bool) -> np.ndarray:
        return np.array([[len(text), text.count(" ") + 1, 5] for text in texts], np.float64)


def test_a_model_on_disk_embeds_the_texts_batch_by_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "find_spec", lambda name: object())
    monkeypatch.setattr(text, "import_module", lambda name: SimpleNamespace(SentenceTransformer=_Model))
    monkeypatch.setattr(text, "TRANSFORMER_BATCH", 2)
    (tmp_path / "model").mkdir()
    prepared = _texts(tmp_path / "prepare", ["a b", "longer text", " ", "x", "a b"])
    config = EmbedConfig(method="sentence_transformers", model_path=str(tmp_path / "model"))
    with says("embed.model_path", "no sentence-transformers model"):
        list(text.transformer_vectors(config, prepared))
    (tmp_path / "model" / "modules.json").write_text("[]")
    vectors = list(text.transformer_vectors(config, prepared))
    assert [len(batch) for batch in vectors] == [2, 2, 1]
    assert np.concatenate(vectors).tolist() == [[3, 2, 5], [11, 2, 5], [0, 0, 0], [1, 1, 5], [3, 2, 5]]


def test_a_missing_model_or_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = _texts(tmp_path / "prepare", ["a", "b"])
    config = EmbedConfig(method="sentence_transformers", model_path=str(tmp_path / "model"))
    with says("embed.model_path", "is no folder"):
        list(text.transformer_vectors(config, prepared))
    (tmp_path / "model").mkdir()
    monkeypatch.setattr(text, "find_spec", lambda name: None)
    with says("environment", "sentence-transformers is missing", "pip install"):
        list(text.transformer_vectors(config, prepared))


def test_sentence_transformers_need_a_path() -> None:
    for wrong in ({"method": "sentence_transformers"}, {"method": "concat", "concat": {"sentence_transformers": 1.0}}):
        with pytest.raises(ValueError, match="model_path is null"):
            EmbedConfig.model_validate(wrong)


def test_items_without_a_text_column_are_refused(tmp_path: Path) -> None:
    pd.DataFrame({"item": ["a"]}).to_parquet(tmp_path / "items.parquet")
    with says("items.parquet", "text", "have no text", "cooccurrence"):
        _embed(EmbedConfig(), tmp_path, tmp_path / "embed")


def test_an_item_without_a_known_word_stops_the_stage_where_it_is_to(rare: Path, tmp_path: Path) -> None:
    with says("items.parquet", "text", "item '81'", "no word", "embed.method: cooccurrence"):
        _embed(EmbedConfig(without_text="refuse"), rare, tmp_path / "embed")


def test_an_item_without_a_known_word_has_the_zero_vector_and_is_counted(
    rare: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vectors = _embed(EmbedConfig(), rare, tmp_path / "embed")
    assert not vectors[-1].any()
    assert vectors[:-1].any(axis=1).all()
    assert read_manifest(tmp_path / "embed")["items_without_embedding"] == 1
    assert "embed: 1 items (1.2%) have no known word, item '81' first" in capsys.readouterr().err


def test_an_item_without_text_is_told_by_its_fields_where_it_is_to(rare: Path, tmp_path: Path) -> None:
    table = pd.read_parquet(rare / "items.parquet")
    table.assign(genre="comedy").to_parquet(rare / "items.parquet")
    vectors = _embed(EmbedConfig(without_text="fields"), rare, tmp_path / "embed")
    assert vectors[-1].any()
    assert not _embed(EmbedConfig(), rare, tmp_path / "plain")[-1].any()


def test_an_item_unseen_in_training_has_the_zero_vector(rare: Path, tmp_path: Path) -> None:
    vectors = _embed(COOCCURRENCE, rare, tmp_path / "embed")
    norms = np.linalg.norm(vectors, axis=1)
    assert norms[-1] == 0
    np.testing.assert_allclose(norms[:-1], 1, atol=1e-6)
    assert read_manifest(tmp_path / "embed")["items_without_embedding"] == 1


def test_a_missing_package_is_named(stages: Stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "find_spec", lambda name: None)
    with says("wordllama", "embed.method: cooccurrence"):
        _embed(EmbedConfig(), stages.prepare, tmp_path / "embed")


def test_only_positive_events_keep_company(tmp_path: Path) -> None:
    """Negatives in a history change no vector: it is that of a history of the positives alone."""
    random = np.random.default_rng(0)
    events = pd.DataFrame({"user": random.integers(0, 20, 900), "item": random.integers(0, 12, 900)})
    events["rating"], events["time"] = random.integers(1, 6, 900), 1_000 + np.arange(900)
    vectors = []
    for history in ("auto", "positives"):
        made = tmp_path / history
        prepare_log(
            PrepareConfig(history=history, positive_from=4.0), raw_log(tmp_path / f"raw-{history}", events), made
        )
        vectors.append(_embed(COOCCURRENCE, made, tmp_path / f"embed-{history}"))
    np.testing.assert_array_equal(vectors[0], vectors[1])


def test_neighbors_count_inside_the_window_and_inside_a_user_only(tmp_path: Path) -> None:
    """Short histories in two worlds of items that share no user: their vectors share nothing."""
    rows = [
        (f"{user:02}", 4 * (user % 2) + (user + step) % 4, 5 if step < 3 else 1, 1000 + 97 * user + step)
        for user in range(60)
        for step in range(4)
    ]
    events = pd.DataFrame(rows, columns=["user", "item", "rating", "time"])
    config = PrepareConfig(history="all", valid_share=0.2, positive_from=4.0)
    prepare_log(config, raw_log(tmp_path / "raw", events), tmp_path / "prepare")
    vectors = _embed(EmbedConfig(method="cooccurrence", cooccurrence_dim=4), tmp_path / "prepare", tmp_path / "embed")
    likeness = vectors @ vectors.T
    assert likeness[:4, 4:].max() < likeness[:4, :4].min()

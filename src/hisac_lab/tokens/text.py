"""Vectors of the items' texts, batch by batch: a static model that ships in a package, or one on the user's disk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from safetensors.numpy import load_file

from hisac_lab.base.artifacts import Array
from hisac_lab.base.errors import SETTINGS, UserError, explain_os_error
from hisac_lab.config.tokens import EmbedConfig

BATCH = 4096
TRANSFORMER_BATCH = 256


def static_vectors(config: EmbedConfig, prepared: Path) -> Iterator[Array]:
    """Mean of the static word vectors of each item's text, batches of (b, 256) float32, zero without a known word.

    The vectors are WordLlama's `l2_supercat_256`, which ships inside the package `wordllama`; its own loader looks
    for the tokenizer elsewhere, so the two files are opened directly.

    Raises:
        UserError: The package is missing.
    """
    spec = find_spec("wordllama")
    if spec is None or spec.origin is None:
        hint = "pip install 'hisac-lab[text]', or set embed.method: cooccurrence"
        raise UserError("environment", "package wordllama is missing", hint)
    from tokenizers import Tokenizer

    home = Path(spec.origin).parent
    weights: Array = load_file(home / "weights" / "l2_supercat_256.safetensors")["embedding.weight"].astype(np.float32)
    description = json.loads((home / "tokenizers" / "l2_supercat_tokenizer_config.json").read_text())
    tokenizer = Tokenizer.from_str(json.dumps(description))
    for texts in texts_of(prepared, BATCH, config.without_text == "fields"):
        vectors = np.zeros((len(texts), weights.shape[1]), np.float32)
        for row, tokens in enumerate(tokenizer.encode_batch(texts, add_special_tokens=False)):
            if tokens.ids:
                vectors[row] = weights[tokens.ids].mean(axis=0)
        yield vectors


def transformer_vectors(config: EmbedConfig, prepared: Path) -> Iterator[Array]:
    """Vectors by a sentence-transformers model on disk, batches of (b, D) float32, zero where the text is empty.

    Raises:
        UserError: The package or the model is missing.
    """
    path = Path(str(config.model_path))
    if not path.is_dir():
        raise UserError(SETTINGS, f"{path} is no folder", "name the folder of a model", "embed.model_path")
    if find_spec("sentence_transformers") is None:
        hint = "pip install sentence-transformers, or choose another embed.method"
        raise UserError("environment", "package sentence-transformers is missing", hint)
    library = import_module("sentence_transformers")  # optional, and slow to import
    try:
        model = library.SentenceTransformer(str(path), device="cpu", local_files_only=True)
    except (OSError, ValueError) as error:
        reason = f"holds no sentence-transformers model ({error})"
        raise UserError(SETTINGS, f"{path} {reason}", "name the folder of a model", "embed.model_path") from error
    for texts in texts_of(prepared, TRANSFORMER_BATCH, config.without_text == "fields"):
        vectors = np.array(model.encode(texts, convert_to_numpy=True, show_progress_bar=False), np.float32)
        vectors[[not text.strip() for text in texts]] = 0
        yield vectors


def texts_of(prepared: Path, batch: int, fields: bool = False) -> Iterator[list[str]]:
    """The items' texts in the order of their numbers; only a batch is in memory.

    Args:
        prepared: Output of the stage `prepare`.
        batch: Texts at once.
        fields: In place of an empty text, the values of the item's categorical fields.

    Raises:
        UserError: The stage `prepare` has not run, or its items have no text.
    """
    path = prepared / "items.parquet"
    try:
        file = pq.ParquetFile(path)
    except OSError as error:
        raise explain_os_error(error, path) from error
    with file:
        if "text" not in file.schema_arrow.names:
            raise UserError(path, "the items have no text", "set embed.method: cooccurrence", "text")
        others = [name for name in file.schema_arrow.names if name not in ("item", "text")] if fields else []
        for rows in file.iter_batches(batch, columns=["text", *others]):
            texts = [(text or "").strip() for text in rows.column("text").to_pylist()]
            told = (
                zip(*(rows.column(name).to_pylist() for name in others), strict=True) if others else [()] * len(texts)
            )
            yield [text or " ".join(str(value) for value in values) for text, values in zip(texts, told, strict=True)]

"""The catalog of quantizers: how each is fitted, fitted again from an earlier one, and opened.

Another distribution brings a method by an entry point of the group `hisac_lab.quantizers`, `METHOD = "MODULE:CLASS"`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hisac_lab.base import plugins
from hisac_lab.base.artifacts import Array
from hisac_lab.base.errors import SETTINGS, UserError
from hisac_lab.config.tokens import TokenizeConfig
from hisac_lab.tokens.kmeans import kmeans, nearest
from hisac_lab.tokens.quantizer import ResidualQuantizer, fit, fit_mini_batch
from hisac_lab.tokens.random_codes import RandomCodes, fit_random
from hisac_lab.tokens.records import Fitted, Tokenized
from hisac_lab.tokens.rqvae import RQVAE, fit_rqvae


def _fault(name: str, kind: Any) -> str | None:
    if not (isinstance(kind, type) and issubclass(kind, ResidualQuantizer) and hasattr(kind, "fit")):
        return "is no ResidualQuantizer with a class method fit(vectors, config, seed)"
    return None if kind.kind == name else f"is of kind {kind.kind!r}"


BUILT_IN: dict[str, type[ResidualQuantizer]] = {kind.kind: kind for kind in (ResidualQuantizer, RQVAE, RandomCodes)}
METHODS: dict[str, type[ResidualQuantizer]] = BUILT_IN | plugins.load(plugins.QUANTIZERS, BUILT_IN, _fault)
"""Each method's class by name; `BUILT_IN` are those of this package."""


def fit_quantizer(config: TokenizeConfig, vectors: Array, seed: int) -> ResidualQuantizer:
    """Fits the quantizer of `config`.

    Args:
        config: The section `tokenize`.
        vectors: (n, D) float32 embeddings, none zero; may be memory-mapped.
        seed: In place of the section's own.
    """
    if config.method not in BUILT_IN:
        fitted: ResidualQuantizer = METHODS[config.method].fit(vectors, config, seed)  # type: ignore[attr-defined]
        return fitted
    if config.method == "rqvae":
        return fit_rqvae(vectors, config.widths, config.rqvae, seed)
    if config.method == "random":
        return fit_random(sample(vectors, config, seed), config.widths, seed)
    if config.fit == "mini_batch":
        return fit_mini_batch(vectors, config.widths, config.iterations, config.batch, seed)
    return fit(sample(vectors, config, seed), config.widths, config.iterations, seed, config.balanced)


def refit_quantizer(
    previous: ResidualQuantizer, config: TokenizeConfig, vectors: Array, fresh: float
) -> ResidualQuantizer:
    """Moves the codewords of an earlier fit only as far as new items pull, so that old items keep their IDs.

    The share of new items damps every step and scales the number of passes: with none nothing moves, with new items
    alone it is a full fit from the earlier codewords. Codes keep their numbers, unused ones their codewords; an
    autoencoder and prices stay as they are.

    Args:
        previous: The earlier quantizer.
        config: The section `tokenize`.
        vectors: (n, D) float32 embeddings of all items; may be memory-mapped.
        fresh: Share of the items that the earlier fit did not have.
    """
    if fresh == 0 or config.method == "random":
        return previous
    passes = max(1, round(fresh * config.iterations))
    random = np.random.default_rng(config.seed)
    residual = np.array(previous.project(sample(vectors, config, config.seed)))
    words = []
    for level, before in enumerate(previous.codewords):
        words.append(kmeans(residual, len(before), passes, random, before, damping=fresh))
        prices = previous.prices[level] if previous.prices else None
        residual -= words[-1][nearest(residual, words[-1], prices)[0]]
    return previous.with_codewords(tuple(words))


def sample(vectors: Array, config: TokenizeConfig, seed: int) -> Array:
    """The items a fit looks at, in memory: all, or `sample_per_code` for each code of the widest level."""
    return draw_rows(vectors, config.sample_per_code * max(config.widths), seed)


def draw_rows(vectors: Array, wanted: int, seed: int) -> Array:
    """So many rows in memory, drawn, in their order; all, where there are no more."""
    if wanted >= len(vectors):
        return np.array(vectors, np.float32)
    rows = np.random.default_rng([seed, len(vectors)]).choice(len(vectors), wanted, replace=False, shuffle=False)
    return np.asarray(vectors[np.sort(rows)], np.float32)


def open_quantizer(path: Path) -> ResidualQuantizer:
    """Opens the quantizer in the output of the stage `tokenize`.

    Raises:
        UserError: The stage has not run.
    """
    return METHODS[Fitted.open(path).method].load(path)


def open_previous(path: Path, config: TokenizeConfig, dim: int) -> ResidualQuantizer:
    """Opens an earlier quantizer to start from.

    Args:
        path: A copy of an earlier output of the stage `tokenize`.
        config: The section `tokenize`.
        dim: Width of the embeddings.

    Raises:
        UserError: It is not there, or it does not fit the settings or the embeddings.
    """
    earlier = Tokenized.open(path)
    for name, now, then in (
        ("method", config.method, earlier.method),
        ("widths", list(config.widths), earlier.widths),
        ("flat", list(config.flat), list(earlier.flat.values())),
    ):
        if now != then:
            raise UserError(
                SETTINGS,
                f"is {now}, but the earlier fit in {path} has {then}",
                "make them equal, or set tokenize.previous: null",
                f"tokenize.{name}",
            )
    if earlier.dim != dim:
        raise UserError(
            SETTINGS,
            f"the embeddings are {dim} wide, those of the earlier fit in {path} {earlier.dim}",
            "embed as then, or set it null",
            "tokenize.previous",
        )
    return open_quantizer(path)

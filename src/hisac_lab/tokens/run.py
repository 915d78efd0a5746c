"""The stage `tokenize`: embeddings in, codewords, semantic IDs and their quality out."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hisac_lab.base.artifacts import load_array, save_arrays, write_manifest
from hisac_lab.base.errors import UserError
from hisac_lab.config.tokens import TokenizeConfig
from hisac_lab.tokens.quality import check_limits, measure
from hisac_lab.tokens.quantizer import fit


def tokenize(config: TokenizeConfig, embedded: Path, out: Path) -> None:
    """Fits the quantiser on the items' embeddings and writes codewords, codes and their quality.

    Items without an embedding get the code -1 at every level: they neither vote nor are routed.

    Raises:
        UserError: More codes than distinct vectors, or the quality gate closes.
    """
    vectors = np.asarray(load_array(embedded, "embeddings"))
    if not np.isfinite(vectors).all():
        row = int(np.argwhere(~np.isfinite(vectors))[0, 0])
        raise UserError(embedded / "embeddings.npy", f"row {row} is not finite", "mend the embedding of that item")
    known = np.linalg.norm(vectors, axis=1) > 0
    distinct = len(np.unique(vectors[known], axis=0))
    if max(config.widths) > distinct:
        raise UserError(
            "params.yaml",
            f"a level of {max(config.widths)} codes is more than the {distinct} distinct embeddings can give",
            "lower it or add items",
            "tokenize.widths",
        )
    quantizer = fit(vectors[known], config.widths, config.iterations, config.seed)
    codes = np.full((len(vectors), quantizer.depth), -1, np.int32)
    codes[known] = quantizer.encode(vectors[known])
    quality = measure(vectors[known], codes[known], quantizer.decode, config.widths)
    check_limits(quality, config.limits)
    save_arrays(out, {f"codewords_{level}": words for level, words in enumerate(quantizer.codewords)})
    save_arrays(out, {"codes": codes})
    write_manifest(out, widths=list(config.widths), depth=quantizer.depth, items=len(codes), quality=quality)

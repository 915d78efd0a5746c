"""One side of the tokenizer's benchmark, in a process of its own: SIDE FILE CODES THREADS; prints one JSON line.

SIDE is faiss, semantic-id or ours. FILE holds the vectors, (n, D) float32; the codes go to CODES, and the codewords are
judged by what the codes leave of the vectors. Seconds are CPU seconds of all threads, and wall clock for both steps;
imports and reading are left out on all sides.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

WIDTHS = (256, 256, 256)
ITERATIONS = 15
Codec = tuple[Callable[[Any], None], Callable[[Any], Any], Callable[[Any], Any]]


def faiss_side(width: int, threads: int) -> Codec:
    """faiss.ResidualQuantizer, greedy: beam 1; training as it comes, on 256 vectors per code that it draws itself."""
    import faiss

    faiss.omp_set_num_threads(threads)
    quantizer = faiss.ResidualQuantizer(width, len(WIDTHS), WIDTHS[0].bit_length() - 1)
    quantizer.max_beam_size = 1
    return quantizer.train, quantizer.compute_codes, quantizer.decode


def semantic_id_side(width: int, threads: int) -> Codec:
    """semantic_id.RQKMeans, as it comes."""
    import torch
    from semantic_id import RQKMeans

    torch.set_num_threads(threads)
    quantizer = RQKMeans(n_levels=len(WIDTHS), n_clusters=list(WIDTHS), random_state=0)
    return quantizer.fit, quantizer.encode, quantizer.decode


def our_side(width: int, threads: int) -> Codec:
    """Residual k-means as the stage `tokenize` fits it, with fewer iterations at most."""
    from hisac_lab.config.tokens import TokenizeConfig
    from hisac_lab.tokens.methods import fit_quantizer

    config = TokenizeConfig(widths=WIDTHS, iterations=ITERATIONS)
    fitted: list[Any] = []

    def train(vectors: Any) -> None:
        fitted.append(fit_quantizer(config, vectors, 0))

    return train, fitted[0].encode, fitted[0].decode


def main() -> None:
    """Trains, encodes, decodes, judges."""
    side, file, out, threads = sys.argv[1:]
    vectors = np.load(file)
    sides = {"faiss": faiss_side, "semantic-id": semantic_id_side, "ours": our_side}
    train, encode, decode = sides[side](vectors.shape[1], int(threads))
    wall, begin = time.perf_counter(), time.process_time()
    train(vectors)
    middle = time.process_time()
    codes = np.asarray(encode(vectors))
    end = time.process_time()
    wall = time.perf_counter() - wall
    error = 0.0
    for start in range(0, len(vectors), 65536):
        left = vectors[start : start + 65536] - np.asarray(decode(codes[start : start + 65536]), np.float32)
        error += float((left.astype(np.float64) ** 2).sum())
    np.save(out, codes)
    print(json.dumps({"train": middle - begin, "encode": end - middle, "wall": wall, "mse": error / len(vectors)}))


if __name__ == "__main__":
    main()

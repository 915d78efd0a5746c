"""The tokenizer side by side with faiss and semantic-id, and the throughput of votes, in one run.

    make bench-tokens          or  python benchmarks/tokens.py [--items 1000000] [--rounds 2] [--write]

A seeded set of clustered unit vectors is quantized to three levels of 256 codes by both sides in turn, each in a
process of its own with the same two threads; the cheaper round counts, in CPU seconds of all threads, so that a busy
machine disturbs it little. The semantic-id package gets the first 20,000.
Votes are those of long histories over the codebook that came out. The last line printed is JSON; with --write the
table goes to reports/bench-tokens.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from peer import PEERS, python_of
from usage import run

from hisac_lab.base.artifacts import Array, write_file
from hisac_lab.base.errors import UserError
from hisac_lab.base.progress import say
from hisac_lab.codebook.ballot import Ballot
from hisac_lab.codebook.counting import Election, count_agents
from hisac_lab.codebook.tree import Codebook
from hisac_lab.tokens.prefixes import prefixes

REPORT = Path(__file__).parents[1] / "reports" / "bench-tokens.md"
SIDE = PEERS / "tokens_side.py"
FEW, THREADS = 20_000, 2
REQUESTS, HISTORIES, BUDGETS = 4_096, (300, 1_000, 4_000), (8, 5, 5)
MAIN_HISTORY = 1_000


def make_vectors(path: Path, items: int, seed: int, dim: int = 128) -> None:
    """Clusters in clusters (200 x 40), unit rows, written block by block."""
    random = np.random.default_rng(seed)
    centers = np.repeat(random.normal(size=(200, dim)), 40, axis=0) + 0.6 * random.normal(size=(8000, dim))
    rows = np.lib.format.open_memmap(path, "w+", np.float32, (items, dim))
    for start in range(0, items, 65536):
        size = min(65536, items - start)
        block = centers[random.integers(0, 8000, size)] + 0.5 * random.normal(size=(size, dim))
        rows[start : start + size] = block / np.linalg.norm(block, axis=1, keepdims=True)
    rows.flush()


def measure(side: str, python: str | Path, vectors: Path, codes: Path) -> dict[str, float]:
    """CPU seconds of training and of encoding, wall clock of both, and the mean squared error, of one side."""
    say(f"bench-tokens: {side}, {vectors.stem}")
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(THREADS))
    threads["OMP_WAIT_POLICY"] = "PASSIVE"  # a thread that waits must not count as one that works
    answer = run([python, SIDE, side, vectors, codes, str(THREADS)], vectors.parent, threads)
    found: dict[str, float] = json.loads(answer.output.strip().splitlines()[-1])
    return found | {"seconds": found["train"] + found["encode"]}


def quicker(rounds: list[dict[str, float]]) -> dict[str, float]:
    """The round that cost least."""
    return min(rounds, key=lambda found: found["seconds"])


def make_book(codes: Array) -> Codebook:
    """The tree over the codes; votes need no vectors."""
    levels = prefixes(codes)
    return Codebook(
        parents=tuple(part.parent for part in levels),
        vectors=(),
        counts=tuple(part.count for part in levels),
        item_nodes=np.stack([part.node for part in levels], axis=1),
    )


def vote_speeds(book: Codebook, seed: int) -> dict[int, tuple[float, int]]:
    """Events per second of both cores, and leaves per history, by length of history.

    Users come back to some thirty places of the codebook. Seconds are CPU seconds of both threads, halved.
    """
    random = np.random.default_rng(seed)
    leaves, speeds = len(book.parents[-1]), {}
    for length in HISTORIES:
        requests = max(64, REQUESTS * 300 // length)
        homes = random.integers(0, leaves, (requests, 30))
        where = np.take_along_axis(homes, random.integers(0, 30, (requests, length)), axis=1)
        leaf = (where + random.geometric(0.3, where.shape)) % leaves
        heads = np.arange(requests + 1) * length
        seconds = []
        for _ in range(4):
            begin = time.process_time()
            count_agents(leaf.ravel(), heads, book.parents, Election(BUDGETS), threads=THREADS)
            seconds.append((time.process_time() - begin) / THREADS)
        speeds[length] = leaf.size / min(seconds), round(float(np.mean([len(np.unique(row)) for row in leaf])))
    return speeds


def steps_per_second(book: Codebook, seed: int) -> float:
    """Behaviors added and expired per second by the incremental form, one user, one core."""
    ballot, items = Ballot(book), np.random.default_rng(seed).integers(0, len(book.item_nodes), 20_000).tolist()
    begin = time.process_time()
    for place, item in enumerate(items):
        ballot.add(item)
        if place >= MAIN_HISTORY:
            ballot.expire()
    return 2 * len(items) / (time.process_time() - begin)


def main() -> None:
    """Runs all sides and compares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="write reports/bench-tokens.md")
    options = parser.parse_args()
    try:
        if options.items < FEW:
            raise UserError("--items", f"{options.items} is too few", f"give {FEW} or more")
        python = python_of("tokens")
        with tempfile.TemporaryDirectory(prefix="hisac-lab-bench-") as scratch:
            many, few = Path(scratch) / "many.npy", Path(scratch) / "few.npy"
            make_vectors(many, options.items, options.seed)
            np.save(few, np.load(many, mmap_mode="r")[:FEW])
            codes = Path(scratch) / "codes.npy"
            rounds: dict[str, list[dict[str, float]]] = {"faiss": [], "ours": []}
            for _ in range(options.rounds):
                rounds["faiss"].append(measure("faiss", python, many, Path(scratch) / "faiss.npy"))
                rounds["ours"].append(measure("ours", sys.executable, many, codes))
            measured = {side: quicker(parts) for side, parts in rounds.items()}
            measured["semantic-id"] = measure("semantic-id", python, few, Path(scratch) / "theirs.npy")
            measured["ours, few"] = quicker(
                [measure("ours", sys.executable, few, Path(scratch) / "few-codes.npy") for _ in range(options.rounds)]
            )
            say("bench-tokens: votes")
            book = make_book(np.load(codes))
            speeds, steps = vote_speeds(book, options.seed), steps_per_second(book, options.seed)
    except UserError as error:
        raise SystemExit(f"bench-tokens: error: {error}") from error
    ratios = {
        "faiss_speed_ratio": round(measured["faiss"]["seconds"] / measured["ours"]["seconds"], 3),
        "faiss_mse_ratio": round(measured["ours"]["mse"] / measured["faiss"]["mse"], 4),
        "semantic_id_speed_ratio": round(measured["semantic-id"]["seconds"] / measured["ours, few"]["seconds"], 2),
        "semantic_id_mse_ratio": round(measured["ours, few"]["mse"] / measured["semantic-id"]["mse"], 4),
        "encode_items_per_second": round(options.items * THREADS / measured["ours"]["encode"]),
        "votes_per_second": round(speeds[MAIN_HISTORY][0]),
    }
    lines = report(options, measured, ratios, speeds, steps, book)
    print("\n".join(lines), end="\n\n")
    if options.write:
        write_file(REPORT, "\n".join(lines) + "\n")
    print(json.dumps(ratios))


def report(
    options: argparse.Namespace,
    measured: dict[str, dict[str, float]],
    ratios: dict[str, float],
    speeds: dict[int, tuple[float, int]],
    steps: float,
    book: Codebook,
) -> list[str]:
    """The page."""

    def row(name: str, side: str, items: int) -> str:
        one = measured[side]
        cells = (f"{one[key]:.2f}" for key in ("train", "encode", "wall"))
        rate = items * THREADS / one["encode"]
        return f"| {name} | {items:,} | {' | '.join(cells)} | {rate:,.0f} | {one['mse']:.4f} |"

    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    return [
        "# Tokenizer: side by side",
        "",
        f"`python benchmarks/tokens.py --items {options.items} --rounds {options.rounds} --write` on {machine}.",
        f"Unit vectors of width 128, three levels of 256 codes, {THREADS} threads on every side; CPU seconds of all",
        f"threads, the cheaper of {options.rounds} rounds taken in turn.",
        f"faiss-cpu {version_of('faiss-cpu')}: ResidualQuantizer,",
        f"greedy (beam 1), trained as it comes. semantic-id {version_of('semantic-id')}: RQKMeans as it comes. Ours:",
        "residual k-means of the stage `tokenize`, 15 iterations at most, otherwise the defaults.",
        "",
        "| | vectors | training, CPU s | encoding, CPU s | both, wall s | encoded per s, both cores | mean sq. error |",
        "|---|---:|---:|---:|---:|---:|---:|",
        row("faiss", "faiss", options.items),
        row("ours", "ours", options.items),
        row("semantic-id", "semantic-id", FEW),
        row("ours", "ours, few", FEW),
        "",
        f"Faster than faiss by {ratios['faiss_speed_ratio']:.2f} at {ratios['faiss_mse_ratio']:.4f} of its error;",
        f"faster than semantic-id by {ratios['semantic_id_speed_ratio']:.1f} at {ratios['semantic_id_mse_ratio']:.4f}",
        "of its error.",
        "",
        f"Votes over the {len(book.parents[-1]):,} leaves of that codebook, budgets {' x '.join(map(str, BUDGETS))}, "
        f"{THREADS} threads:",
        "",
        "| events in a history | leaves among them | events per second, both cores |",
        "|---:|---:|---:|",
        *(f"| {length:,} | {leaves:,} | {speed:,.0f} |" for length, (speed, leaves) in speeds.items()),
        "",
        f"The incremental form takes {steps:,.0f} behaviors in or out per second (one user, one core).",
    ]


def version_of(package: str) -> str:
    """The pinned version of a peer's package."""
    pinned = dict(
        line.split("==")
        for line in (PEERS / "tokens.txt").read_text().splitlines()
        if line and not line.startswith("#")
    )
    return pinned.get(package) or version(package)


if __name__ == "__main__":
    main()

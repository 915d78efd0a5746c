"""The gate's table for every quantizer on the data sets that bring themselves, and how stable a refit is.

    python benchmarks/quantizers.py [--datasets movielens-100k gcc-changelog] [--home FOLDER] [--write]

Runs the stages acquire to embed once per data set (kept in --home, where one is named) and `tokenize` once per
quantizer, its limits wide open. A refit starts from a fit on 100 of 101 parts of the items and sees them all. With
--write the tables go to reports/quantizers.md.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from hisac_lab.base.artifacts import load_array, stage_output, write_file
from hisac_lab.base.errors import UserError
from hisac_lab.base.progress import say
from hisac_lab.base.stages import Artifacts
from hisac_lab.config.acquire import AcquireConfig
from hisac_lab.config.events import PrepareConfig
from hisac_lab.config.tokens import EmbedConfig, TokenizeConfig, TokenizeLimits
from hisac_lab.events.ingest import ingest
from hisac_lab.events.prepare import prepare
from hisac_lab.events.records import Prepared
from hisac_lab.events.shard import shard
from hisac_lab.sources.acquire import acquire
from hisac_lab.tokens.embeddings import embed
from hisac_lab.tokens.methods import fit_quantizer, refit_quantizer
from hisac_lab.tokens.records import Quality, Tokenized
from hisac_lab.tokens.tokenize import tokenize

REPORT = Path(__file__).parents[1] / "reports" / "quantizers.md"
DATASETS: dict[str, tuple[PrepareConfig, tuple[int, ...]]] = {
    "movielens-100k": (PrepareConfig(), (32, 32, 32)),
    "gcc-changelog": (PrepareConfig(time_unit="day"), (256, 256, 256)),
}
OPEN = TokenizeLimits(
    min_use=0,
    min_evenness=0,
    min_fan_out=0,
    min_occupancy=0,
    max_bucket_share=1,
    min_explained_variance=-1e9,
    min_neighbor_overlap=0,
    min_purity_lift=0,
    min_seed_agreement=-1,
)
QUANTIZERS: dict[str, dict[str, Any]] = {
    "residual k-means": {},
    "residual k-means, balanced": {"balanced": True},
    "RQ-VAE": {"method": "rqvae"},
    "random codes": {"method": "random"},
}
PARTS = 101


def prepared(dataset: str, home: Path) -> tuple[Path, Path]:
    """Outputs of the stages prepare and embed, made where they are missing."""
    config = DATASETS[dataset][0]
    made = Artifacts(home / dataset)
    if not made.acquire.exists():
        with stage_output(made.acquire) as out:
            acquire(AcquireConfig.model_validate({"dataset": dataset}), out=out)
    if not made.prepare.exists():
        with stage_output(made.ingest) as out:
            ingest(config, raw=made.acquire, out=out)
        shards = made.shards(config.shards)
        for index, path in enumerate(shards):
            with stage_output(path) as out:
                shard(config, ingested=made.ingest, index=index, out=out)
        with stage_output(made.prepare) as out:
            prepare(config, ingested=made.ingest, shards=shards, out=out)
    with stage_output(made.embed) as out:
        embed(EmbedConfig(), prepared=made.prepare, out=out)
    return made.prepare, made.embed


def gate(dataset: str, names: list[str], home: Path) -> list[str]:
    """The table of one data set."""
    made, embedded = prepared(dataset, home)
    widths = DATASETS[dataset][1]
    rows: list[str] = []
    category: str | None = None
    chance = 0.0
    for name in names:
        say(f"quantizers: {dataset}, {name}")
        config = TokenizeConfig.model_validate({"widths": widths, "limits": OPEN} | QUANTIZERS[name])
        begin = time.perf_counter()
        with stage_output(home / dataset / "tokenize") as out:
            tokenize(config, prepared=made, embedded=embedded, out=out)
        seconds = time.perf_counter() - begin
        made_ids = Tokenized.open(home / dataset / "tokenize")
        category, chance = made_ids.category, made_ids.quality.purity_by_chance or 0.0
        rows.append(_row(name, made_ids.quality, _refit(config, load_array(embedded, "embeddings")), seconds))
    items = Prepared.open(made).items
    return [
        f"## {dataset}",
        "",
        f"{items:,} items, codes per level {' x '.join(map(str, widths))}, embedded by their words. Purity: share of "
        f"the pairs of items with one prefix that share their `{category}`; by chance {chance:.1%}.",
        "",
        "| | use | perplexity | distinct IDs | items that share | largest bucket | explained variance | "
        "neighbors kept | purity by level | seeds agree (ARI by level) | IDs changed by a refit | seconds |",
        "|---|---|---|---:|---:|---:|---:|---:|---|---|---:|---:|",
        *rows,
        "",
    ]


def _row(name: str, quality: Quality, changed: float, seconds: float) -> str:
    def each(key: str, shape: str) -> str:
        found = [getattr(level, key) for level in quality.levels]
        return ", ".join("–" if value is None else format(value, shape) for value in found)

    cells = (
        name,
        each("use", ".0%"),
        each("perplexity", ".0f"),
        f"{quality.ids:,}",
        f"{quality.collision_rate:.1%}",
        f"{quality.largest_bucket:,}",
        f"{quality.explained_variance:.1%}",
        f"{quality.neighbor_overlap:.1%}",
        each("purity", ".1%"),
        each("seed_agreement", ".2f"),
        f"{changed:.2%}",
        f"{seconds:.0f}",
    )
    return "| " + " | ".join(cells) + " |"


def _refit(config: TokenizeConfig, embeddings: Any) -> float:
    """Share of the old items whose ID changes when one item in 101 is new."""
    vectors = np.asarray(embeddings)[np.asarray(embeddings).any(axis=1)]
    old = np.random.default_rng(0).permutation(len(vectors)) % PARTS != 0
    first = fit_quantizer(config, vectors[old], config.seed)
    again = refit_quantizer(first, config, vectors, float(1 - old.mean()))
    return float((first.encode(vectors[old]) != again.encode(vectors[old])).any(axis=1).mean())


def main() -> None:
    """Runs all data sets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=list(DATASETS))
    parser.add_argument("--quantizers", nargs="+", choices=QUANTIZERS, default=list(QUANTIZERS))
    parser.add_argument("--home", type=Path, help="keep the stages' outputs here, and take them from here")
    parser.add_argument("--write", action="store_true", help="write reports/quantizers.md")
    options = parser.parse_args()
    lines = [
        "# Quantizers",
        "",
        f"`python benchmarks/quantizers.py --datasets {' '.join(options.datasets)} --write`",
        "",
        "Explained variance and neighbors kept are of the full ID. Random codes are drawn from the vector, so that "
        "equal vectors share an ID: nearly all pairs that share a full random ID are such, and its last level says "
        "nothing about the codes. Seconds are for orientation; both fits of `compare_seeds` and the gate are in them.",
        "",
    ]
    try:
        with tempfile.TemporaryDirectory(prefix="hisac-lab-quantizers-") as scratch:
            for dataset in options.datasets:
                found = gate(dataset, options.quantizers, options.home or Path(scratch))
                print("\n".join(found), flush=True)
                lines += found
    except UserError as error:
        raise SystemExit(f"quantizers: error: {error}") from error
    if options.write:
        write_file(REPORT, "\n".join(lines).rstrip() + "\n")


if __name__ == "__main__":
    main()

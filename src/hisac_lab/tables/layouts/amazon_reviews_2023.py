"""Amazon Reviews 2023: ratings of products, one file per category.

Provenance: folders, names and columns of the `rating_only` files from the published site and a registry that lists
them; the fields of the raw reviews and of the product data from memory. https://amazon-reviews-2023.github.io
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.json

from hisac_lab.base.errors import UserError, explain_os_error
from hisac_lab.config.events import PrepareConfig
from hisac_lab.tables.layouts.contract import RawLog
from hisac_lab.tables.layouts.files import block_of, choose, first_rows
from hisac_lab.tables.read import BLOCK_BYTES, COMPRESSION, Block, Column, Layout, read

COLUMNS = {
    "user": Column("user_id", "id"),
    "item": Column("parent_asin", "id"),
    "time": Column("timestamp", "time", "milliseconds"),
    "label": Column("rating", "number", low=0, high=5),
}
REVIEW = pa.schema(
    {"user_id": pa.string(), "parent_asin": pa.string(), "timestamp": pa.int64(), "rating": pa.float64()}
)
PRODUCT = pa.schema(
    {
        "parent_asin": pa.string(),
        "title": pa.string(),
        "main_category": pa.string(),
        "store": pa.string(),
        "categories": pa.list_(pa.string()),
        "features": pa.list_(pa.string()),
    }
)
LINES = Layout("\x01", ("line",), quoting=False)  # one JSON object per line, for places in messages
FIELDS = ("main_category", "store", "category")
UNKNOWN = "unknown"
WORDS_OF_FEATURES = 60
USUAL_THRESHOLD = 4.0


def amazon_reviews_2023(folder: Path, config: PrepareConfig) -> RawLog:
    """Reads `CATEGORY.csv` (of `rating_only`), else the raw reviews `CATEGORY.jsonl`; and `meta_CATEGORY.jsonl`.

    Products without a row in the product data have no text.
    """
    choose(config, ("rating",))
    files = sorted(folder.iterdir())
    products = [path for path in files if path.name.startswith("meta_") and ".jsonl" in path.suffixes]
    tables = [path for path in files if ".csv" in path.suffixes]
    reviews = [path for path in files if ".jsonl" in path.suffixes and path not in products]
    if not tables and not reviews:
        raise UserError(folder / "CATEGORY.csv", "does not exist", "add the ratings or reviews of a category")

    def blocks() -> Iterator[Block]:
        if tables:
            for path in tables:
                yield from read(path, COLUMNS, Layout())
            return
        for path in reviews:
            row = 0
            for batch in _objects(path, REVIEW):
                yield block_of(path, LINES, row, batch, COLUMNS)
                row += batch.num_rows

    return RawLog(
        blocks,
        items=(lambda: first_rows(_products(products))) if products else None,
        fields=FIELDS if products else (),
        positive_from=USUAL_THRESHOLD,
    )


def _products(paths: list[Path]) -> Iterator[pd.DataFrame]:
    for path in paths:
        row = 0
        for batch in _objects(path, PRODUCT):
            block = block_of(path, LINES, row, batch, {"item": Column("parent_asin", "id")})
            row += batch.num_rows
            table = batch.to_pandas()
            title, store, main = (table[name].fillna("").astype(str) for name in ("title", "store", "main_category"))
            shelves = table["categories"].map(lambda names: [] if names is None else list(names))
            features = table["features"].map(lambda lines: [] if lines is None else list(lines))
            words = features.map(lambda lines: " ".join(" ".join(lines).split()[:WORDS_OF_FEATURES]))
            frame = pd.DataFrame({"item": block.columns["item"].to_pandas().astype(str)})
            frame["text"] = (title + ". " + shelves.map(" ".join) + ". " + words).str.strip(". ")
            frame["main_category"] = main.replace("", UNKNOWN)
            frame["store"] = store.replace("", UNKNOWN)
            frame["category"] = shelves.map(lambda names: names[min(1, len(names) - 1)] if names else UNKNOWN)
            yield frame


def _objects(path: Path, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """JSON lines as rows with these fields; a missing field is null, others are left alone."""
    try:
        with pa.input_stream(str(path), compression=COMPRESSION.get(path.suffix)) as stream:
            reader = pyarrow.json.open_json(
                stream,
                read_options=pyarrow.json.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
                parse_options=pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
            )
            yield from reader
    except pa.ArrowInvalid as error:
        raise _explain(path, schema, error) from error
    except OSError as error:
        if error.errno is None:
            what = f"the compressed data are broken or end early ({error})"
            raise UserError(path, what, "fetch it again") from error
        raise explain_os_error(error, path) from error


def _explain(path: Path, schema: pa.Schema, error: Exception) -> UserError:
    """Finds the first line that is no object with these fields."""
    try:
        with pa.input_stream(str(path), compression=COMPRESSION.get(path.suffix)) as stream:
            text = io.TextIOWrapper(stream, encoding="utf-8", errors="surrogateescape", newline="\n")
            for number, line in enumerate(text, start=1):
                try:
                    pa.RecordBatch.from_pylist([json.loads(line)], schema)
                except (ValueError, TypeError, AttributeError, pa.ArrowException) as fault:
                    what = f"{line[:40].rstrip()!a} is no object with these fields ({fault})"
                    return UserError(path, what, "fix or remove that line", f"line {number}")
    except OSError:
        pass
    return UserError(path, " ".join(str(error).split())[:120], "fetch it again")

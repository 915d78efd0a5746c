"""FuxiCTR's side of the benchmark; runs in the environment of `fuxictr.txt`, in a folder with the files it reads.

python fuxictr_side.py prepare|direct|sort|batches, each printing one JSON line last.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from fuxictr.features import FeatureMap
from fuxictr.preprocess import FeatureProcessor, build_dataset

SPLITS = ("train", "valid", "test")
PREPARED = "prepared"
EPOCHS = 4  # over the test split; the cheapest counts


def processor(name: str, limit: int) -> FeatureProcessor:
    """The usual description of such a data set: two ids and a sequence that shares the item's vocabulary."""
    history = {
        "name": "history",
        "active": True,
        "dtype": "str",
        "type": "sequence",
        "splitter": "^",
        "max_len": limit,
        "padding": "pre",
        "share_embedding": "item_id",
    }
    ids = {"name": ["user_id", "item_id"], "active": True, "dtype": "str", "type": "categorical"}
    return FeatureProcessor([ids, history], {"name": "label", "dtype": "float"}, dataset_id=name, data_root=".")


def prepare(limit: int) -> dict[str, Any]:
    """FuxiCTR's own command: vocabularies, padded integer sequences, one Parquet file per split, through Ray."""
    files = {f"{name}_data": f"{name}.csv" for name in SPLITS}
    build_dataset(processor(PREPARED, limit), **files, data_format="csv", min_categr_count=1)
    return {}


def direct(limit: int) -> dict[str, Any]:
    """The same functions called one after the other in one process, without Ray."""
    encoder = processor("direct", limit)
    frames = {name: encoder.preprocess(encoder.read_data(f"{name}.csv")) for name in SPLITS}
    encoder.fit(frames["train"], min_categr_count=1)
    for name, frame in frames.items():
        table = frame.collect()
        columns = encoder.transform({column: table[column].to_numpy() for column in table.columns})
        pd.DataFrame({column: list(values) for column, values in columns.items()}).to_parquet(f"direct/{name}.parquet")
    return {}


def sort(limit: int) -> dict[str, Any]:
    """Its files again with the rows of each user together: the order that compresses best."""
    size = 0
    for name in SPLITS:
        table = pq.read_table(f"{PREPARED}/{name}.parquet")
        order = np.argsort(table.column("user_id").to_numpy(), kind="stable")
        pq.write_table(table.take(pa.array(order)), "sorted.parquet")
        size += Path("sorted.parquet").stat().st_size
        del table
    return {"bytes": size}


def batches(limit: int, batch: int) -> dict[str, Any]:
    """CPU milliseconds per batch of the test split, its rows in order, by each loader of the release.

    Saves the items of the first and the last full batch of each.
    """
    torch.set_num_threads(1)
    features = FeatureMap(PREPARED, PREPARED)
    features.load(f"{PREPARED}/feature_map.json", {})
    loaders: dict[str, tuple[Callable[[], Iterable[Any]], Callable[[Any], Any], Callable[[], float]]] = {
        "longctr": (lambda: longctr_loader(limit, batch), longctr_items, time.process_time),
        "padded": (lambda: padded_loader(features, batch), lambda one: one["history"], time.process_time),
        "fuxictr": (lambda: ray_loader(features, batch), lambda one: one["history"], tree_seconds),
    }
    answer: dict[str, float] = {}
    items: dict[str, Any] = {}
    for name, (make, history, clock) in loaders.items():
        loader = make()
        costs = []
        for _ in range(EPOCHS):
            begin, taken = clock(), list[Any]()
            for count, one in enumerate(loader, 1):  # noqa: B007
                if len(one["label"] if isinstance(one, dict) else one[0]["label"]) == batch:
                    taken = [*taken[:1], one]
            costs.append((clock() - begin) / count * 1_000)
        answer[name] = min(costs)
        items[name] = np.stack([np.asarray(history(one)).astype(np.int64) for one in taken])
        del loader
    np.savez("batches.npz", **items)
    return answer


def ray_loader(features: FeatureMap, batch: int) -> Iterable[Any]:
    """The loader FuxiCTR picks for the files it has written: it streams them through Ray."""
    from fuxictr.pytorch.dataloaders import RankDataLoader

    data = f"{PREPARED}/test.parquet"
    loader: Iterable[Any] = RankDataLoader(
        features, stage="test", test_data=data, batch_size=batch, data_format="parquet"
    )
    return loader


def padded_loader(features: FeatureMap, batch: int) -> Iterable[Any]:
    """Its other loader, for files a user has turned into NPZ: every padded row stays in memory as floats."""
    from fuxictr.pytorch.dataloaders.npz_dataloader import NpzDataLoader

    table = pd.read_parquet(f"{PREPARED}/test.parquet")
    columns: dict[str, Any] = {column: np.array(table[column].to_list()) for column in table.columns}
    np.savez("test.npz", **columns)
    loader: Iterable[Any] = NpzDataLoader(features, "test.npz", batch_size=batch, num_workers=0)
    return loader


def longctr_loader(limit: int, batch: int) -> Iterable[Any]:
    """The loader of LongCTR, as it comes with the release: sequences stored once, padded per batch."""
    import model_zoo

    path = Path(model_zoo.__path__[0]) / "LongCTR" / "longctr_dataloader.py"
    spec = importlib.util.spec_from_file_location("longctr_dataloader", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    columns = dict.fromkeys(("user_index", "item_index", "seq_len", "item_id"))
    loader: Iterable[Any] = module.LongCTRDataLoader(
        SimpleNamespace(features=columns, labels=["label"]),
        "shared/test.parquet",
        "shared/user_info.parquet",
        "shared/item_info.parquet",
        batch_size=batch,
        num_workers=0,
        max_len=limit,
    )
    return loader


def longctr_items(one: Any) -> Any:
    """The sequences of a batch, whose last position is the target."""
    rows, items, mask = one
    return items["item_id"].reshape(len(rows["label"]), -1)[:, : mask.shape[1]]


def tree_seconds() -> float:
    """CPU seconds of this process and of all below it: Ray works in daemons."""
    me, total = psutil.Process(), 0.0
    for one in [me, *me.children(recursive=True)]:
        try:
            times = one.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total


def main() -> None:
    """Runs one step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=["prepare", "direct", "sort", "batches"])
    parser.add_argument("--limit", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    options = parser.parse_args()
    steps = {"prepare": prepare, "direct": direct, "sort": sort}
    answer = batches(options.limit, options.batch) if options.step == "batches" else steps[options.step](options.limit)
    print(json.dumps(answer))


if __name__ == "__main__":
    main()

"""Official layouts: how their logs are known, and which files belong together."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

from hisac_lab.tables.files import COMPRESSION

OFFICIAL_COLUMNS = {
    ("userId", "movieId", "rating", "timestamp"): "movielens",
    ("user_id", "video_id", "time_ms", "is_click", "is_rand"): "kuairand",
    ("user_id", "user_active_degree", "onehot_feat0"): "kuairand",
    ("video_id", "author_id", "video_type", "upload_dt"): "kuairand",
    ("user_id", "parent_asin", "rating", "timestamp"): "amazon-reviews-2023",
    ("uid", "item_id", "timestamp", "is_organic", "event_type"): "yambda",
    ("user_id", "item_id", "place", "platform", "agent", "timespent"): "vk-lsvd",
    ("item_id", "author_id", "duration", "train_interactions_rank"): "vk-lsvd",
    ("129_1", "205"): "taobao-mm",
    ("129_1", "130_1"): "taobao-mm",
    ("205", "206"): "taobao-mm",
    ("205", "205_c"): "taobao-mm",
}
OFFICIAL_FILES = {
    "u.data": "movielens-100k",
    "ml-100k.inter": "movielens-100k",
    "ratings.dat": "movielens",
    "UserBehavior.csv": "taobao-userbehavior",
    "userid-timestamp-artid-artname-traid-traname.tsv": "lastfm-1k",
}
REQUIRED: dict[str, tuple[tuple[str, ...], ...]] = {
    "movielens-100k": (("u.data", "u.item"), ("ml-100k.inter", "ml-100k.item")),
    "movielens": (("ratings.csv", "movies.csv"), ("ratings.dat", "movies.dat"), ("u.data", "u.item")),
    "kuairand": (("log_*.csv", "video_features_basic_*.csv"),),
    "taobao-mm": (
        (
            "item_features.parquet",
            "train_samples.parquet",
            "train_user_features.parquet",
            "test_samples.parquet",
            "test_user_features.parquet",
        ),
    ),
    "vk-lsvd": (("week_*.parquet", "items_metadata.parquet"),),
    "yambda": (("multi_event.parquet",), ("listens.parquet",), ("likes.parquet", "dislikes.parquet")),
}
"""Patterns of files without which a loader stops: one of these sets."""


def official_name(path: Path) -> str | None:
    """The data set whose official log has this file name; None: none we know."""
    return OFFICIAL_FILES.get(path.with_suffix("").name if path.suffix in COMPRESSION else path.name)


def missing(data_set: str, folder: Path) -> tuple[str, ...]:
    """What a folder lacks of the files of a data set; they may lie in folders below it, compressed or not."""
    names = [file.name for file in folder.rglob("*") if file.is_file()]

    def there(pattern: str) -> bool:
        return any(fnmatch(name, pattern + packed) for name in names for packed in ("", *COMPRESSION))

    candidates = []
    for files in REQUIRED.get(data_set, ((),)):
        lacks = tuple(name for name in files if not there(name))
        candidates.append((bool(lacks), len(lacks) - len(files), lacks))
    return min(candidates, key=lambda entry: entry[:2])[2]  # whole, or else the one of which most is there

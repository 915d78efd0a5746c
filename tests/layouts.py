"""The same small made-up log in the official layout of every public set the loaders know.

Each function writes the files of one layout and gives the events as its loader should give them, in file order: text
columns user and item, time in seconds and, where the layout has feedback, label.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from hisac_lab.tables.layouts.taobao_userbehavior import WINDOW

USERS, ITEMS, EVENTS, SEED = 12, 20, 30, 0
START = 1_650_000_000
HOUR, DAY = 3_600, 86_400


def make_events(start: int = START) -> pd.DataFrame:
    """User, item, time (rising for each user) and label (0 or 1), all numbers; no user meets an item twice at once."""
    random = np.random.default_rng(SEED)
    user = np.repeat(np.arange(1, USERS + 1), EVENTS)
    time = np.concatenate([np.sort(random.choice(1000, EVENTS, replace=False)) * 600 for _ in range(USERS)])
    item = random.integers(1, ITEMS + 1, len(user))
    return pd.DataFrame({"user": user, "item": item, "time": start + time, "label": random.integers(0, 2, len(user))})


def _expected(events: pd.DataFrame) -> pd.DataFrame:
    kept = [name for name in ("user", "item", "time", "label") if name in events]
    return events[kept].astype({"user": str, "item": str}).reset_index(drop=True)


def _csv(table: pd.DataFrame, path: Path, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False, lineterminator="\n", **options)


def _parquet(path: Path, /, **columns: pa.Array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=50)


def _ratings(events: pd.DataFrame) -> pd.DataFrame:
    """Labels as stars: 2.5 or 4.5."""
    return events.assign(label=2.5 + 2 * events["label"])


def movielens_csv(folder: Path) -> pd.DataFrame:
    """20M, 25M, 32M, latest-small: `ratings.csv` sorted by user and movie, titles in quotes where they need them."""
    events = _ratings(make_events()).sort_values(["user", "item"], kind="stable")
    names = {"user": "userId", "item": "movieId", "label": "rating", "time": "timestamp"}
    _csv(events[list(names)].rename(columns=names), folder / "ratings.csv")
    titles = [f"Film {item}, The ({1980 + item})" for item in range(1, ITEMS + 1)]
    movies = pd.DataFrame({"movieId": range(1, ITEMS + 1), "title": titles, "genres": "Comedy|Drama"})
    movies.loc[0, "genres"] = "(no genres listed)"
    _csv(movies, folder / "movies.csv")
    return _expected(events)


def movielens_dat(folder: Path, encoding: str = "latin-1") -> pd.DataFrame:
    """1M (Latin-1) and 10M (UTF-8): two colons between values, no header."""
    events = _ratings(make_events())
    rows = zip(events["user"], events["item"], events["label"], events["time"], strict=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ratings.dat").write_text("".join("::".join(map(str, row)) + "\n" for row in rows))
    movies = [f"{item}::Misérable {item}, Le (19{50 + item})::Comedy|War\n" for item in range(1, ITEMS + 1)]
    (folder / "movies.dat").write_text("".join(movies), encoding)
    return _expected(events)


def kuairand(folder: Path, edition: str = "pure") -> pd.DataFrame:
    """Logs by policy and period (in 27K in two parts), and video features; a fifth of the exposures were random."""
    events = make_events()
    random = (np.arange(len(events)) % 5 == 0).astype(int)
    log = pd.DataFrame({"user_id": events["user"], "video_id": events["item"], "date": 20220421, "hourmin": 1200})
    log["time_ms"] = events["time"] * 1000 + 123
    log["is_click"] = events["label"]
    for name in ("is_like", "is_follow", "is_comment", "is_forward", "is_hate", "long_view"):
        log[name] = 1 - events["label"] if name == "long_view" else 0
    for name in ("play_time_ms", "duration_ms", "profile_stay_time", "comment_stay_time", "is_profile_enter"):
        log[name] = 0
    log["is_rand"], log["tab"] = random, 1
    later = events["time"] >= START + 3 * DAY
    parts = ("_part1", "_part2") if edition == "27k" else ("",)
    order = []
    for name, chosen in (
        (f"log_standard_4_08_to_4_21_{edition}", (random == 0) & ~later),
        (f"log_standard_4_22_to_5_08_{edition}", (random == 0) & later),
        (f"log_random_4_22_to_5_08_{edition}", random == 1),
    ):
        rows = np.flatnonzero(chosen)
        for part, some in zip(parts, np.array_split(rows, len(parts)), strict=True):
            if "random" in name and part == "_part2":
                continue
            some = rows if "random" in name else some
            _csv(log.iloc[some], folder / f"{name}{'' if 'random' in name else part}.csv")
            order.append(events.iloc[some].assign(random=random[some] == 1))
    videos = pd.DataFrame({"video_id": range(1, ITEMS + 1), "author_id": 7, "video_type": "NORMAL"})
    videos["upload_dt"], videos["upload_type"], videos["visible_status"] = "2022-04-10", "LongImport", 0.0
    videos["video_duration"], videos["server_width"], videos["server_height"] = 87433.0, 720.0, 1280.0
    videos["music_id"], videos["music_type"] = 9155697141, 9.0
    videos["tag"] = ["12,65", *["39"] * (ITEMS - 2), None]
    _csv(videos, folder / f"video_features_basic_{edition}.csv")
    together = pd.concat(order)
    return _expected(together).assign(random=together["random"].to_numpy())


def taobao_mm(folder: Path) -> pd.DataFrame:
    """Histories (some with zeros in front, some short), exposures of both splits, item fields and int8 vectors."""
    random = np.random.default_rng(SEED)
    hashes = random.integers(-(2**63), 2**63, ITEMS, dtype=np.int64)
    category = random.integers(-(2**63), 2**63, ITEMS, dtype=np.int64)
    advertised = range(ITEMS // 2)
    expected = []
    for split, time in (("train", 1000), ("test", 1001)):
        users = random.integers(-(2**63), 2**63, USERS, dtype=np.int64)
        histories, kinds, length = [], [], 1000
        for user in users.tolist():
            padding = int(random.integers(980, 995))
            written = padding if user % 2 else 0
            clicked = random.integers(0, ITEMS, length - padding)
            histories.append([0] * written + hashes[clicked].tolist())
            kinds.append([0] * written + category[clicked].tolist())
            places = np.arange(padding, length) * DAY
            expected.append(pd.DataFrame({"user": f"{split}/{user}", "item": hashes[clicked], "time": places}))
            expected[-1]["label"], expected[-1]["part"] = 1.0, 0
        profile = {f"130_{number}": pa.array(users) for number in range(1, 6)}
        lists = {
            "150_2_180": pa.array(histories, pa.list_(pa.int64())),
            "151_2_180": pa.array(kinds, pa.list_(pa.int64())),
        }
        _parquet(folder / f"{split}_user_features.parquet", **{"129_1": pa.array(users)}, **profile, **lists)
        shown = np.repeat(users, 4)
        item = hashes[random.choice(advertised, (USERS, 4), replace=True)].ravel()
        click = random.permutation(np.arange(len(shown)) % 2)
        _parquet(
            folder / f"{split}_samples.parquet",
            **{
                "label_0": pa.array([[1 - flag, flag] for flag in click.tolist()], pa.list_(pa.int8())),
                "129_1": pa.array(shown),
                "205": pa.array(item),
            },
        )
        names = [f"{split}/{user}" for user in shown.tolist()]
        expected.append(pd.DataFrame({"user": names, "item": item, "time": time * DAY, "label": click.astype(float)}))
        expected[-1]["part"] = 1 if split == "train" else 2
    fields = {"205": hashes[advertised], "206": category[advertised], "213": category[:10], "214": category[10:20]}
    _parquet(folder / "item_features.parquet", **{name: pa.array(values) for name, values in fields.items()})
    vectors = random.integers(-127, 128, (ITEMS - 3, 128)).astype(np.int8)
    _parquet(
        folder / "scl_embedding_int8_p90.parquet",
        **{"205": pa.array(hashes[3:]), "205_c": pa.array(vectors.tolist(), pa.list_(pa.int8()))},
    )
    together = pd.concat(expected, ignore_index=True)
    return _expected(together).assign(part=together["part"])


def taobao_userbehavior(folder: Path) -> pd.DataFrame:
    """`UserBehavior.csv` without a header; some rows are no views, and two timestamps are absurd."""
    events = make_events(WINDOW[0] + HOUR).drop(columns="label")
    behavior = np.where(np.arange(len(events)) % 7 == 3, "buy", "pv")
    events.loc[5, "time"], events.loc[6, "time"] = -2_134_949_234, 2_122_867_355
    rows = pd.DataFrame({"user": events["user"], "item": events["item"], "category": events["item"] % 3})
    rows["behavior"], rows["time"] = behavior, events["time"]
    _csv(rows, folder / "UserBehavior.csv", header=False)
    inside = (events["time"] >= WINDOW[0]) & (events["time"] < WINDOW[1])
    return _expected(events[(behavior == "pv") & inside])


def amazon_ratings(folder: Path) -> pd.DataFrame:
    """`rating_only`: one compressed CSV per category."""
    events = _ratings(make_events()).assign(label=lambda table: table["label"] + 0.5)
    names = {"user": "user_id", "item": "parent_asin", "label": "rating", "time": "timestamp"}
    table = events[list(names)].rename(columns=names)
    table["timestamp"] = table["timestamp"] * 1000 + 7
    for number, name in enumerate(("Books", "Music")):
        _csv(table[table["user_id"] % 2 == number], folder / f"{name}.csv.gz")
    _amazon_products(folder)
    return _expected(pd.concat([events[events["user"] % 2 == number] for number in (0, 1)]))


def amazon_raw(folder: Path) -> pd.DataFrame:
    """Raw reviews and product data: one JSON object per line."""
    events = _ratings(make_events()).assign(label=lambda table: table["label"] + 0.5)
    folder.mkdir(parents=True, exist_ok=True)
    row: Any
    with gzip.open(folder / "Books.jsonl.gz", "wt") as file:
        for row in events.itertuples():
            review: dict[str, Any] = {
                "rating": row.label,
                "title": "Fine",
                "text": "Line\nbreak",
                "images": [],
                "asin": "B0",
            }
            review |= {"parent_asin": str(row.item), "user_id": str(row.user), "timestamp": row.time * 1000}
            file.write(json.dumps(review | {"helpful_vote": 0, "verified_purchase": True}) + "\n")
    _amazon_products(folder)
    return _expected(events)


def _amazon_products(folder: Path) -> None:
    with gzip.open(folder / "meta_Books.jsonl.gz", "wt") as file:
        for item in range(1, ITEMS):  # the last product has no row
            product: dict[str, Any] = {
                "main_category": None if item == 1 else "Books",
                "title": f"Book {item}",
                "average_rating": 4.5,
            }
            product |= {"features": ["Long", "and good"], "description": [], "price": "12.99", "images": [{"a": 1}]}
            product |= {"store": None, "categories": ["Books", "Poetry"] if item > 1 else [], "details": {"x": "y"}}
            file.write(json.dumps(product | {"parent_asin": str(item), "bought_together": None}) + "\n")


def _yambda_columns(events: pd.DataFrame) -> dict[str, pa.Array]:
    return {
        "uid": pa.array(events["user"], pa.uint32()),
        "timestamp": pa.array(events["time"], pa.uint32()),
        "item_id": pa.array(events["item"], pa.uint32()),
        "is_organic": pa.array(events["user"] % 2, pa.uint8()),
    }


def _yambda_extras(folder: Path) -> None:
    random = np.random.default_rng(SEED)
    item = pa.array(range(1, ITEMS), pa.uint32())
    vectors = random.normal(size=(ITEMS - 1, 8)).tolist()
    embed = pa.array(vectors, pa.list_(pa.float64()))
    _parquet(folder / "embeddings.parquet", item_id=item, embed=embed, normalized_embed=embed)
    for name in ("artist", "album"):
        ids = pa.array([each % 4 for each in range(1, ITEMS)], pa.uint32())
        _parquet(folder / f"{name}_item_mapping.parquet", **{f"{name}_id": ids, "item_id": item})


def yambda_multi(folder: Path) -> pd.DataFrame:
    """`multi_event.parquet`: all kinds of events in one table, values of listens null elsewhere."""
    events = make_events(5).assign(label=lambda table: np.where(table["label"] == 1, 117, 50))
    kinds = np.array(["listen", "listen", "like", "listen", "dislike", "unlike", "listen"])[np.arange(len(events)) % 7]
    listen = kinds == "listen"
    played = pa.array(events["label"].where(listen), pa.uint16(), from_pandas=True)
    kind = pa.array(kinds.tolist()).dictionary_encode()
    columns = _yambda_columns(events)
    _parquet(folder / "multi_event.parquet", **columns, event_type=kind, played_ratio_pct=played,
             track_length_seconds=pa.array(np.where(listen, 200.0, np.nan), pa.uint32(), from_pandas=True))  # fmt: skip
    _yambda_extras(folder)
    return _expected(events[listen])


def yambda_split(folder: Path) -> pd.DataFrame:
    """One table per kind of event."""
    events = make_events(5).assign(label=lambda table: np.where(table["label"] == 1, 117, 50))
    listens, liked = events[events["user"] > 2], events[events["user"] <= 2]
    _parquet(folder / "listens.parquet", **_yambda_columns(listens), played_ratio_pct=pa.array(listens["label"]),
             track_length_seconds=pa.array([200] * len(listens), pa.uint32()))  # fmt: skip
    _parquet(folder / "likes.parquet", **_yambda_columns(liked[liked["label"] == 117]))
    _parquet(folder / "dislikes.parquet", **_yambda_columns(liked[liked["label"] == 50]))
    return _expected(listens)


def lastfm_1k(folder: Path) -> pd.DataFrame:
    """Listens newest first, some without a MusicBrainz id, one dated years later; quotes mean nothing."""
    events = make_events(1_200_000_000).iloc[::-1].drop(columns="label").reset_index(drop=True)
    folder.mkdir(parents=True, exist_ok=True)
    events.loc[3, "time"] = 1_380_000_000
    lines, items = [], []
    row: Any
    for row in events.itertuples():
        when = pd.Timestamp(row.time, unit="s").strftime("%Y-%m-%dT%H:%M:%SZ")
        track, title, artist = f"track-{row.item}" if row.item % 3 else "", f'Song "{row.item}', f"Band {row.item % 4}"
        lines.append("\t".join([f"user_{row.user:06d}", when, "", artist, track, title]))
        items.append(track or f"{artist} / {title}")
    (folder / "userid-timestamp-artid-artname-traid-traname.tsv").write_text("\n".join(lines) + "\n")
    events["user"], events["item"] = events["user"].map("user_{:06d}".format), items
    return _expected(events.drop(index=3))


VK_WEEK = 604_800


def vk_lsvd(folder: Path, weeks: tuple[int, ...] = (23, 24, 25, 26), by: str = "watched") -> pd.DataFrame:
    """Weeks as files, rows in time order, no timestamps; metadata and half-precision vectors of more items than shown.

    A video of `item` has 10 * item seconds, at most 255; one is watched whole or a fifth of it.
    """
    events = make_events().drop_duplicates(["user", "item"]).sort_values("time", kind="stable", ignore_index=True)
    length = np.minimum(10 * events["item"].to_numpy(), 255)
    timespent = np.where(events["label"] == 1, length, length // 5)
    expected = []
    for week, rows in zip(weeks, np.array_split(np.arange(len(events)), len(weeks)), strict=True):
        part, flags = events.iloc[rows], pa.array(events["label"].iloc[rows] == 1)
        small = {name: pa.array(np.full(len(rows), 3), pa.uint8()) for name in ("place", "platform", "agent")}
        _parquet(
            folder / f"week_{week:02}.parquet",
            user_id=pa.array(part["user"], pa.uint32()), item_id=pa.array(part["item"], pa.uint32()), **small,
            timespent=pa.array(timespent[rows], pa.uint8()), like=flags, dislike=pa.array([False] * len(rows)),
            share=flags, bookmark=flags, click_on_author=flags, open_comments=flags,
        )  # fmt: skip
        time = week * VK_WEEK + np.arange(len(rows)) * VK_WEEK // len(rows)
        label = 100 * timespent[rows] / length[rows] if by == "watched" else part["label"].astype(float)
        expected.append(part.assign(time=time, label=label))
    known = np.arange(ITEMS + 5, 0, -1)
    _parquet(
        folder / "items_metadata.parquet",
        item_id=pa.array(known, pa.uint32()), author_id=pa.array(known % 4, pa.uint32()),
        duration=pa.array(np.minimum(10 * known, 255), pa.uint8()),
        train_interactions_rank=pa.array(known, pa.uint32()),
    )  # fmt: skip
    vectors = np.random.default_rng(SEED).normal(size=(ITEMS + 2, 64)).astype(np.float16)
    np.savez(folder / "item_embeddings.npz", item_id=known[3:].astype(np.uint32), embedding=vectors)
    return _expected(pd.concat(expected))


def gcc_changelog(folder: Path) -> pd.DataFrame:
    """What the stage `acquire` makes of the ChangeLogs."""
    events = make_events().drop(columns="label").sort_values("time", kind="stable", ignore_index=True)
    events["time"] = START + 10 * (events["time"] - START)
    day = events["time"] // DAY * DAY
    events["time"] = day + events.groupby(day).cumcount()
    _parquet(folder / "events.parquet", user_id=pa.array(events["user"], pa.int32()),
             item_id=pa.array(events["item"], pa.int32()), timestamp=pa.array(events["time"]),
             action=pa.array(["modify"] * len(events)), text=pa.array(["Fix."] * len(events)))  # fmt: skip
    paths = [f"gcc/config/file-{item}.c" for item in range(1, ITEMS + 1)]
    _parquet(folder / "items.parquet", item_id=pa.array(range(1, ITEMS + 1), pa.int32()), path=pa.array(paths),
             component=pa.array(["gcc/config"] * ITEMS), extension=pa.array(["c"] * ITEMS),
             first_date=pa.array([0] * ITEMS, pa.int32()).cast(pa.date32()))  # fmt: skip
    return _expected(events)

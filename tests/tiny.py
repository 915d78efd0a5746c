"""A small made-up film log in the layouts the loaders know: seeded, learnable, quick.

Each user likes two of six genres, each film has words and years that go with its genre. Ratings come in bursts: a few
films in one evening, several of them in the same second, as people rate on MovieLens.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

GENRES = (
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)
WORDS = {
    "Comedy": ("Funny", "Laugh", "Clown", "Joke", "Party", "Holiday", "Prank", "Wedding", "Banana", "Circus"),
    "Horror": ("Ghost", "Vampire", "Night", "Blood", "Grave", "Scream", "Curse", "Monster", "Cellar", "Demon"),
    "Sci-Fi": ("Space", "Robot", "Galaxy", "Planet", "Laser", "Alien", "Rocket", "Future", "Orbit", "Android"),
    "Western": ("Cowboy", "Desert", "Sheriff", "Saloon", "Horse", "Canyon", "Outlaw", "Ranch", "Pistol", "Cattle"),
    "Musical": ("Dance", "Song", "Piano", "Opera", "Ballet", "Melody", "Violin", "Chorus", "Singer", "Waltz"),
    "War": ("Soldier", "Battle", "Tank", "General", "Army", "Bomber", "Trench", "Victory", "Captain", "Siege"),
}
PLACES = ("River", "Paris", "Winter", "Mountain", "Harbour", "Island", "Street", "Garden", "Forest", "Bridge", "Summer")
START = 874_724_710  # the first second of MovieLens-100K
DAYS = 210
SITTINGS = 9
HOUR, DAY = 3_600, 86_400


def make_log(users: int = 60, items: int = 80, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Events (user, item, rating, time; in no order, as published) and items (item, title, year, genre).

    About two thirds of a user's ratings fall on liked genres, and about 55 % of all ratings are 4 or 5.
    """
    random = np.random.default_rng(seed)
    names = list(WORDS)
    genre = np.arange(items) % len(names)
    titles = [_title(names[genre[item]], item // len(names)) for item in range(items)]
    quality = random.normal(0, 0.4, items)
    rows = []
    for user in range(users):
        liked = random.choice(len(names), 2, replace=False)
        match = np.isin(genre, liked)
        pull = np.where(match, 4.0, 1.0) * np.exp(quality / 2)
        seen = random.choice(items, min(items, int(random.integers(45, 66))), replace=False, p=pull / pull.sum())
        seen = random.permutation(seen)
        taste = np.where(match, 4.45, 2.8)[seen] + quality[seen] + random.normal(0, 0.6, len(seen))
        sittings = np.sort(random.integers(0, DAYS * 24, SITTINGS)) * HOUR
        when = START + np.sort(random.choice(sittings, len(seen))) + np.sort(random.integers(0, 25, len(seen)))
        rows.append(
            pd.DataFrame(
                {"user": user + 1, "item": seen + 1, "rating": np.clip(np.rint(taste), 1, 5).astype(int), "time": when}
            )
        )
    events = pd.concat(rows, ignore_index=True)
    table = pd.DataFrame(
        {
            "item": np.arange(items) + 1,
            "title": titles,
            "year": 1950 + random.integers(0, 48, items),
            "genre": [names[code] for code in genre],
        }
    )
    return events.iloc[random.permutation(len(events))].reset_index(drop=True), table


def make_people(users: int = 60, seed: int = 0) -> pd.DataFrame:
    """Who the users are: user, age, gender, occupation, zip."""
    random = np.random.default_rng(seed)
    table = pd.DataFrame({"user": np.arange(users) + 1, "age": random.integers(7, 74, users)})
    table["gender"] = random.choice(["F", "M"], users)
    table["occupation"] = random.choice(["writer", "student", "none"], users)
    return table.assign(zip="T8H1N")


def write_movielens(folder: Path, users: int = 60, items: int = 80, seed: int = 0) -> None:
    """Writes `u.data` and `u.item` as GroupLens publishes them (tab; bar, Latin-1, 19 genre flags)."""
    events, table = make_log(users, items, seed)
    folder.mkdir(parents=True, exist_ok=True)
    events.to_csv(folder / "u.data", sep="\t", header=False, index=False, lineterminator="\n")
    lines = []
    for row in table.itertuples():
        flags = ["1" if name == row.genre else "0" for name in GENRES]
        lines.append("|".join([str(row.item), f"{row.title} ({row.year})", f"01-Jan-{row.year}", "", "", *flags]))
    (folder / "u.item").write_text("\n".join(lines) + "\n", encoding="latin-1")


def write_atomic(folder: Path, users: int = 60, items: int = 80, seed: int = 0) -> None:
    """Writes the same log as RecBole's `ml-100k.inter` and `ml-100k.item`."""
    events, table = make_log(users, items, seed)
    folder.mkdir(parents=True, exist_ok=True)
    events = events.set_axis(["user_id:token", "item_id:token", "rating:float", "timestamp:float"], axis=1)
    events.to_csv(folder / "ml-100k.inter", sep="\t", index=False, lineterminator="\n")
    table = table.set_axis(["item_id:token", "movie_title:token_seq", "release_year:token", "class:token_seq"], axis=1)
    table.to_csv(folder / "ml-100k.item", sep="\t", index=False, lineterminator="\n")


def write_csv(
    folder: Path, users: int = 60, items: int = 80, seed: int = 0, suffix: str = ".csv", bom: bool = False
) -> None:
    """Writes the same log as `events.SUFFIX` and `items.SUFFIX`, columns named as in the defaults of `prepare`."""
    events, table = make_log(users, items, seed)
    folder.mkdir(parents=True, exist_ok=True)
    separator, encoding = "\t" if suffix == ".tsv" else ",", "utf-8-sig" if bom else "utf-8"
    events = events.set_axis(["user_id", "item_id", "rating", "timestamp"], axis=1)
    table = table.rename(columns={"item": "item_id"})
    for name, part in (("events", events), ("items", table)):
        part.to_csv(folder / f"{name}{suffix}", sep=separator, index=False, encoding=encoding, lineterminator="\n")


def _title(genre: str, number: int) -> str:
    """A word of the genre and a place; no pair twice for numbers below 110."""
    words = WORDS[genre]
    return f"{words[number % len(words)]} {PLACES[(number + GENRES.index(genre)) % len(PLACES)]}"

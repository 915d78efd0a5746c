"""Own logs as people have them: feedback in words, times in many forms, ids with blanks; checked, pasted and run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from checked import pasted, run
from tiny import make_log

import hisac_lab as hl
from hisac_lab.config.events import ColumnsConfig
from hisac_lab.tables import feedback
from hisac_lab.tables.check import check
from hisac_lab.tables.guess import guess_log
from hisac_lab.tables.layouts.own import item_table
from hisac_lab.tables.looks import time_formats

LOG = make_log()[0].rename(columns={"user": "user_id", "item": "item_id", "time": "timestamp"})


def write(path: Path, log: pd.DataFrame, separator: str = ",") -> Path:
    log.to_csv(path, sep=separator, index=False, lineterminator="\n")
    return path


def rated(says: Callable[[int], Any], name: str = "rating") -> pd.DataFrame:
    """The made-up log, its ratings 1 to 5 said otherwise."""
    return LOG.assign(rating=LOG["rating"].map(says)).rename(columns={"rating": name})


@dataclass(frozen=True)
class Said:
    """Feedback in some form: the positives among ratings from 1 to 5, the mapping, and what is said of it."""

    log: pd.DataFrame
    positive: Callable[[int], bool]
    columns: dict[str, Any]
    settings: dict[str, Any]
    said: tuple[str, ...] = ()
    separator: str = ","


FEEDBACK = {
    "decimal comma": Said(
        rated(lambda stars: f"{stars - 1},5"), lambda stars: stars >= 5,
        {"label": "rating", "decimal": ",", "separator": ";"},
        {"positive_from": 4.5}, ("feedback  0.5 to 4.5, 5 levels",), ";",
    ),
    "True and False": Said(
        rated(lambda stars: str(stars > 3), "clicked"), lambda stars: stars > 3,
        {"label": "clicked", "label_values": None},
        {"positive_from": 1.0}, ("feedback  0 to 1, 2 levels",),
    ),
    "a vote": Said(
        rated(lambda stars: "no" if stars < 3 else "abstain" if stars == 3 else "Yes", "vote"), lambda stars: stars > 3,
        {"label": "vote", "label_values": {"no": 0.0, "abstain": 1.0, "Yes": 2.0}, "label_range": None},
        {"positive_from": 2.0},
        ("vote: is read by its words: 'Yes' positive, 'no', 'abstain' real negative; this is a guess to be confirmed",),
    ),
    "event types": Said(
        rated(lambda stars: "view" if stars < 4 else "cart" if stars == 4 else "purchase", "event_type").assign(
            device="phone", price=1.5
        ),
        lambda stars: stars == 5,
        {"label": "event_type", "label_values": {"view": 0.0, "cart": 1.0, "purchase": 2.0}},
        {"positive_from": 2.0},
        ("'purchase' positive, 'view', 'cart' real negative", "not read  device, price\n"),
    ),
    "event types in other words": Said(
        rated(lambda stars: "pv" if stars < 4 else "Zap" if stars == 4 else "buy", "behavior_type"),
        lambda stars: stars == 5,
        {"label": "behavior_type", "label_values": {"Zap": 0.0, "pv": 0.0, "buy": 1.0}},
        {"positive_from": 1.0},
        ("nobody knows 'Zap', put lowest",),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FEEDBACK)
def test_feedback_that_is_no_plain_number_is_mapped_and_read(tmp_path: Path, name: str) -> None:
    form = FEEDBACK[name]
    answer = run(write(tmp_path / "log.csv", form.log, form.separator))
    assert answer.exit_code == 0, answer.output
    for text in form.said:
        assert text in answer.output
    prepare = yaml.safe_load(answer.output)["prepare"]
    assert {key: prepare["columns"][key] for key in form.columns} == form.columns
    assert {key: prepare[key] for key in form.settings} == form.settings
    store = pasted(answer.output, tmp_path)
    assert store.manifest.negatives == "real exposures"
    assert store.feedback is not None
    assert store.manifest.feedback is not None
    positives = (store.feedback >= store.manifest.feedback.positive).sum()
    assert positives == int(LOG["rating"].map(form.positive).sum())


def test_a_word_deep_in_the_log_is_mapped_too(tmp_path: Path) -> None:
    words = ["yes", "no"] * (len(LOG) // 2) + ["maybe"] * (len(LOG) % 2 + 1)
    path = write(tmp_path / "log.csv", pd.concat([LOG, LOG.tail(1)]).assign(rating=words[: len(LOG) + 1]))
    values = yaml.safe_load(run(path).output)["prepare"]["columns"]["label_values"]
    assert values == {"no": 0.0, "maybe": 1.0, "yes": 2.0}


UNREAD = {
    "words nobody knows": (
        rated(lambda stars: "modify" if stars > 3 else "add", "action"), "action", "nobody knows which"),
    "too many words": (LOG.assign(rating=[f"text {n}" for n in range(len(LOG))]), "rating", "it has too many"),
    "another name": (rated(lambda stars: stars > 3, "engaged"), "engaged", "its values look like feedback"),
    "0 and 1": (rated(lambda stars: int(stars > 3), "engaged"), "engaged", "its values look like feedback"),
    "codes": (rated(lambda stars: stars, "event_type"), "event_type", "its numbers may be codes"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNREAD)
def test_every_event_is_a_positive_is_never_said_over_what_looks_like_feedback(tmp_path: Path, name: str) -> None:
    log, column, why = UNREAD[name]
    answer = run(write(tmp_path / "log.csv", log))
    assert f"feedback  none is read, though {column} may be: see the notes" in answer.output
    assert f"{column}: looks like feedback and is not read: {why}" in answer.output
    assert f"not read  {column}\n" in answer.output
    assert yaml.safe_load(answer.output)["prepare"]["columns"]["label"] is None


@pytest.mark.parametrize("name", ["finished", "is_completed", "converted", "bought"])
def test_a_flag_with_an_everyday_name_is_the_feedback(tmp_path: Path, name: str) -> None:
    answer = run(write(tmp_path / "log.csv", rated(lambda stars: int(stars > 3), name)))
    assert yaml.safe_load(answer.output)["prepare"]["columns"]["label"] == name


def test_a_moment_is_no_feedback_whatever_its_name(tmp_path: Path) -> None:
    log = LOG.drop(columns="rating").assign(completed=LOG["timestamp"].astype(int) + 60)
    assert yaml.safe_load(run(write(tmp_path / "log.csv", log)).output)["prepare"]["columns"]["label"] is None


def test_words_are_ranked_only_where_they_say_a_difference() -> None:
    assert feedback.rank(["purchase", "view", "remove_from_cart", "add-to-cart"]) == {
        "remove_from_cart": 0, "view": 1, "add-to-cart": 2, "purchase": 3}  # fmt: skip
    assert feedback.rank(["like", "dislike", ""]) == {"dislike": 0, "like": 1}
    assert feedback.rank(["yes", "liked"]) == feedback.rank(["red", "blue"]) == {}
    assert feedback.listed(list("abcdefgh")) == "a, b, c, d, e, f and 2 more"


def dated(form: str) -> pd.Series[str]:
    return pd.to_datetime(LOG["timestamp"], unit="s").dt.strftime(form)


TIMES: dict[str, tuple[Any, str]] = {
    "before 1970": (LOG["timestamp"] - 1_700_000_000, "seconds"),
    "fractions": (LOG["timestamp"] + 0.25, "seconds"),
    "nanoseconds": (LOG["timestamp"] * 10**9 + 7, "nanoseconds"),
    "UTC behind": (dated("%Y-%m-%d %H:%M:%S UTC"), "iso"),
    "day.month.year": (dated("%d.%m.%Y %H:%M"), "%d.%m.%Y %H:%M"),
    "month/day/year": (dated("%m/%d/%Y %I:%M:%S %p"), "%m/%d/%Y %I:%M:%S %p"),
    "a log line": (dated("%d/%b/%Y:%H:%M:%S +0000"), "%d/%b/%Y:%H:%M:%S %z"),
    "days as numbers": (dated("%Y%m%d"), "%Y%m%d"),
}


@pytest.mark.parametrize("name", TIMES)
def test_times_are_read_as_people_have_them(tmp_path: Path, name: str) -> None:
    times, form = TIMES[name]
    answer = run(write(tmp_path / "log.csv", LOG.assign(timestamp=times)))
    assert answer.exit_code == 0, answer.output
    prepare = yaml.safe_load(answer.output)["prepare"]
    assert prepare["columns"]["time_format"] == form
    store = pasted(answer.output, tmp_path)
    step = {"%Y%m%d": 86_400, "%d.%m.%Y %H:%M": 60}.get(form, 1)
    first = int(LOG["timestamp"].min()) - (1_700_000_000 if name == "before 1970" else 0)
    assert store.manifest.events == len(LOG)
    assert first // step * step <= store.times.min() < first + 10 * 86_400
    assert set(store.times % step) == {0}


def test_a_date_that_can_be_read_twice_is_told(tmp_path: Path) -> None:
    early = LOG.assign(timestamp=[f"0{n % 9 + 1}/0{n % 7 + 1}/2024" for n in range(len(LOG))])
    answer = run(write(tmp_path / "log.csv", early))
    assert "timestamp: can be read as '%d/%m/%Y' and as '%m/%d/%Y'; look which is right" in answer.output
    assert time_formats(pd.Series(["13/01/2024", "02/03/2024"])) == ["%d/%m/%Y"]
    assert time_formats(pd.Series(["soon", "later"])) == []


@pytest.mark.parametrize(("spread", "unit"), [(5, "day"), (3_000, "day"), (80_000, "second")])
def test_seconds_that_only_keep_an_order_are_days(tmp_path: Path, spread: int, unit: str) -> None:
    days = LOG["timestamp"] // 86_400 * 86_400 + np.arange(len(LOG)) * 97 % spread
    answer = run(write(tmp_path / "log.csv", LOG.assign(timestamp=days)))
    assert yaml.safe_load(answer.output)["prepare"]["time_unit"] == unit
    assert ("an order within the day, no time; prepare.time_unit: day" in answer.output) == (unit == "day")


IDS = {
    "blanks": (lambda user: f"u{user}  ", "has blanks around it and is read as 'u"),
    "decomposed": (lambda user: f"cafe\u0301-{user}", "(U+0065 U+0301 becomes U+00E9)"),
}


@pytest.mark.parametrize("name", IDS)
def test_two_forms_of_an_id_are_one_and_told(tmp_path: Path, name: str) -> None:
    form, told = IDS[name]
    plain = {"blanks": "u{}", "decomposed": "caf\u00e9-{}"}[name].format
    even = np.arange(len(LOG)) % 2 == 0
    log = LOG.assign(
        **{column: [form(x) if odd else plain(x) for x, odd in zip(LOG[column], even, strict=True)]
           for column in ("user_id", "item_id")}
    )  # fmt: skip
    table = make_log()[1].rename(columns={"item": "item_id"})
    items = write(tmp_path / "items.csv", table.assign(item_id=[form(x) for x in table["item_id"]]))
    answer = run(write(tmp_path / "log.csv", log), "--items", items)
    assert answer.exit_code == 0, answer.output
    assert f"users     {LOG['user_id'].nunique()};" in answer.output
    for place in ("log.csv: line 2: user_id: id", "log.csv: line 2: item_id: id", "items.csv: line 2: item_id: id"):
        (line,) = [line for line in answer.output.splitlines() if place in line]
        assert told in line
    assert f"... and {int(even.sum()) - 3:,} more like this" in answer.output
    store = pasted(answer.output, tmp_path)
    assert (store.manifest.users, store.manifest.items_described) == (LOG["user_id"].nunique(), len(table))
    assert set(store.item_table["item"]) == {plain(item) for item in table["item_id"]}


def test_fractions_of_a_second_keep_the_order_of_a_user(tmp_path: Path) -> None:
    extra = pd.DataFrame({"user_id": 1, "item_id": [11, 12, 13, 14], "rating": 5})
    late = int(LOG["timestamp"].max()) + 10
    extra["timestamp"] = [f"{late}.{part}" for part in (75, 25, 5, 0)]
    log = pd.concat([LOG.assign(timestamp=LOG["timestamp"].astype(str)), extra])
    store = pasted(run(write(tmp_path / "log.csv", log)).output, tmp_path)
    user = store.user_ids.tolist().index("1")
    begin, end = store.offsets[user : user + 2]
    names = store.item_table["item"].to_numpy()[store.items[begin:end][-4:]]
    assert names.tolist() == ["14", "12", "13", "11"]
    assert set(store.times[begin:end][-4:].tolist()) == {late}


def test_the_mapping_of_a_plain_log_is_plain(tmp_path: Path) -> None:
    found = guess_log(write(tmp_path / "log.csv", LOG))
    assert (found.decimal, found.label_values, found.unread, found.doubts, found.notes) == (".", {}, (), {}, ())


def test_words_of_an_official_layout_are_left_to_its_loader(tmp_path: Path) -> None:
    path = tmp_path / "multi_event.csv"
    path.write_text("uid,item_id,timestamp,is_organic,event_type\n1,2,5,1,listen\n1,3,6,1,like\n1,4,7,1,dislike\n")
    found = guess_log(path)
    assert (found.official, found.label_values, found.doubts) == ("yambda", {}, {})
    assert "label" not in found.roles


def test_items_without_text_are_told_and_their_events_can_be_left_out(tmp_path: Path) -> None:
    ids = sorted(LOG["item_id"].astype(str).unique())
    items = pd.DataFrame({"item_id": ids, "title": ["  " if item == ids[0] else f"Title {item}" for item in ids]})
    log, table = write(tmp_path / "log.csv", LOG), write(tmp_path / "items.csv", items)
    found = check(log, table)
    assert not found.stops
    (note,) = [problem for problem in found.problems if "no text" in problem.lines[0]]
    assert f"item {ids[0]!r} has no text" in note.lines[0]
    assert "prepare.items_without_text" in note.lines[0]
    mentioned = int((LOG["item_id"].astype(str) == ids[0]).sum())
    kept, dropped = (
        hl.load(log, items=table).prepare(positive_from=4, min_history=0, **changes)
        for changes in ({}, {"items_without_text": "drop"})
    )
    assert kept.store.manifest.events - dropped.store.manifest.events == mentioned > 0
    assert ids[0] not in set(dropped.items["item"].to_numpy()[dropped.store.items])
    assert ids[0] in set(kept.items["item"].to_numpy()[kept.store.items])


def test_an_empty_column_among_those_of_the_text_leaves_no_mark(tmp_path: Path) -> None:
    table = write(tmp_path / "items.csv", pd.DataFrame({"item_id": ["a", "b"], "title": ["A", ""], "note": ["", ""]}))
    read = item_table(table, ColumnsConfig(text=("title", "note")))
    assert read["text"].tolist() == ["A", ""]

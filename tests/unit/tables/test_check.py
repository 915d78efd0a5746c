"""`hisac-lab data check`: the mapping it proposes makes the stages run, and it sees every problem before they do."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from checked import pasted, run
from tiny import make_log, write_atomic, write_movielens

from hisac_lab.tables import read as tables
from hisac_lab.tables import survey
from hisac_lab.tables.check import check, proposal
from hisac_lab.tables.guess import guess_items, guess_log


def events(**names: str) -> pd.DataFrame:
    """The made-up log, its columns renamed."""
    return make_log()[0].rename(columns=names)


def write(path: Path, backbone: pd.DataFrame, separator: str = ",", header: bool = True) -> None:
    backbone.to_csv(path, sep=separator, index=False, header=header, lineterminator="\n")


@dataclass(frozen=True)
class Written:
    """A way to write the made-up log, and what of the mapping must follow from it."""

    backbone: pd.DataFrame
    columns: dict[str, Any]
    settings: dict[str, Any] = field(default_factory=dict)
    file: str = "log.csv"
    separator: str = ","


def milliseconds() -> pd.DataFrame:
    backbone = events(user="visitorid", item="itemid", time="time_ms", rating="is_click")
    return backbone.assign(time_ms=backbone["time_ms"] * 1000 + 7, is_click=(backbone["is_click"] > 3).astype(int))


def dated(form: str) -> pd.DataFrame:
    backbone = events(user="uid", item="asin", time="date", rating="stars")
    return backbone.assign(date=pd.to_datetime(backbone["date"], unit="s").dt.strftime(form))


FORMS = {
    "usual names": Written(
        events(user="user_id", item="item_id", time="timestamp"),
        {"user": "user_id", "item": "item_id", "time": "timestamp", "label": "rating", "label_range": [1.0, 5.0]},
        {"positive_from": 4.0, "duplicates": "refuse", "time_unit": "second"},
    ),
    "milliseconds and clicks": Written(
        milliseconds(),
        {"user": "visitorid", "item": "itemid", "time": "time_ms", "label": "is_click", "time_format": "milliseconds"},
        {"positive_from": 1.0},
    ),
    "ISO times, bars": Written(
        dated("%Y-%m-%dT%H:%M:%SZ"),
        {"user": "uid", "item": "asin", "time": "date", "label": "stars", "time_format": "iso", "separator": "|"},
        separator="|",
    ),
    "days": Written(
        dated("%Y-%m-%d").drop_duplicates(["uid", "asin", "date"]),
        {"time": "date", "time_format": "iso"},
        {"time_unit": "day"},
        "log.tsv",
        "\t",
    ),
    "no feedback": Written(
        events(user="member_id", item="track_id", time="played").drop(columns="rating"),
        {"user": "member_id", "item": "track_id", "time": "played", "label": None},
        {"positive_from": None},
    ),
    "names that say nothing": Written(
        events(user="alpha", item="beta", time="gamma", rating="rating"),
        {"user": "alpha", "item": "beta", "time": "gamma", "label": "rating"},
    ),
    "repeated events": Written(
        pd.concat([events(user="user", item="item", time="ts")] * 2).sort_values(["user", "item"]),
        {"time": "ts"},
        {"duplicates": "drop"},
    ),
    "Parquet": Written(
        events(user="user_id", item="sku", time="timestamp").assign(
            timestamp=lambda backbone: pd.to_datetime(backbone["timestamp"], unit="s")
        ),
        {"user": "user_id", "item": "sku", "separator": None, "time_format": "seconds"},
        file="log.parquet",
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_the_printed_mapping_is_right_and_runs(tmp_path: Path, name: str) -> None:
    form = FORMS[name]
    path = tmp_path / form.file
    if form.file.endswith("parquet"):
        form.backbone.to_parquet(path)
    else:
        write(path, form.backbone, form.separator)
    answer = run(path)
    assert answer.exit_code == 0, answer.output
    prepare = yaml.safe_load(answer.output)["prepare"]
    assert {key: prepare["columns"][key] for key in form.columns} == form.columns
    assert {key: prepare[key] for key in form.settings} == form.settings
    store = pasted(answer.output, tmp_path)
    whole = form.backbone.drop_duplicates()
    assert store.manifest.events == len(whole)
    assert f"events    {len(form.backbone):,}\n" in answer.output
    assert f"users     {store.manifest.users:,};" in answer.output
    assert f"items     {store.manifest.items:,}\n" in answer.output
    assert f"order     {store.manifest.events_out_of_order:,} events" in answer.output


def test_times_that_are_yet_to_come_are_noted(tmp_path: Path) -> None:
    late, path = events(user="userId", item="movieId", time="timestamp", rating="score"), tmp_path / "log.csv"
    write(path, late)
    assert "yet to come" not in run(path).output
    late["timestamp"] += int(time.time()) + 3 * 86_400 - late["timestamp"].max()
    write(path, late)
    assert "UTC, which is yet to come; check the format of times" in run(path).output


def test_items_and_vectors_are_mapped_too(tmp_path: Path) -> None:
    write(tmp_path / "log.csv", events(user="userId", item="movieId", time="timestamp", rating="score"))
    table = make_log()[1].rename(columns={"item": "movieId"}).assign(imdb_id=lambda backbone: backbone["movieId"] * 31)
    write(tmp_path / "films.csv", table)
    np.save(tmp_path / "films.npy", np.ones((len(table), 3), np.float32))
    answer = run(tmp_path / "log.csv", "--items", tmp_path / "films.csv", "--vectors", tmp_path / "films.npy")
    assert answer.exit_code == 0, answer.output
    sections = yaml.safe_load(answer.output)
    assert sections["prepare"]["columns"]["text"] == ["title"]
    columns = sections["prepare"]["columns"]
    assert (columns["fields"], columns["numbers"]) == (["genre"], ["year"])
    assert "year: its 40 different numbers are taken for a quantity; where they are codes" in answer.output
    assert sections["embed"] == {"method": "supplied"}
    store = pasted(answer.output, tmp_path)
    assert store.item_table.columns.tolist() == ["item", "text", "genre", "year"]
    assert np.load(store.path / "vectors.npy").shape == (80, 3)


def test_a_folder_of_files_is_one_log(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    backbone = events(user="user_id", item="item_id", time="timestamp")
    for part in range(3):
        write(tmp_path / "log" / f"{part}.csv", backbone.iloc[part::3])
    answer = run(tmp_path / "log")
    assert "files     3, text" in answer.output
    assert pasted(answer.output, tmp_path).manifest.events == len(backbone)


BAD_ROWS = """user_id,item_id,rating,timestamp
u,a,5,881250949
u,b,1,noon
u,c
,a,1,881250950
u,b,1,881250948000
u,b,bad,881250951
u,c,1,midnight
u,c,2,881250955
u,c,2,881250955
u,a,3,881250952
"""
SEEN = (
    ("line 3: timestamp: value 'noon' is no number; fix or remove that row", 2),
    ("line 4: value 'u,c' has 2 values, the header names 4 columns; fix that line", 1),
    ("line 5: user_id: value '' is no id; fill it or remove the row", 1),
    ("line 6: timestamp: value '881250948000' is in milliseconds or beyond the year 2100; give one unit", 1),
    ("line 7: rating: value 'bad' is no number; fix or remove that row", 1),
    ("line 10: user_id, item_id, timestamp: the same user, item and time occur again; prepare.duplicates: drop", 1),
    ("line 11: timestamp: time 881250952 is earlier than the same user's event before it; prepare.order: sort", 1),
)


def test_every_problem_is_told_with_line_field_value_and_mend(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(BAD_ROWS)
    answer = run(path)
    assert answer.exit_code == 1
    for text, _ in SEEN:
        assert f"#   {path}: {text}" in answer.output
    found = check(path)
    assert sorted(problem.count for problem in found.problems) == sorted(count for _, count in SEEN)
    assert sum(problem.stops for problem in found.problems) == 5
    assert (found.survey.rows, found.survey.backwards, found.survey.repeated) == (4, 1, 1)
    assert "line 8: timestamp: value 'midnight' is no number" in answer.output


def test_many_problems_of_a_kind_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    write(
        path,
        events(user="user_id", item="item_id", time="timestamp").assign(user_id=lambda x: x["user_id"].astype(str)),
    )
    text = path.read_text().splitlines()
    path.write_text("\n".join([text[0], *("," + line.split(",", 1)[1] for line in text[1:101]), *text[101:]]))
    answer = run(path)
    assert answer.exit_code == 1
    assert [f"line {line}: user_id" in answer.output for line in (2, 3, 4, 5)] == [True, True, True, False]
    assert "... and 97 more like this" in answer.output


def test_what_is_counted_does_not_depend_on_the_size_of_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.csv"
    write(path, events(user="user_id", item="item_id", time="timestamp"))
    whole = check(path)
    monkeypatch.setattr(tables, "BLOCK_BYTES", 2000)
    parts = check(path)
    backbone = events()
    for found in (whole, parts):
        assert sorted(found.survey.lengths.tolist()) == sorted(backbone["user"].value_counts().tolist())
        assert found.survey.labels == backbone["rating"].astype(float).value_counts().to_dict()
        assert (found.survey.first, found.survey.last) == (backbone["time"].min(), backbone["time"].max())
    before = backbone.groupby("user")["time"].shift()
    assert parts.survey.backwards == whole.survey.backwards == int((backbone["time"] < before).sum())
    assert [problem.lines for problem in parts.problems] == [problem.lines for problem in whole.problems]


LINES = "user_id,item_id,rating,timestamp\nu,a,5,881250949\nv,b,1,881250950\nu,b,2,881250960\n"
PROBLEMS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "no header": ({"log.csv": "u,a,5,881250949\nv,b,1,881250950\n"},
                  ("line 1: is no header; put a line before it, like 'user_id,item_id,rating,timestamp'",)),
    "no time": ({"log.csv": "user_id,item_id\nu,a\nv,b\n"}, ("header: no column looks like the time; add such",)),
    "UTF-16": ({"log.csv": LINES.encode("utf-16")}, ("line 1: is UTF-16",)),
    "empty": ({"log.csv": ""}, ("log.csv: is empty",)),
    "suffix": ({"log.dat": LINES}, ("log.dat: has the suffix '.dat'; rename it to .csv, .tsv or .jsonl",)),
    "open quote": ({"log.csv": LINES + 'w,"b,5,881250951\n'}, ("line 5: a quote opens in 'w,b,5", "never closed")),
    "one item": ({"log.csv": LINES.replace(",b,", ",a,")}, ("item_id: the log has one item ('a')",)),
    "one time": ({"log.csv": LINES.replace("50,", "49,").replace("950\n", "949\n").replace("960\n", "949\n")},
                 ("timestamp: every event has the time 881250949",)),
    "float ids": ({"log.parquet": {"user_id": [1.0, None], "item_id": [1, 2], "timestamp": [881250949, 881250950]}},
                  ("row group 0, row 1: user_id: value 'nan' is of type double",)),
    "item without a row": ({"log.csv": LINES, "items.csv": "item_id,title\na,Red\n"},
                           ("item_id: item 'b' has no row in", "; add it there")),
    "item with two rows": ({"log.csv": LINES, "items.csv": "item_id,title\na,Red\nb,Blue\na,Rot\n"},
                           ("items.csv: line 4: item_id: item 'a' has two rows",)),
    "item of another name": ({"log.csv": LINES, "items.csv": "movie,title\na,Red\nb,Blue\n"},
                             ("items.csv: movie: the item is called so here and 'item_id' in the log; call it",)),
    "item table with another separator": ({"log.csv": LINES, "items.csv": "item_id|title\na|Red\nb|Blue\n"},
                                          ("items.csv: its separator is '|' and that of the log ','",)),
    "vectors with NaN": ({"log.csv": LINES, "items.csv": "item_id,title\na,Red\nb,Blue\n",
                          "items.npy": np.array([[1, 2], [3, np.nan]])},
                         ("items.npy: row 1, column 1: item 'b' has the value nan; fix",)),
    "vectors without items": ({"log.csv": LINES, "items.npy": np.ones((2, 2))}, ("items.npy: has no item table",)),
    "one file of another kind": ({"log/1.csv": LINES, "log/2.csv": LINES.replace("rating", "stars")},
                                 ("2.csv: rating: column is missing",)),
    "no tables": ({"log/notes.doc": "notes"}, ("log: holds no tables; put .csv, .tsv, .jsonl or .parquet files",)),
    "nothing there": ({}, ("log.csv: does not exist",)),
}  # fmt: skip


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_problem_that_would_stop_a_run_is_told_and_is_the_exit_code(tmp_path: Path, name: str) -> None:
    files, parts = PROBLEMS[name]
    for file, content in files.items():
        path = tmp_path / file
        path.parent.mkdir(exist_ok=True)
        if isinstance(content, dict):
            pq.write_table(pa.table(content), path)
        elif isinstance(content, np.ndarray):
            np.save(path, content)
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
    options: list[object] = []
    for option, file in (("--items", "items.csv"), ("--vectors", "items.npy")):
        options += [option, tmp_path / file] if file in files else []
    logs = [file for file in files if file.startswith("log")] or ["log.csv"]
    answer = run(tmp_path / ("log" if "/" in logs[0] else logs[0]), *options)
    assert answer.exit_code == 1
    (line,) = [line for line in answer.output.splitlines() if all(part in line for part in parts)]
    assert line.startswith(f"#   {tmp_path}")
    assert "; " in line


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({0: 9, 1: 1}, 1),
        ({-1: 4, 0: 5, 1: 6}, 1),
        ({1: 1, 2: 1, 3: 1, 4: 1, 5: 1}, 4),
        ({step / 2: 1 for step in range(1, 11)}, 4),
        (dict.fromkeys(range(1, 11), 1), 8),
        (dict.fromkeys(range(101), 1), 50),
        ({3: 9}, None),
        ({}, None),
    ],
)
def test_the_threshold_follows_the_scale(labels: dict[float, int], expected: float | None) -> None:
    found = check(Path("nowhere"))
    found.survey.labels.update(labels)
    assert found.positive_from == expected


def test_feedback_of_one_value_is_left_out_of_the_mapping(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    write(path, events(user="user_id", item="item_id", time="timestamp").assign(rating=1))
    answer = run(path)
    assert answer.exit_code == 0
    assert "rating: every event has the value 1, so it tells nothing apart" in answer.output
    assert yaml.safe_load(answer.output)["prepare"]["columns"]["label"] is None
    assert pasted(answer.output, tmp_path).manifest.negatives.startswith("sampled negatives")


def test_levels_of_the_feedback_are_counted_up_to_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "LEVELS", 3)
    monkeypatch.setattr(tables, "BLOCK_BYTES", 2000)
    path = tmp_path / "log.csv"
    write(path, events(user="user_id", item="item_id", time="timestamp"))
    found = check(path)
    assert not found.survey.labels_whole
    assert sum(found.survey.labels.values()) < found.survey.rows
    assert proposal(found)["prepare"]["columns"]["label_range"] is None


@pytest.mark.parametrize("whole", [True, False])
def test_official_layouts_are_recognized(tmp_path: Path, whole: bool) -> None:
    write_atomic(tmp_path / "atomic")
    write_movielens(tmp_path / "official")
    for folder, log in (("atomic", "ml-100k.inter"), ("official", "u.data")):
        answer = run(tmp_path / folder if whole else tmp_path / folder / log)
        assert answer.exit_code == 0, answer.output
        assert f"events    {len(make_log()[0]):,}\n" in answer.output
        home = tmp_path / f"home-{folder}"
        home.mkdir()
        store = pasted(answer.output, home)
        assert store.manifest.dataset == "movielens-100k"
        assert store.manifest.positive_from == 4.0


GUESSES = {
    "user_id,video_id,date,hourmin,time_ms,is_click,is_rand\n0,1,20220421,900,1650500000123,1,0\n": (
        "kuairand", {"user": "user_id", "item": "video_id", "time": "time_ms", "label": "is_click"}),
    "userId,movieId,rating,timestamp\n1,31,2.5,1260759144\n": (
        "movielens", {"user": "userId", "item": "movieId", "time": "timestamp", "label": "rating"}),
    "user_id,parent_asin,rating,timestamp\nAE,B0,5.0,1559393000000\n": (
        "amazon-reviews-2023", {"user": "user_id", "item": "parent_asin", "time": "timestamp", "label": "rating"}),
    "user_id,item_id,place,platform,agent,timespent,like\n1,2,3,4,5,6,0\n": (
        "vk-lsvd", {"user": "user_id", "item": "item_id", "label": "like"}),
    "user_id,item_id,timestamp,action,text\n296,0,593395200,modify,(free): Added code\n": (
        None, {"user": "user_id", "item": "item_id", "time": "timestamp"}),
    "user,item,timestamp_ms,vote,label,conversation\na:0,a:0,1403054214196,0,0,a\n": (
        None, {"user": "user", "item": "item", "time": "timestamp_ms", "label": "label"}),
    "when,who,what,how\n2024-01-01,a,b,good\n": (None, {"user": "who", "item": "what", "time": "when"}),
}  # fmt: skip


@pytest.mark.parametrize("text", GUESSES)
def test_columns_are_known_by_their_names(tmp_path: Path, text: str) -> None:
    path = tmp_path / "log.csv"
    path.write_text(text)
    found = guess_log(path)
    assert (found.official, found.roles) == GUESSES[text]
    assert found.by_value == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("item,conversation,timestamp,author-id,moderated,comment-body\n"
         + "".join(f"a:{n},a{n % 2},154240617658{n},{n},{n % 2},Not sure {n}\n" for n in range(9)),
         (("comment-body",), ("conversation", "moderated"))),
        ("item,path,first_date,component\n" + "".join(f"{n},gcc/{n}.c,1988102{n},gcc{n % 2}\n" for n in range(9)),
         (("path",), ("component",))),
    ],
)  # fmt: skip
def test_columns_of_items_are_texts_or_fields(
    tmp_path: Path, text: str, expected: tuple[tuple[str, ...], tuple[str, ...]]
) -> None:
    path = tmp_path / "items.csv"
    path.write_text(text)
    found = guess_items(path, "item")
    assert (found.text, found.fields) == expected

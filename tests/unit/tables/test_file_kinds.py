"""JSON lines and RecBole's atomic files as own logs, and official folders that are not whole."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from checked import pasted, run
from kit import says
from tiny import make_log

from hisac_lab.base.artifacts import stage_output
from hisac_lab.config.acquire import AcquireConfig
from hisac_lab.config.events import PrepareConfig
from hisac_lab.sources.acquire import acquire
from hisac_lab.tables.files import JSON_LINES, layout_of, logs_in
from hisac_lab.tables.layouts.own import own
from hisac_lab.tables.official import REQUIRED, missing

LOG = make_log()[0].rename(columns={"user": "user_id", "item": "item_id", "time": "timestamp"})
ITEMS = make_log()[1].rename(columns={"item": "item_id"})


def objects(rows: pd.DataFrame) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows.to_dict("records"))


@pytest.mark.parametrize("suffix", [".jsonl", ".ndjson", ".jsonl.gz"])
def test_json_lines_are_read_like_any_table(tmp_path: Path, suffix: str) -> None:
    log, items = tmp_path / f"log{suffix}", tmp_path / "items.jsonl"
    text = objects(LOG.assign(clicked=LOG["rating"] > 3).drop(columns="rating"))
    log.write_bytes(gzip.compress(text.encode()) if suffix.endswith("gz") else text.encode())
    items.write_text(objects(ITEMS))
    answer = run(log, "--items", items)
    assert answer.exit_code == 0, answer.output
    assert "files     1, JSON lines" in answer.output
    columns = yaml.safe_load(answer.output)["prepare"]["columns"]
    assert (columns["label"], columns["separator"], columns["text"]) == ("clicked", None, ["title"])
    store = pasted(answer.output, tmp_path)
    assert (store.manifest.events, store.manifest.items_described) == (len(LOG), len(ITEMS))
    assert store.feedback is not None
    assert store.manifest.feedback is not None
    assert (store.feedback >= store.manifest.feedback.positive).sum() == int((LOG["rating"] > 3).sum())


GOOD = '{"user_id": 1, "item_id": "a", "timestamp": 881250949, "rating": 4}\n'
BROKEN: dict[str, tuple[str | bytes, str]] = {
    "no object": ("[1, 2]\n", "line 2: value '[1, 2]' is no JSON object; write one flat JSON object a line"),
    "cut": ('{"user_id": 1\n', """line 2: value '{"user_id": 1' is no JSON object"""),
    "nested": (GOOD.replace('"a"', '["a"]'), """line 2: item_id: value '["a"]' is no plain value; write one flat"""),
    "missing": (GOOD.replace('"item_id": "a", ', ""), "line 2: item_id: the value is missing; fill it"),
    "no number": (GOOD.replace("881250949", '"noon"'), "line 2: timestamp: value 'noon' is no number"),
    "Latin-1": (b'{"user_id": "caf\xe9"}\n', "line 2: value"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_line_that_is_no_flat_object_is_told(tmp_path: Path, name: str) -> None:
    bad, part = BROKEN[name]
    path = tmp_path / "events" / "log.jsonl"
    path.parent.mkdir()
    more = GOOD.replace('"a"', '"b"').replace("949", "950")
    path.write_bytes(GOOD.encode() + (bad if isinstance(bad, bytes) else bad.encode()) + more.encode())
    with says(part):
        list(own(tmp_path, PrepareConfig()).blocks())
    answer = run(path)
    assert answer.exit_code == 1
    assert part in answer.output
    assert "# events    2\n" in answer.output


def test_json_lines_have_a_layout_of_their_own(tmp_path: Path) -> None:
    assert layout_of(Path("a.ndjson.zst"), ";") == JSON_LINES
    (tmp_path / "events").mkdir()
    (tmp_path / "events" / "log.jsonl").write_text("")
    with says("log.jsonl", "is empty"):
        list(own(tmp_path, PrepareConfig()).blocks())
    assert "is empty" in run(tmp_path / "events" / "log.jsonl").output


def atomic(folder: Path) -> None:
    """The made-up log in RecBole's files, under a name of its own; quotes are text there."""
    folder.mkdir()
    heads = {"user_id": "user_id:token", "item_id": "item_id:token", "rating": "rating:float"}
    LOG.rename(columns=heads | {"timestamp": "timestamp:float"}).to_csv(folder / "shop.inter", sep="\t", index=False)
    table = ITEMS.assign(title='5" ' + ITEMS["title"])[["item_id", "title", "genre"]]
    rows = ["item_id:token\ttitle:token_seq\tgenre:token", *("\t".join(map(str, row)) for row in table.to_numpy())]
    (folder / "shop.item").write_text("\n".join(rows) + "\n")
    (folder / "shop.user").write_text("user_id:token\n1\n")


@pytest.mark.parametrize("whole", [True, False])
def test_atomic_files_of_any_data_set_are_an_own_log(tmp_path: Path, whole: bool) -> None:
    folder = tmp_path / "shop"
    atomic(folder)
    answer = run(folder if whole else folder / "shop.inter", "--items", folder / "shop.item")
    assert answer.exit_code == 0, answer.output
    sections: dict[str, Any] = yaml.safe_load(answer.output)
    assert sections["acquire"]["dataset"] == "own"
    columns = sections["prepare"]["columns"]
    assert [columns[role] for role in ("user", "item", "time", "label")] == [
        "user_id:token", "item_id:token", "timestamp:float", "rating:float"]  # fmt: skip
    assert (columns["text"], columns["fields"]) == (["title:token_seq"], ["genre:token"])
    store = pasted(answer.output, tmp_path)
    assert store.manifest.events == len(LOG)
    assert store.item_table["text"][0].startswith('5" ')


def test_a_folder_gives_the_same_files_to_check_and_to_acquire(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    atomic(folder)
    (folder / "notes.txt").write_text("notes")
    (folder / "._shop.inter").write_bytes(b"\0what a Mac leaves")
    assert logs_in(folder.iterdir()) == [folder / "shop.inter"]
    with stage_output(tmp_path / "out") as out:
        acquire(AcquireConfig(dataset="own", path=str(folder), items_path=str(folder / "shop.item")), out=out)
    assert [path.name for path in (tmp_path / "out" / "events").iterdir()] == ["shop.inter"]
    assert (tmp_path / "out" / "items.item").exists()


def test_an_official_folder_that_is_not_whole_is_told(tmp_path: Path) -> None:
    ratings = LOG.rename(columns={"user_id": "userId", "item_id": "movieId"})
    ratings.to_csv(tmp_path / "ratings.csv", index=False)
    answer = run(tmp_path)
    assert answer.exit_code == 1
    assert f"{tmp_path / 'movies.csv'}: does not exist, and movielens needs it; add it, or take" in answer.output
    (tmp_path / "movies.csv.gz").touch()
    assert missing("movielens", tmp_path) == ()


@pytest.mark.parametrize("name", REQUIRED)
def test_what_is_missing_is_what_the_likeliest_edition_lacks(tmp_path: Path, name: str) -> None:
    for files in REQUIRED[name]:
        folder = tmp_path / files[0].replace("*", "x")
        folder.mkdir()
        for place, file in enumerate(files):
            assert missing(name, folder) == files[place:] or not place
            (folder / file.replace("*", "x")).touch()
        assert missing(name, folder) == ()

"""Three days of an own log in a folder: what a day computes is exactly what its files ask for."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import pandas as pd
import pytest
from lab import RUNNING, Lab
from tiny import make_log

SEEN = {"ingest", "shard@0", "shard@1", "prepare"}
SPACE = {"embed", "tokenize"}
LEARNED = {"instances", "plan", "sweep@hisac", "train@din_50-0", "train@hisac-0", "train@mean-0"}
JUDGED = {"evaluate", "abtest", "register", "report"}
ALL = {"acquire", *SEEN, *SPACE, "codebook", *LEARNED, *JUDGED}


def day(lab: Lab) -> tuple[set[str], str]:
    """The stages that `hisac-lab day` really computes, and what it says."""
    shutil.rmtree(lab.path / "logs", ignore_errors=True)
    answer = lab.run("hisac-lab", "day", "--cores", "2")
    assert answer.code == 0, answer.text
    logs = (log.read_text() for log in (lab.path / "logs").glob("*.log"))
    return set(RUNNING.findall(answer.text)) | {name for log in logs for name in RUNNING.findall(log)}, answer.text


@pytest.fixture
def days(lab: Lab) -> list[pd.DataFrame]:
    """The log, in three parts by time; the project reads the folder `days`, in which the first lies."""
    events, table = make_log()
    events = events.sort_values("time", ignore_index=True)
    at = [0, len(events) * 3 // 5, len(events) * 4 // 5, len(events)]
    parts = [events[begin:end] for begin, end in itertools.pairwise(at)]
    (lab.path / "days").mkdir()
    table.to_csv(lab.path / "films.csv", index=False)
    lab.set(**{"acquire.dataset": "own", "acquire.path": "days", "acquire.items_path": "films.csv"})
    columns = {"user": "user", "item": "item", "time": "time", "label": "rating", "text": ["title"]}
    for name, value in columns.items():
        lab.set(**{f"prepare.columns.{name}": value})
    lab.set(**{"prepare.positive_from": 4.0, "train.start_from": None})
    (lab.path / ".gitignore").open("a").write("/days/\n/films.csv\n")
    put(lab, "2026-11-01.csv", parts[0])
    return parts


def put(lab: Lab, name: str, events: pd.DataFrame) -> Path:
    path = lab.path / "days" / name
    events.to_csv(path, index=False)
    return path


def test_a_day_computes_what_its_files_ask_for_and_no_more(lab: Lab, days: list[pd.DataFrame]) -> None:
    first, said = day(lab)
    assert first == ALL | {"code"}, "the settings name another data set"
    assert "new files of the log: 2026-11-01.csv, films.csv" in said
    assert "champion: no champion; challenger: " in said
    assert day(lab)[0] == set(), "nothing is new"
    put(lab, "2026-11-02.csv", days[1])
    second, said = day(lab)
    assert second == ALL - {"codebook"}, "the items are the same: so is the codebook, to the byte"
    assert "new files of the log: 2026-11-02.csv" in said
    lab.set(**{"train.start_from": "set by promote", "promotion.max_calibration_error": 1.0})
    answer = lab.run("hisac-lab", "promote", "hisac", "--force", "--reason", "the first")
    assert answer.code == 0, answer.text
    put(lab, "2026-11-03.csv", days[2])
    third, said = day(lab)
    assert third == ALL - {"codebook"} | {"code", "train@champion-0"}, "the champion came onto the board"
    logs = "".join(log.read_text() for log in (lab.path / "logs").glob("*.log"))
    assert "train hisac seed 0: begins with" in logs
    assert "train mean seed 0: begins with drawn weights, the champion is of kind hisac" in logs
    assert "champion: hisac version " in said
    assert lab.both_idle()
    old = lab.path / "days/2026-11-01.csv"
    old.write_text(old.read_text().replace(",5,", ",1,", 1))
    refused = lab.run("hisac-lab", "day")
    assert refused.code == 1
    assert "2026-11-01.csv was read, and was changed since or is gone: days are appended" in refused.text

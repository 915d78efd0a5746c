"""`hisac-lab data check --users`: the mapping of a table of users, and what would stop a run at it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from checked import pasted, run
from tiny import make_log, make_people


def _log() -> pd.DataFrame:
    return make_log()[0].set_axis(["userId", "movieId", "score", "timestamp"], axis=1)


def _people() -> pd.DataFrame:
    people = make_people().rename(columns={"user": "userId"})
    return people.assign(email=people["userId"].astype(str) + "@x")


def test_users_are_mapped_too(tmp_path: Path) -> None:
    """Ids, names and what tells each user apart are no columns for a model; users without a row are noted."""
    _log().to_csv(tmp_path / "log.csv", index=False)
    _people().iloc[5:].to_csv(tmp_path / "people.csv", index=False)
    answer = run(tmp_path / "log.csv", "--users", tmp_path / "people.csv")
    assert answer.exit_code == 0, answer.output
    columns = yaml.safe_load(answer.output)["prepare"]["columns"]
    assert (columns["user_fields"], columns["user_numbers"]) == (["gender", "occupation"], ["age"])
    assert "has no row for 5 users of the log" in answer.output
    store = pasted(answer.output, tmp_path)
    known = store.manifest.context.user
    assert (known.names, known.fields[0].values) == (("gender", "occupation", "age"), ("F", "M"))
    told = store.side("user").rows(np.arange(len(store.user_ids)))
    people = _people().set_index("userId").iloc[5:]
    for user, row in zip(store.user_ids.astype(int), told, strict=True):
        expected = known.row(people.loc[user].to_dict() if user in people.index else {})
        np.testing.assert_array_equal(row, expected[0])


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("people.csv", lambda table: pd.concat([table, table.iloc[:1]]), ("user '1' has two rows in the user table",)),
        ("people.csv", lambda table: table.rename(columns={"userId": "who"}), ("no column is called 'userId'",)),
        ("people.csv", lambda table: table.assign(age=["?", *table["age"][1:]]), ("line 2: age", "is no number")),
        ("other.csv", lambda table: table, ("its separator is ';' and that of the log ','",)),
        ("people.txt", lambda table: table, ("has the suffix '.txt'", "rename it")),
    ],
)
def test_a_table_of_users_that_would_stop_a_run_is_told(
    tmp_path: Path, name: str, change: Callable[[pd.DataFrame], pd.DataFrame], words: tuple[str, ...]
) -> None:
    _log().to_csv(tmp_path / "log.csv", index=False)
    change(_people()).to_csv(tmp_path / name, sep=";" if name == "other.csv" else ",", index=False)
    answer = run(tmp_path / "log.csv", "--users", tmp_path / name)
    assert answer.exit_code == 1
    assert any(all(word in line for word in (name, *words)) for line in answer.output.splitlines()), answer.output

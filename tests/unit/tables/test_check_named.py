"""A log of odd names: what cannot be guessed is asked for, and what the user names is taken."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import yaml
from checked import pasted, run
from tiny import make_log

from hisac_lab.tables.guess import guess_items

LOG, ITEMS = (
    make_log()[0].rename(columns={"user": "Who", "item": "Recipe", "time": "When", "rating": "what_happened"}),
    make_log()[1].rename(columns={"item": "Recipe"}),
)
COOKED = LOG.assign(what_happened=LOG["what_happened"].map(lambda stars: "cooked" if stars > 3 else "skipped"))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    COOKED.to_csv(tmp_path / "log.csv", index=False)
    return tmp_path / "log.csv"


def test_words_of_which_half_are_known_are_not_passed_over_and_the_line_says_what_to_type(log: Path) -> None:
    answer = run(log)
    assert "feedback  none is read, though what_happened may be: see the notes" in answer.output
    assert "where it is, name it with --column label='what_happened'; --positive WORD" in answer.output


def test_a_column_and_its_positive_words_that_are_named_make_the_mapping(log: Path, tmp_path: Path) -> None:
    answer = run(log, "--column", "label=what_happened", "--positive", "cooked")
    assert answer.exit_code == 0, answer.output
    prepare = yaml.safe_load(answer.output)["prepare"]
    assert prepare["columns"]["label"] == "what_happened"
    assert (prepare["columns"]["label_values"], prepare["positive_from"]) == ({"skipped": 0, "cooked": 1}, 1)
    assert "guess to be confirmed" not in answer.output
    store = pasted(answer.output, tmp_path)
    assert store.feedback is not None
    assert store.manifest.feedback is not None
    assert (store.feedback >= store.manifest.feedback.positive).sum() == (COOKED["what_happened"] == "cooked").sum()


def test_words_that_nobody_knows_stop_until_they_are_named(log: Path) -> None:
    answer = run(log, "--column", "label=what_happened")
    assert answer.exit_code == 1
    (line,) = [line for line in answer.output.splitlines() if "nobody knows" in line]
    first, second = COOKED["what_happened"].unique()
    assert f"which of '{first}', '{second}' is positive; name each word that is, with --positive WORD" in line


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--column", "label=verdict"], "no column is called 'verdict', which is named as the label; name one of Who"),
        (["--positive", "cooked"], "--positive: no column is the feedback; name it with --column label=COLUMN"),
        (["--column", "label=what_happened", "--positive", "eaten"], "no event has the feedback 'eaten'; name one of"),
        (["--column", "time=what_happened"], "log.csv: line 2: what_happened"),
    ],
)
def test_a_wrong_name_is_one_line(log: Path, options: list[str], told: str) -> None:
    answer = run(log, *options)
    assert answer.exit_code == 1
    assert any(told in line for line in answer.output.splitlines()), answer.output


def test_a_role_that_does_not_exist_is_refused(log: Path) -> None:
    answer = run(log, "--column", "price=Who")
    assert answer.exit_code != 0
    assert "write ROLE=COLUMN, the role one of user, item, time, label" in str(answer.exception)


def test_a_named_column_leaves_its_guessed_role(log: Path) -> None:
    columns = yaml.safe_load(run(log, "--column", "user=Recipe", "--column", "item=Who").output)["prepare"]["columns"]
    assert (columns["user"], columns["item"]) == ("Recipe", "Who")


def test_the_key_of_the_item_table_is_the_column_that_holds_the_items_of_the_log(log: Path, tmp_path: Path) -> None:
    """`Course` is a name of an item elsewhere; the ids stand in `recipe_no`."""
    table = ITEMS.rename(columns={"Recipe": "recipe_no", "genre": "Course"})
    table[["Course", "title", "recipe_no"]].to_csv(tmp_path / "items.csv", index=False)
    answer = run(log, "--items", tmp_path / "items.csv")
    assert answer.exit_code == 1
    told = "recipe_no: the item is called so here and 'Recipe' in the log; call it 'Recipe' in the header of this table"
    assert told in answer.output


def test_amounts_are_numbers_and_few_whole_numbers_are_categories(tmp_path: Path) -> None:
    frame = pd.DataFrame({
        "item": range(200), "title": "Soup", "price": [n + 0.5 for n in range(200)],
        "minutes": range(200), "course": [n % 7 for n in range(200)],
    })  # fmt: skip
    frame.to_csv(tmp_path / "items.csv", index=False)
    found = guess_items(tmp_path / "items.csv", "item")
    assert (found.fields, found.numbers) == (("course",), ("price", "minutes"))
    assert [(name, what) for name, what, _ in found.notes] == [
        ("minutes", "its 200 different numbers are taken for a quantity"),
        ("course", "its 7 different numbers are taken for codes"),
    ]

"""`hisac-lab data check --write`: the mapping in params.yaml, everything else as it was."""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest
import yaml
from checked import run
from kit import says
from tiny import make_log

from hisac_lab.cli import settings
from hisac_lab.cli.params import defaults, load_params
from hisac_lab.config.base import PARAMS_FILE

LOG = make_log()[0].rename(columns={"user": "user_id", "item": "item_id", "time": "date"})
PLAIN = defaults().replace("train:  # one", "# my own words\ntrain:  # one")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with the default settings and a note in them, and a log."""
    monkeypatch.chdir(tmp_path)
    PARAMS_FILE.write_text(PLAIN)
    words = LOG["rating"].map(lambda stars: "yes" if stars > 3 else "no")
    LOG.assign(rating=words).to_csv("log.csv", sep=";", index=False)


def test_the_mapping_is_written_and_the_rest_stays() -> None:
    answer = run("log.csv", "--write")
    assert answer.exit_code == 0, answer.output
    params = load_params()
    columns = params.prepare.columns
    assert (params.acquire.dataset, params.acquire.path) == ("own", "log.csv")
    assert (columns.time, columns.separator, columns.label_values) == ("date", ";", {"no": 0, "yes": 1})
    assert (params.prepare.positive_from, params.embed.method) == (1, "cooccurrence")
    changes = list(difflib.ndiff(PLAIN.splitlines(), PARAMS_FILE.read_text().splitlines()))
    taken = [line for line in changes if line.startswith("- ")]
    assert {line.split(":")[0].strip("- ") for line in taken} == {
        "dataset", "path", "time", "separator", "label_values", "positive_from", "method"}  # fmt: skip
    put = [line.partition("  # ")[2] for line in changes if line.startswith("+ ")]
    assert put == [line.partition("  # ")[2] for line in taken]  # comments stay
    assert "# my own words" in PARAMS_FILE.read_text()


def test_what_is_changed_is_printed_and_nothing_twice() -> None:
    answer = run("log.csv", "--write")
    head, _, told = answer.output.partition("\n# Written into params.yaml\n")
    assert "# prepare.columns.time: date  # was timestamp\n" in told
    assert "# prepare.columns.label_values: {'no': 0.0, 'yes': 1.0}  # was null\n" in told
    assert "prepare.order" not in told
    written = PARAMS_FILE.read_text()
    again = run("log.csv", "--write")
    assert again.output == f"{head}\n# params.yaml says so already\n"
    assert PARAMS_FILE.read_text() == written
    assert yaml.safe_load(again.output)["prepare"]["columns"]["label_values"] == {"no": 0, "yes": 1}


def test_nothing_is_written_where_a_run_would_stop() -> None:
    text = Path("log.csv").read_text()
    Path("log.csv").write_text(text + "1;2;yes\n")
    answer = run("log.csv", "--write")
    assert answer.exit_code == 1
    assert "Problems: a run stops at each of them" in answer.output
    with says("log.csv: --write", "a run would stop at it, so nothing is written", "mend it"):
        raise answer.exception  # type: ignore[misc]
    assert PARAMS_FILE.read_text() == PLAIN


def test_several_values_are_right_together_or_not_written() -> None:
    both = {"prepare.train_share": 0.95, "prepare.valid_share": 0.04}  # each alone would be refused or not
    assert settings.changes(both) == [
        "prepare.train_share: 0.95  # was 0.7", "prepare.valid_share: 0.04  # was 0.1"]  # fmt: skip
    written = PARAMS_FILE.read_text()
    with says("train_share and valid_share leave nothing"):
        settings.changes({"train.epochs": 9, "prepare.valid_share": 0.5})
    assert PARAMS_FILE.read_text() == written


def test_words_that_yaml_takes_for_truths_are_words() -> None:
    PARAMS_FILE.write_text(PLAIN.replace("label_values:  #", "label_values: {yes: 1, No: 0, True: 2, 1: 3}  #"))
    assert load_params().prepare.columns.label_values == {"yes": 1, "No": 0, "True": 2, "1": 3}


@pytest.mark.parametrize("form", ["noon", "%Q", "%d.%m.%Y %"])
def test_a_format_that_is_none_is_refused_at_the_door(form: str) -> None:
    PARAMS_FILE.write_text(PLAIN.replace("time_format: seconds", f"time_format: '{form}'"))
    with says("params.yaml: prepare.columns.time_format"):
        load_params()

"""`hisac-lab init`: settings for a log, each with a reason, right as a whole and written without a loss."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import says
from typer.testing import CliRunner

from hisac_lab.cli.advice import LIKE, READ, Profile, advise, profile_of
from hisac_lab.cli.main import app
from hisac_lab.cli.params import defaults, load_params
from hisac_lab.config.base import PARAMS_FILE


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    PARAMS_FILE.write_text(defaults())
    return tmp_path


def made(users: int, events: int, days: int, items: int, labels: list[int] | None) -> pd.DataFrame:
    """A log in which every user has as many events, evenly over the days."""
    random = np.random.default_rng(0)
    times = np.linspace(1_600_000_000, 1_600_000_000 + days * 86_400, events).astype(int)
    table = pd.DataFrame({
        "user_id": np.repeat(np.arange(users), events),
        "item_id": random.integers(0, items, users * events),
        "timestamp": np.tile(times, users),
    })  # fmt: skip
    return table if labels is None else table.assign(rating=random.choice(labels, users * events))


def settings_for(log: Profile) -> dict[str, object]:
    return {one.key: one.value for one in advise(log)}


@pytest.mark.parametrize("like", LIKE)
def test_what_is_written_is_right_as_a_whole_and_each_line_has_a_reason(project: Path, like: str) -> None:
    answer = CliRunner().invoke(app, ["init", "--like", like, "--write"])
    assert answer.exit_code == 0, answer.exception
    params = load_params().model_dump(mode="json")
    for key, value in settings_for(LIKE[like]).items():
        place = params
        for step in key.split("."):
            place = place[step]
        assert place == value or key == "sweep.space"
    lines = answer.output.splitlines()
    assert [line.startswith("  # ") for line in lines[:-1]] == [False, True] * (len(lines) // 2)
    assert lines[-1] == "# Written into params.yaml"
    before = {line.partition("  #")[2] for line in defaults().splitlines()}
    assert before <= {line.partition("  #")[2] for line in PARAMS_FILE.read_text().splitlines()}  # comments stay


def test_three_kinds_of_logs_are_told_apart_by_their_own_numbers(project: Path) -> None:
    made(30, 40, 100, 50, [1, 2, 3, 4, 5]).to_csv("short.csv", index=False)
    made(4, 2_000, 1_500, 400, None).to_csv("long.csv", index=False)
    made(20, 100, 800, 900, [-1, 1]).to_csv("votes.csv", index=False)
    short, long, votes = (settings_for(profile_of(Path(f"{name}.csv"))) for name in ("short", "long", "votes"))
    assert short["prepare.history_limit"] == 64
    assert (short["tokenize.widths"], short["models.hisac.agents"]) == ([16, 8], 32)
    assert short["prepare.half_lives"] == [1.0, 7.0]
    assert "prepare.negatives_by" not in short
    assert long["prepare.history_limit"] == 2_048
    assert (long["prepare.negatives_by"], long["prepare.new_items"]) == ("matched", "drop")
    assert (long["models.hisac.agents"], long["models.hisac.decay"]) == (128, "power")
    assert long["prepare.half_lives"] == [1.0, 7.0, 30.0, 90.0, 365.0]
    assert long["sweep.max_state_bytes"] == 32_768
    assert votes["prepare.history"] == "all"
    assert (votes["tokenize.widths"], votes["backbone.dim"]) == ([32, 32, 32], 16)
    assert "prepare.history" not in short


def test_times_that_are_days_are_kept_apart_by_days(project: Path) -> None:
    log = made(5, 60, 59, 30, None)
    log["timestamp"] = log["timestamp"] // 86_400 * 86_400
    log.to_csv("days.csv", index=False)
    found = settings_for(profile_of(Path("days.csv")))
    assert (found["prepare.time_unit"], found["prepare.half_lives"]) == ("day", [1.0, 7.0])


profiles = st.builds(
    Profile,
    events=st.integers(10, 10**9),
    items=st.integers(2, 10**7),
    middle=st.integers(1, 10**5),
    most=st.integers(1, 10**6),
    days=st.floats(0.01, 20_000),
    daily=st.booleans(),
    votes=st.booleans(),
    labeled=st.booleans(),
)


@given(profiles)
def test_whatever_the_log_limits_hold(log: Profile) -> None:
    found = settings_for(replace(log, most=max(log.most, log.middle)))
    limit, kept = found["prepare.history_limit"], found.get("prepare.keep.train", 1.0)
    assert isinstance(limit, int)
    assert isinstance(kept, float)
    assert max(50, log.most, log.middle) <= limit <= max(50, 2 * max(log.most, log.middle))
    assert 0 < kept <= 1
    assert kept == 1 or kept * log.events * log.middle <= 1.5 * READ
    half_lives = found["prepare.half_lives"]
    assert isinstance(half_lives, list)
    assert half_lives == sorted(set(half_lives))
    assert 1 <= len(half_lives) <= 5
    assert found["train.batch_requests"] in (8, 16, 32, 64, 128, 256)


def test_what_cannot_be_proposed_is_told(project: Path) -> None:
    def invoke(*options: str) -> None:
        answer = CliRunner().invoke(app, ["init", *options])
        assert answer.exception is not None
        raise answer.exception

    with says("hisac-lab init: wants one of --like and --log; --like short, long, votes; --log PATH"):
        invoke()
    with says("--like: there is no log like 'huge'; name one of short, long, votes"):
        invoke("--like", "huge")
    Path("torn.csv").write_text("user_id,item_id,timestamp\n1,2\n")
    with says("torn.csv: a run would stop at it: torn.csv: line 2", "; see all of `hisac-lab data check torn.csv`"):
        invoke("--log", "torn.csv")
    assert PARAMS_FILE.read_text() == defaults()


def test_without_an_option_the_own_log_of_the_settings_is_looked_at_with_its_tables(project: Path) -> None:
    """Only the table beside it says that `b` is the item: by itself the first column of ids is taken for the user."""
    log = made(users=90, events=20, days=30, items=700, labels=[0, 1])
    log = log.rename(columns={"item_id": "b", "user_id": "a"}).assign(b=lambda table: "i" + table["b"].astype(str))
    log[["b", "a", "timestamp", "rating"]].to_csv("log.csv", index=False)
    pd.DataFrame({"b": log["b"].unique()}).assign(title="one").to_csv("items.csv", index=False)
    for key, value in {"dataset": "own", "path": "log.csv", "items_path": "items.csv"}.items():
        assert CliRunner().invoke(app, ["params", "set", f"acquire.{key}", value]).exit_code == 0
    told, alone = (CliRunner().invoke(app, ["init", *options]).output for options in ([], ["--log", "log.csv"]))
    assert "the median user has 20 events" in told
    assert "the median user has 20 events" not in alone


def test_columns_of_the_settings_lead_and_not_the_guess(project: Path) -> None:
    """The label is a word that nobody knows, so that the log alone looks like one without feedback."""
    log = made(users=90, events=20, days=30, items=700, labels=[0, 1])
    log["rating"] = log["rating"].map({0: "skipped", 1: "cooked"})
    log.rename(columns={"rating": "verdict"}).to_csv("log.csv", index=False)
    values = {
        "acquire.dataset": "own",
        "acquire.path": "log.csv",
        "prepare.columns.label": "verdict",
        "prepare.columns.label_values": "{skipped: 0, cooked: 1}",
    }
    for key, value in values.items():
        assert CliRunner().invoke(app, ["params", "set", key, value]).exit_code == 0
    log.rename(columns={"rating": "opinion"}).to_csv("other.csv", index=False)
    asked: tuple[list[str], ...] = ([], ["--log", "log.csv"], ["--log", "other.csv"])
    *named, guessed = (CliRunner().invoke(app, ["init", *options]).output for options in asked)
    for told in named:
        assert "prepare.history: all" in told
        assert "negatives_by" not in told
    assert "negatives_by: matched" in guessed
    assert CliRunner().invoke(app, ["params", "set", "prepare.columns.label", "null"]).exit_code == 0
    assert "negatives_by: matched" in CliRunner().invoke(app, ["init"]).output


def test_rows_that_the_settings_leave_out_are_in_nobodys_way(project: Path) -> None:
    log = made(users=90, events=20, days=30, items=700, labels=[0, 1]).astype(str)
    log.loc[7, "user_id"] = ""
    log.to_csv("log.csv", index=False)
    for key, value in {"acquire.dataset": "own", "acquire.path": "log.csv", "prepare.positive_from": "1"}.items():
        assert CliRunner().invoke(app, ["params", "set", key, value]).exit_code == 0
    refused = CliRunner().invoke(app, ["init"])
    assert "or set prepare.bad_rows: drop" in str(refused.exception)
    assert CliRunner().invoke(app, ["params", "set", "prepare.bad_rows", "drop"]).exit_code == 0
    assert "the median user has 20 events" in CliRunner().invoke(app, ["init"]).output

"""The command `day`: new files alone are taken, in the order of the graph; an earlier day is never rewritten."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from kit import says

from hisac_lab.base.artifacts import stage_output
from hisac_lab.cli import day, origin, registry
from hisac_lab.cli.params import defaults
from hisac_lab.cli.paths import ARTIFACTS, RUNNING
from hisac_lab.config.acquire import AcquireConfig
from hisac_lab.sources.acquire import acquire

ROWS = "user_id,item_id,timestamp\nu,a,1\nu,b,2\n"
TAKE = ["dvc", "repro", "--force", "--single-item", "acquire"]
RUN = ["snakemake", "--quiet", "rules", "host", "--cores", "2", "all"]


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that are run, in a folder whose log has one day that was read."""
    monkeypatch.chdir(tmp_path)
    Path("days").mkdir()
    Path("days/1.csv").write_text(ROWS)
    text = defaults().replace("dataset: movielens-100k", "dataset: own").replace("  path:  #", "  path: days  #", 1)
    Path("params.yaml").write_text(text)
    with stage_output(ARTIFACTS.acquire) as out:
        acquire(AcquireConfig(dataset="own", path="days"), out=out)
    commands: list[list[str]] = []

    def run(command: list[str], env: dict[str, str], check: bool) -> SimpleNamespace:
        assert str(Path(sys.executable).parent) in env["PATH"].split(os.pathsep)
        commands.append([Path(command[0]).name, *command[1:]])
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(registry, "proposed", lambda: "nobody")
    return commands


def test_an_environment_that_is_not_activated_has_its_own_commands(
    ran: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin")
    day.run(2)
    assert ran == [RUN]


def test_a_new_file_is_taken_before_the_graph_runs(ran: list[list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    Path("days/2.csv").write_text(ROWS.replace("a", "c"))
    day.run(2)
    assert ran == [TAKE, RUN]
    assert capsys.readouterr().out == "new files of the log: 2.csv\nnobody\n"


def test_without_a_new_file_the_log_is_not_read_again(ran: list[list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    day.run(2)
    assert ran == [RUN]
    assert capsys.readouterr().out == "new files of the log: none\nnobody\n"


def test_on_the_first_day_the_graph_takes_the_log_by_itself(ran: list[list[str]]) -> None:
    (ARTIFACTS.acquire / "manifest.json").unlink()
    assert origin.appended() == [Path("days/1.csv")]
    day.run(2)
    assert ran == [RUN]


@pytest.mark.parametrize("change", ["rewritten", "gone"])
def test_an_earlier_day_that_is_not_what_it_was_stops_it(change: str, ran: list[list[str]]) -> None:
    Path("days/1.csv").write_text(ROWS + "u,c,3\n") if change == "rewritten" else Path("days/1.csv").unlink()
    with says("days: 1.csv was read, and was changed since or is gone", "dvc repro --force --single-item acquire"):
        day.run(2)
    assert ran == []


def test_no_day_is_taken_while_a_graph_runs_here(ran: list[list[str]]) -> None:
    Path("days/2.csv").write_text(ROWS.replace("a", "c"))
    RUNNING.parent.mkdir()
    RUNNING.write_text("4711")
    with RUNNING.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with says("another run (process 4711) works here, so the log is not taken; wait for it or stop it"):
            day.run(2)
        assert ran == []
    day.run(2)
    assert ran == [TAKE, RUN]


def test_only_a_log_of_ones_own_has_days(ran: list[list[str]]) -> None:
    Path("params.yaml").write_text(defaults())
    with says("params.yaml: acquire.dataset: is movielens-100k: only a log of your own has days"):
        day.run(2)


def test_a_command_that_fails_ends_the_day(ran: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda command, env, check: SimpleNamespace(returncode=3))
    with says("day: `snakemake --quiet rules host --cores 2 all` ended with 3", "`hisac-lab day` again"):
        day.run(2)

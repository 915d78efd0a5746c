"""One study on a real PostgreSQL: no trial lost, none twice, through killed machines and a server that goes away."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import worker
from kit import Stages, says
from postgres import Server, postgres
from sweeping import quick_task

from hisac_lab.sweep.records import Swept, Trial
from hisac_lab.sweep.shared import TRIES, take_part
from hisac_lab.sweep.study import KILLED, Ledger, Study
from hisac_lab.sweep.sweep import join, study_of, sweep

pytestmark = pytest.mark.services


@pytest.fixture
def server() -> Iterator[Server]:
    """Empty, and of this test alone."""
    with postgres() as started:
        yield started


def start(server: Server, log: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, worker.__file__, server.address, str(log), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> list[Any]:
    said, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    results: list[Any] = json.loads(said)
    return results


def lines(log: Path, what: str = "end") -> list[tuple[str, dict[str, Any]]]:
    """Trainings that have begun, or ended, on one machine: name and point."""
    every = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return [(name, point) for kind, name, point in every if kind == what]


def wait_for(log: Path, count: int, what: str = "end") -> None:
    end = time.monotonic() + 300
    while len(lines(log, what)) < count:
        assert time.monotonic() < end
        time.sleep(0.1)


def test_two_machines_share_a_study_and_see_the_same_results(server: Server, tmp_path: Path) -> None:
    logs = [tmp_path / name for name in ("one", "two")]
    workers = [start(server, log) for log in logs]
    one, two = (ended(process) for process in workers)
    assert one == two
    assert [number for number, *_ in one] == list(range(worker.TRIALS))
    assert {state for _, _, state, *_ in one} == {"complete"}
    trained = [line for log in logs for line in lines(log)]
    assert sorted(name for name, _ in trained) == sorted(f"trial {number}" for number in range(worker.TRIALS))
    assert {json.dumps(point) for _, point in trained} == {json.dumps(point) for _, point, *_ in one}
    assert len({json.dumps(point, sort_keys=True) for _, point in trained}) == worker.TRIALS
    assert one[0][1] == worker.FIXED
    study = optuna.load_study(study_name="m-0", storage=server.address)
    assert study.user_attrs["repeatable"] is False
    assert Counter(trial.state.name for trial in study.trials)["COMPLETE"] == worker.TRIALS
    late = start(server, tmp_path / "late")
    assert ended(late) == one
    assert lines(tmp_path / "late", "begin") == []


def test_the_trial_of_a_killed_machine_is_run_by_another(server: Server, tmp_path: Path) -> None:
    killed, alive = tmp_path / "killed", tmp_path / "alive"
    slow = start(server, killed, "--slow")
    wait_for(killed, 1, "begin")
    helper = start(server, alive)
    wait_for(alive, 2)
    slow.send_signal(signal.SIGKILL)
    slow.communicate()
    results = ended(helper)
    assert [number for number, *_ in results] == list(range(worker.TRIALS))
    assert {state for _, _, state, *_ in results} == {"complete"}
    assert lines(killed, "end") == []
    assert lines(killed, "begin")[0] in lines(alive)  # the same place and the same point
    assert len({name for name, _ in lines(alive)}) == len(lines(alive)) == worker.TRIALS


def test_a_trial_that_kills_every_machine_has_failed_in_the_end(server: Server, tmp_path: Path) -> None:
    log = tmp_path / "log"
    for _ in range(TRIES):
        deadly = start(server, log, "--deadly")
        deadly.communicate()
        assert deadly.returncode == -signal.SIGKILL
    results = ended(start(server, log, "--deadly"))
    assert [line for line in lines(log, "begin") if line[1] == worker.FIXED] == [("trial 0", worker.FIXED)] * TRIES
    assert results[0][1:4] == [worker.FIXED, "failed", KILLED]
    assert [state for _, _, state, *_ in results[1:]] == ["complete"] * (worker.TRIALS - 1)


def test_a_server_that_goes_away_costs_one_line_and_no_trial_that_was_told(server: Server, tmp_path: Path) -> None:
    log = tmp_path / "log"
    first = start(server, log)
    wait_for(log, 3)
    server.stop()
    said, errors = first.communicate(timeout=300)
    assert (first.returncode, said) == (1, "")
    last = errors.strip().splitlines()[-1]
    assert last.startswith(f"error: {server.address}: the server of the shared study does not answer (")
    assert "Traceback" not in errors
    server.start()
    told = len(lines(log))
    results = ended(start(server, log))
    assert [number for number, *_ in results] == list(range(worker.TRIALS))
    assert told - 1 <= worker.TRIALS - len(lines(log)) + told <= worker.TRIALS  # one answer at most was not told
    assert Counter(name for name, _ in lines(log)).most_common(2)[-1][1] == 1


def test_no_server_and_a_database_of_another_program_are_told(server: Server, tmp_path: Path) -> None:
    import sqlalchemy

    def study(address: str) -> Study:
        return Study(worker.config(address), "m", worker.Formula(tmp_path / "log", 0, False), Ledger(None))

    with says("sweep.storage: the database holds tables of another program, or of another version of Optuna"):
        with sqlalchemy.create_engine(server.address).begin() as line:
            line.execute(sqlalchemy.text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)"))
            line.execute(sqlalchemy.text("INSERT INTO alembic_version VALUES ('0123456789ab')"))
        take_part(study(server.address), "m-0")
    server.stop()
    with says(f"{server.address}: the server of the shared study does not answer (connection to server at"):
        take_part(study(server.address), "m-0")


@pytest.mark.parametrize("sampler", ["nsga2", "sobol", "grid"])
def test_every_sampler_takes_each_point_once(server: Server, tmp_path: Path, sampler: str) -> None:
    space: dict[str, Any] = {"agents": [4, 8, 16], "depth": [1, 2], "rate": [0.01]}
    others = {"sampler": sampler, "space": {"m": space}, "fixed": {}, "trials": 6 if sampler == "grid" else 8}
    for _ in range(2):
        study = Study(
            worker.config(server.address, **others), "m", worker.Formula(tmp_path / "log", 0, False), Ledger(None)
        )
        trials, exhausted = take_part(study, "m-1")
        assert sorted((one.point["agents"], one.point["depth"]) for one in trials) == [
            (agents, depth) for agents in space["agents"] for depth in space["depth"]
        ]
        assert exhausted == (sampler != "grid")
    assert len(lines(tmp_path / "log")) == len(trials) == 6


def test_the_stage_writes_what_machines_found_together_and_marks_it(
    stages: Stages, server: Server, tmp_path: Path
) -> None:
    """Real short trainings: another process has run all trials before, and this one trains the finalists' seeds."""
    task = quick_task(stages, tmp_path / "work")
    space = {"m": {"agents": [2, 4], "depth": [1], "breadth": [0.5], "temperature": [0.07]}}
    settings = worker.config(server.address, space=space, fixed={}, trials=2, finalists=2, finalist_seeds=2)
    others, _ = join(study_of(settings, "m", task, 1, task.work), task.work)
    trained = len(list((tmp_path / "work/trials").iterdir()))
    shutil.rmtree(tmp_path / "work/trials")
    (tmp_path / "out").mkdir()
    trials = sweep(settings, "m", task, workers=1, out=tmp_path / "out", work=task.work)
    assert trained == len(others) == 2
    assert [replace(trial, more=()) for trial in trials] == others
    swept = Swept.open(tmp_path / "out")
    assert swept.repeatable is False
    assert swept.states == {"complete": 2}
    assert [trial.seeds for trial in Trial.read_table(tmp_path / "out")] == [2, 2]

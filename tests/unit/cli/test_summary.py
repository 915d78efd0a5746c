"""The summary: what the last run made, and what to do with it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from finished import ab_result, edit, make, scores

from hisac_lab.base.artifacts import write_json
from hisac_lab.base.stages import Artifacts
from hisac_lab.cli import running, summary


@pytest.fixture
def artifacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Artifacts:
    """A finished run in the current folder: a control, and `new`, which beat it."""
    monkeypatch.chdir(tmp_path)
    Path("dvc.yaml").write_text("stages:\n  prepare: {}\n  report: {}\n")
    return make(Path("artifacts"))


def shown(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """What the summary says, by the word in front."""
    summary.show()
    lines = re.sub(r"\n {2,}", "; ", capsys.readouterr().out).splitlines()
    return {line.split()[0]: line.split(maxsplit=1)[1] for line in lines if line}


def test_a_line_tells_data_tokens_sweep_and_each_model(
    artifacts: Artifacts, capsys: pytest.CaptureFixture[str]
) -> None:
    said = shown(capsys)
    assert said["data"] == "1,234 events, 12 users, 4 items; real exposures"
    assert said["tokens"] == "2 semantic IDs in 1 levels, 100.0% of items share"
    assert said["sweep"] == "new: 2 trials, 2 on the front, chosen: trial 0"
    assert said["base"] == "AUC 0.7000 [0.6900, 0.7100], 4,000 bytes a user; control of the A/B test"
    assert said["new"] == "AUC 0.7100 [0.7000, 0.7200], 4,000 bytes a user; A/B better: +0.80% to +1.60%"
    assert said["report"] == "reports/report.html (twin: reports/report.md)"
    assert said["restored"] == "from the cache; made by an unknown machine: prepare"


def test_what_was_timed_on_this_machine_is_told_of_that_model(
    artifacts: Artifacts, capsys: pytest.CaptureFixture[str]
) -> None:
    times = {"device": "cpu", "encode_us_per_request": 90.0, "score_us_per_candidate": 1.25}
    write_json(Path("logs/timings.json"), {"fingerprint": "f", "models": {"new": times}})
    said = shown(capsys)
    assert "bytes a user; A/B better: +0.80% to +1.60%, 1.2 us a candidate here" in said["new"]
    assert "here" not in said["base"]


def test_without_a_test_each_model_has_no_verdict(artifacts: Artifacts, capsys: pytest.CaptureFixture[str]) -> None:
    checks = [{"name": "data", "holds": False, "says": "no two test users"}]
    edit(artifacts.abtest / "abtest.json", checks=checks, tests={}, aa=None)
    said = shown(capsys)
    assert said["new"].endswith("; A/B no verdict")
    assert said["base"].endswith("; control of the A/B test")


def test_the_challenger_is_proposed_and_each_verdict_told(
    artifacts: Artifacts, capsys: pytest.CaptureFixture[str]
) -> None:
    tests = {"new": (0.012, "better"), "low": (-0.1, "worse")}
    edit(artifacts.abtest / "abtest.json", tests={name: ab_result(*test) for name, test in tests.items()})
    models = {name: scores(0.7, 0.0) for name in ("base", *tests)}
    edit(artifacts.evaluate / "metrics.json", models=models)
    said = shown(capsys)
    assert said["promote"].endswith("hisac-lab promote    each gate answers")
    assert "A/B worse: -10.40% to -9.60%" in said["low"]


def test_while_a_graph_runs_here_the_summary_says_that_it_may_be_of_two_runs(
    artifacts: Artifacts, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "a" not in shown(capsys)
    with running.hold("", ""):
        assert shown(capsys)["a"].startswith(f"run (process {os.getpid()}) works here")
    assert running.other() is None

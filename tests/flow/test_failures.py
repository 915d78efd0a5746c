"""Scenarios T8, T10 and T11: kills, failures, many at once."""

from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
import signal
import time
from pathlib import Path

import pytest
from lab import Lab

SUBMIT = """#!/bin/bash
# A cluster of one machine: starts the job script and prints its number.
nohup bash "$1" >/dev/null 2>&1 &
echo $!
"""


def forget(lab: Lab) -> None:
    """Removes every output and every cache, as in a fresh clone."""
    for name in (
        "artifacts",
        "reports/report.html",
        "reports/figures",
        "reports/plots",
        ".dvc/cache",
        ".dvc/tmp",
        ".snakemake",
        ".work",
        "logs",
        "dvc.lock",
    ):
        path = lab.path / name
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def kill_after(lab: Lab, seconds: float, *command: str) -> None:
    """Starts a run and kills everything of it."""
    run = lab.start(*command)
    time.sleep(seconds)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()


def test_t8_killed_runs_are_repaired_by_a_plain_second_start(lab: Lab, base: Lab) -> None:
    forget(lab)
    moments = random.Random(8)
    doors = [("snakemake", "--cores", "2"), ("dvc", "repro"), ("snakemake", "--cores", "2"), ("dvc", "repro")]
    for door in doors:
        kill_after(lab, moments.uniform(4, 12), *door)
    lab.snakemake("--cores", "1")
    assert lab.hashes() == base.hashes()
    assert lab.both_idle()


def test_t8_a_torn_list_of_dvcs_locks_is_mended(lab: Lab) -> None:
    torn = lab.path / ".dvc/tmp/rwlock"
    torn.write_text('{"artifacts/prepare": {"wri')  # what a kill at the wrong moment leaves
    assert lab.snakemake() == []
    assert lab.both_idle()


@pytest.mark.parametrize("door", ["snakemake", "dvc"])
def test_t8_a_torn_dvc_lock_is_mended(lab: Lab, base: Lab, door: str) -> None:
    lock = lab.path / "dvc.lock"
    whole = lock.read_text()
    for kept in ("", whole[: whole.rindex("\n  ") + 6]):  # DVC writes in place; here it was killed
        lock.write_text(kept)
        if door == "dvc":  # DVC itself refuses the file: README names the way
            assert lab.run("snakemake", "--dry-run").code == 0
            assert lab.repro() == []
        else:
            assert lab.snakemake() == []  # found again in DVC's run cache
        assert lab.hashes() == base.hashes()
    assert lab.both_idle()


def test_t8_a_dvc_lock_with_a_merge_in_it_is_refused_in_one_line(lab: Lab) -> None:
    lock = lab.path / "dvc.lock"
    merge = lock.read_text() + "<<<<<<< HEAD\n"
    lock.write_text(merge)
    answer = lab.run("snakemake", "--cores", "2")
    assert answer.code != 0
    (line,) = [line for line in answer.text.splitlines() if line.startswith("hisac-lab: error:")]
    assert "dvc.lock" in line
    assert "git checkout" in line
    assert lock.read_text() == merge


def test_t8_a_stage_that_fails_leaves_nothing_and_says_why_in_one_line(lab: Lab) -> None:
    lab.set(**{"tokenize.limits.min_occupancy": 9.0})
    for door in (("snakemake", "--cores", "2"), ("dvc", "repro")):
        answer = lab.run(*door)
        assert answer.code != 0
        (line,) = {line for line in answer.text.splitlines() if line.startswith("hisac-lab: error:")}
        assert "tokenize.limits.min_occupancy" in line
        if door[0] == "snakemake":  # behind all that Snakemake says itself
            assert answer.text.splitlines()[-6:].count(f"  tokenize: {line.removeprefix('hisac-lab: error: ')}") == 1
    assert not (lab.path / "artifacts/tokenize").exists()
    assert not list((lab.path / "artifacts").glob(".*"))
    lab.set(**{"tokenize.limits.min_occupancy": 0.0})
    assert lab.snakemake() == []
    assert lab.both_idle()


def test_t7_a_damaged_cache_is_not_restored_and_the_stage_is_computed(lab: Lab, base: Lab) -> None:
    book = lab.path / "artifacts/codebook"
    digest = hashlib.md5((book / "manifest.json").read_bytes()).hexdigest()
    kept = lab.path / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
    kept.chmod(0o644)
    kept.write_bytes(b"?" + kept.read_bytes()[1:])
    kept.chmod(0o444)  # as DVC leaves it, and does not look at it again
    shutil.rmtree(book)
    answer = lab.run("snakemake", "artifacts/codebook", "--cores", "2")
    assert answer.code == 0, answer.text
    assert "codebook: DVC's cache was damaged; it is computed anew" in answer.text
    assert lab.run("hisac-lab", "verify").code == 0
    assert lab.hashes() == base.hashes()


def test_a_forced_rerun_that_computes_nothing_says_so(lab: Lab) -> None:
    answer = lab.run("snakemake", "artifacts/codebook", "--forcerun", "codebook", "--cores", "2")
    assert answer.code == 0, answer.text
    assert "nothing computed (to compute it: dvc repro --force --single-item codebook)" in answer.text


@pytest.mark.parametrize("door", ["cores", "cluster"])
def test_t10_eight_instances_of_one_stage_each_run_once(lab: Lab, door: str, tmp_path: Path) -> None:
    lab.set(**{"prepare.shards": list(range(8))})
    targets = [f"artifacts/shard/{index}" for index in range(8)]
    options = ["--cores", "2"]
    if door == "cluster":
        script = tmp_path / "submit"
        script.write_text(SUBMIT)
        script.chmod(0o755)
        options = ["--executor", "cluster-generic", "--cluster-generic-submit-cmd", str(script), "--jobs", "3"]
        options += ["--seconds-between-status-checks", "1"]
    assert lab.snakemake(*targets, *options) == ["ingest", *(f"shard@{index}" for index in range(8))]
    assert lab.run("snakemake", *targets, "--cores", "2").text.count("Nothing to be done") == 1


def test_jobs_whose_memory_does_not_fit_together_take_turns(lab: Lab) -> None:
    lab.set(**{"experiment.seeds": [21, 22], "experiment.models": ["din_50"]})
    targets = [f"artifacts/train/din_50-{seed}" for seed in (21, 22)]
    answer = lab.run("snakemake", *targets, "--cores", "2", "--resources", "mem_mb=4000")
    assert answer.code == 0, answer.text
    events = re.findall(r"localrule train|Finished jobid: \d+ \(Rule: train", answer.text)
    assert [event.split()[0] for event in events] == ["localrule", "Finished"] * 2


def test_t11_an_applied_experiment_leaves_nothing_to_do(lab: Lab) -> None:
    answer = lab.run("dvc", "exp", "run", "-S", "abtest.seed=5", "--name", "five")
    assert answer.code == 0, answer.text
    lab.git("checkout", "--", "params.yaml", "dvc.lock")
    lab.run("dvc", "checkout")
    assert lab.run("dvc", "exp", "apply", "five").code == 0
    assert "seed: 5" in (lab.path / "params.yaml").read_text()
    assert lab.both_idle()


def test_t11_a_second_start_is_refused_in_one_line_and_the_first_ends_well(lab: Lab) -> None:
    lab.set(**{"abtest.seed": 5})
    (lab.path / "logs/abtest.log").unlink()
    first = lab.start("snakemake", "--cores", "2")
    while not (lab.path / "logs/abtest.log").exists() and first.poll() is None:
        time.sleep(0.2)
    second = lab.run("snakemake", "--cores", "2")
    assert second.code != 0
    assert [f"process {first.pid}" in line for line in second.text.splitlines() if "error" in line] == [True]
    text, _ = first.communicate()
    assert first.returncode == 0, text
    assert lab.both_idle()


def test_t11_dvc_beside_snakemake_is_refused_or_shares_the_result(lab: Lab) -> None:
    lab.set(**{"abtest.seed": 5})
    first = lab.start("snakemake", "--cores", "2")
    time.sleep(3)
    second = lab.run("dvc", "repro")
    assert second.code == 0 or "busy" in second.text or "lock" in second.text
    text, _ = first.communicate()
    assert first.returncode == 0, text
    assert lab.both_idle()

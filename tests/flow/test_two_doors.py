"""Scenarios T1 to T7, T9 and T12: `snakemake` and `dvc repro` are two doors into the same graph."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from lab import Lab

from hisac_lab.cli.user import name_the_user

BELOW_ABTEST = ["abtest", "register", "report"]


def test_t1_after_snakemake_both_doors_have_nothing_to_do(lab: Lab) -> None:
    assert "2 at once" in (lab.path / "logs/sweep@hisac.log").read_text(), (
        "the stage did not take the threads it was given"
    )
    assert lab.both_idle()


def test_both_doors_keep_dvcs_notes_in_one_place(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its place has the user's name in it, whether the environment says it or not."""
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "notes"))
    monkeypatch.delenv("USER", raising=False)
    name_the_user()
    assert lab.planned() == []
    assert "up to date" in lab.run("dvc", "status").text
    assert len(list((tmp_path / "notes/repo").iterdir())) == 1


def test_t2_dvc_repro_alone_gives_the_same_bytes_and_snakemake_has_nothing_to_do(base: Lab, tmp_path: Path) -> None:
    other = Lab.found(tmp_path / "another folder")
    assert "train@hisac-0" in other.repro()
    assert other.hashes() == base.hashes()
    assert other.both_idle()
    other.set(**{"abtest.seed": 5})
    assert other.snakemake() == BELOW_ABTEST


def test_t3_a_parameter_reruns_exactly_what_is_below_it(lab: Lab, base: Lab, tmp_path: Path) -> None:
    other = base.copy(tmp_path / "other")
    for one in (lab, other):
        one.set(**{"abtest.seed": 5})
    assert lab.snakemake() == BELOW_ABTEST
    assert other.repro() == BELOW_ABTEST
    assert lab.hashes() == other.hashes() != base.hashes()
    assert lab.both_idle()
    assert other.both_idle()


def test_t3_a_model_parameter_reruns_that_model_alone(lab: Lab) -> None:
    lab.set(**{"models.din_50.whole_history": True})
    targets = [f"artifacts/train/{name}-0" for name in ("din_50", "mean", "hisac")]
    assert lab.snakemake(*targets, "--cores", "2") == ["code", "train@din_50-0"]


def test_t4_code_reruns_below_and_a_comment_stops_where_bytes_are_equal(lab: Lab) -> None:
    test = "src/hisac_lab/abtest/evidence.py"
    lab.edit(
        test, "CAVEATS: dict[EvidenceKind, str] = {", "CAVEATS: dict[EvidenceKind, str] = {  # the report shows one"
    )
    assert lab.snakemake() == ["abtest"]
    lab.edit(test, "These lifts are those of worlds", "These are lifts of a world")
    assert lab.repro() == BELOW_ABTEST
    assert lab.both_idle()


def test_t5_a_fresh_clone_that_pulls_has_nothing_to_do_and_sees_an_edit(lab: Lab, tmp_path: Path) -> None:
    lab.run("dvc", "remote", "add", "--default", "store", str(tmp_path / "remote"))
    lab.commit("remote")
    assert lab.run("dvc", "push").code == 0
    before = lab.clone(tmp_path / "before")
    before.set(**{"abtest.seed": 5})
    assert before.run("dvc", "pull").code == 0
    assert before.snakemake() == BELOW_ABTEST
    after = lab.clone(tmp_path / "after")
    assert after.run("dvc", "pull").code == 0
    assert after.both_idle()
    after.set(**{"abtest.seed": 5})
    assert after.repro() == BELOW_ABTEST
    assert after.hashes() == before.hashes()


def test_t5d_deleted_outputs_come_back_by_dvc_checkout(lab: Lab) -> None:
    for path in ("artifacts/prepare", "artifacts/train", "artifacts/evaluate"):
        lab.run("rm", "-r", path)
    assert lab.run("dvc", "checkout").code == 0
    assert lab.both_idle()


def test_t6_older_commits_and_back_have_nothing_to_do(lab: Lab) -> None:
    lab.set(**{"experiment.seeds": [0, 1], "experiment.models": ["din_50", "hisac"]})
    assert [name for name in lab.snakemake() if name.startswith("train")] == ["train@din_50-1", "train@hisac-1"]
    lab.commit("two seeds")
    for commit in ("main~1", "main"):
        lab.git("checkout", "--quiet", commit)
        assert lab.run("dvc", "checkout").code == 0
        assert lab.both_idle(), commit


def test_t7_a_parameter_set_back_is_restored_and_nothing_computed(lab: Lab, base: Lab) -> None:
    lab.set(**{"abtest.seed": 5})
    lab.snakemake()
    lab.set(**{"abtest.seed": 0})
    assert lab.snakemake() == []
    assert lab.hashes() == base.hashes()
    assert lab.both_idle()


def test_t9_times_say_nothing(lab: Lab) -> None:
    for path in lab.path.rglob("*"):
        if path.is_file() and ".git" not in path.parts and ".dvc" not in path.parts and ".snakemake" not in path.parts:
            os.utime(path)
    assert lab.both_idle()


def test_t12_after_a_colleagues_run_the_parameter_set_back_gives_its_own_model(
    lab: Lab, base: Lab, tmp_path: Path
) -> None:
    lab.run("dvc", "remote", "add", "--default", "store", str(tmp_path / "remote"))
    lab.commit("remote")
    lab.run("dvc", "push")
    colleague = lab.clone(tmp_path / "colleague")
    colleague.run("dvc", "pull")
    colleague.set(**{"train.learning_rate": 0.01})
    colleague.snakemake()
    assert colleague.run("dvc", "push").code == 0
    colleague.commit("another learning rate")
    lab.git("pull", "--quiet", str(colleague.path), "main")
    assert lab.run("dvc", "pull").code == 0
    assert lab.both_idle()
    assert lab.hashes() == colleague.hashes() != base.hashes()
    lab.set(**{"train.learning_rate": 0.002})
    assert lab.snakemake() == []
    assert lab.hashes() == base.hashes()

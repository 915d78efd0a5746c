"""A new or changed model reruns that model only; a new winner of the sweep or a new store, those that use it."""

from __future__ import annotations

from pathlib import Path

from lab import Lab

TRAINED = [f"artifacts/train/{name}-0" for name in ("din_50", "mean", "hisac")]
BELOW = ["abtest", "evaluate", "register", "report"]
NEW = '''"""A model that nobody uses."""

from typing import Literal

from pydantic import Field

from hisac_lab.config.model import ModelConfig
from hisac_lab.models.pooling import MeanBranch


class NewConfig(ModelConfig):
    """Mean pooling again."""

    kind: Literal["new"] = Field("new", description="mean pooling again")


class NewBranch(MeanBranch):
    """Mean pooling again."""

    Config = NewConfig
'''


def test_a_new_file_of_a_model_leaves_everything_fresh(lab: Lab, base: Lab) -> None:
    (lab.path / "src/hisac_lab/models/new.py").write_text(NEW)
    assert lab.planned() == []
    assert lab.repro() == []
    assert lab.both_idle()
    assert lab.hashes() == base.hashes()


def test_an_edit_of_a_model_runs_it_again_alone_in_both_doors(lab: Lab, tmp_path: Path) -> None:
    other = lab.copy(tmp_path / "other")
    for one in (lab, other):
        one.edit("src/hisac_lab/models/pooling.py", "min=1)}", "min=2)}")
    assert lab.planned() == sorted([*BELOW, "train@mean-0"])
    assert lab.snakemake(*TRAINED, "--cores", "2") == ["train@mean-0"]
    assert other.repro("train") == ["code", "plan", "train@mean-0"]
    assert {path: lab.hashes()[path] for path in TRAINED} == {path: other.hashes()[path] for path in TRAINED}


def test_another_instance_store_trains_no_model_that_reads_none(lab: Lab) -> None:
    lab.set(**{"instances.order": "temporal", "instances.dim": 8, "instances.chunks": 2})
    assert lab.snakemake(*TRAINED, "--cores", "2") == ["instances", "plan"]


def test_another_winner_of_the_sweep_trains_the_swept_model_alone(lab: Lab) -> None:
    lab.set(**{"sweep.space.hisac.agents": [3]})
    assert lab.snakemake(*TRAINED, "--cores", "2") == ["plan", "sweep@hisac", "train@hisac-0"]

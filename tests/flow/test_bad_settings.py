"""Bad settings at the door: one line from each engine, nothing touched."""

from __future__ import annotations

import pytest
from lab import Lab


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("\n  learning_rate: 0.002", "\n  learning_rate: one", ("train.learning_rate", "'one'")),
        ("bootstrap: 20", "bootstrapp: 20", ("evaluate.bootstrapp", "did you mean `bootstrap`")),
        ("reference: din_50", "reference: din", ("evaluate.reference", "'din'")),
    ],
)
def test_a_wrong_setting_is_one_line_and_touches_nothing(lab: Lab, old: str, new: str, words: tuple[str, ...]) -> None:
    before = lab.hashes()
    lab.edit("params.yaml", old, new)
    for door in (("snakemake", "--cores", "2"), ("dvc", "repro")):
        answer = lab.run(*door)
        assert answer.code != 0
        lines = [line for line in answer.text.splitlines() if "hisac-lab: error:" in line]
        assert lines, answer.text
        assert all(word in lines[0] for word in (*words, "params.yaml"))
        assert lab.hashes() == before


def test_more_depth_than_the_codebook_and_more_agents_than_leaves_are_refused(lab: Lab) -> None:
    lab.set(**{"sweep.space.hisac.depth": [3]})
    assert "sweep.space.hisac.depth" in lab.run("snakemake", "--cores", "2").text
    lab.set(**{"sweep.space.hisac.depth": [1, 2], "models.many": {"kind": "hisac", "agents": 5000}})
    lab.set(**{"experiment.models": ["din_50", "many"]})
    answer = lab.run("snakemake", "--cores", "2", "artifacts/train/many-0")
    assert answer.code != 0
    assert "5000 agents are more than the" in answer.text
    assert not (lab.path / "artifacts/train/many-0").exists()

"""The section on the sweep."""

from __future__ import annotations

from pathlib import Path

from finished import Built, build, edit, make

from hisac_lab.base.stages import Artifacts


def test_the_sweep_s_choice_is_explained(built: Built, inputs: Artifacts, tmp_path: Path) -> None:
    _, twin, *_ = built
    assert "It takes trial 0 with AUC 0.6900 (−0.0100 to trial 1, the best, with a standard error of 0.0123)" in twin
    assert "| 0 | 4 | 1 | 0.6900 | 0.0123 | 1,000 | chosen |" in twin
    assert "| 1 | 8 | 1 | 0.7000 | – | 1,200 | on the front |" in twin
    edit(inputs.sweep / "manifest.json", best=0)
    assert "with AUC 0.6900 (the best of all)" in build(inputs, tmp_path)[1]


def test_one_trial_needs_no_chart(crowd: Built, tmp_path: Path) -> None:
    page, twin, *_ = crowd
    assert "1 short training of `new`" in twin
    assert "| 0 | 4 | 0.7000 | – | 1,000 | chosen |" in twin
    few = build(make(tmp_path / "artifacts"), tmp_path)[0]
    for title in ("Quality and cost of the trials", "Quality by setting"):
        assert title not in page
        assert title in few

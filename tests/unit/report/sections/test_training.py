"""The section on the training runs: a row and a line per model where runs are many."""

from __future__ import annotations

import re
from pathlib import Path

from finished import Built, build, make


def test_training_has_a_row_per_model(crowd: Built, tmp_path: Path) -> None:
    assert "| m00 | 20 | 1,234 | 0.7550 | 0: 0.7500, 1: 0.7600 |" in crowd[1]
    assert "| base | 20 to 30 | 1,234 | 0.7200 | 0: 0.7000, 1: 0.7400 |" in crowd[1]
    few = build(make(tmp_path / "artifacts"), tmp_path)[1]
    assert "| new | 20 | 1,234 | 0.7000 | 0: 0.7000 |" in few


def test_many_curves_are_means(crowd: Built, tmp_path: Path) -> None:
    """At the steps that all seeds of a model have."""
    page, twin, *_ = crowd
    assert page.count("ne line per model, the mean over its seeds.") == 2
    assert "| m00 | mean | 20 | 0.6000 | 0.7550 | 0.6100 |" in twin
    assert re.findall(r"^\| base \| mean \| (\d+) .* \| (\S+) \| \S+ \|$", twin, re.MULTILINE) == [
        ("10", "0.6200"),
        ("20", "0.6700"),
    ]
    few = build(make(tmp_path / "artifacts"), tmp_path)
    assert few[0].count("ne line per seed.") == 2
    assert "| new | 0 | 20 | 0.6000 | 0.7000 | 0.6100 |" in few[1]

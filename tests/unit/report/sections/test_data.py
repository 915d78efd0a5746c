"""The section on the data."""

from __future__ import annotations

import json
from pathlib import Path

from finished import Built, build, edit

from hisac_lab.base.artifacts import write_json
from hisac_lab.base.stages import Artifacts


def test_a_long_log_is_shown_by_year(built: Built, inputs: Artifacts, tmp_path: Path) -> None:
    assert "Events by month (UTC)." in built[1]
    profile = json.loads((inputs.prepare / "manifest.json").read_text())["profile"]
    months = {f"{1990 + at // 12}-{at % 12 + 1:02}": {"events": 10 + at, "positive_share": 0.5} for at in range(60)}
    edit(inputs.prepare / "manifest.json", profile=profile | {"months": months})
    _, twin, _, figures = build(inputs, tmp_path)
    assert "Events by year (UTC)." in twin
    assert {"events_by_year"} == figures.keys() - built[3].keys()
    assert f"| 1991 | {sum(10 + at for at in range(12, 24))} | 50.00 % |" in twin


def test_overlapping_periods_are_called_out(built: Built, inputs: Artifacts, tmp_path: Path) -> None:
    assert "No two periods overlap." in built[1]
    manifest = json.loads((inputs.prepare / "manifest.json").read_text())
    manifest["splits"]["valid"]["from"] = manifest["splits"]["train"]["to"]
    write_json(inputs.prepare / "manifest.json", manifest)
    assert "WARNING: two periods overlap" in build(inputs, tmp_path)[1]

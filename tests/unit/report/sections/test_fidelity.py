"""The section on fidelity."""

from __future__ import annotations

from pathlib import Path

from finished import build

from hisac_lab.base.stages import Artifacts


def test_report_stands_without_register(inputs: Artifacts, tmp_path: Path) -> None:
    for path in sorted(inputs.register.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    inputs.register.rmdir()
    twin = build(inputs, tmp_path)[1]
    assert "the stage `register` has not run" in twin
    assert "| register | `not run` | – |" in twin

"""The benchmarks, which are scripts and no package, as modules."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
MODULES = (
    "browser",
    "catalog",
    "costs",
    "leaderboard",
    "long_run",
    "machine",
    "models",
    "ours",
    "pages",
    "peer",
    "prepare",
    "scale",
    "scale_items",
    "scale_plan",
    "serving",
    "synthetic",
    "transfer",
    "tuning",
    "usage",
    "workload",
)


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of the benchmarks, which are scripts and no package."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for module in MODULES:
        monkeypatch.delitem(sys.modules, module, raising=False)
    return __import__(name)

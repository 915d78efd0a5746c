"""Fidelity cards: every claim has a source, and every test a card names is there."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from hisac_lab.config.model import DINConfig, HiSACConfig
from hisac_lab.models.catalog import BRANCHES, fidelity_card
from hisac_lab.models.contract import CardLine

TESTS = Path(__file__).parents[2]
LINES = [(branch.__name__, line) for branch in BRANCHES.values() for line in branch.card]


@pytest.fixture(scope="module")
def names() -> set[str]:
    """Names of all test functions below tests/."""
    return {
        node.name
        for path in TESTS.rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


@pytest.mark.parametrize(("model", "line"), LINES, ids=[f"{model}-{line.claim[:30]}" for model, line in LINES])
def test_a_card_line_has_a_source_and_a_test_that_exists(model: str, line: CardLine, names: set[str]) -> None:
    assert line.claim
    assert line.source
    assert line.status in {"stated", "inferred", "left out"}
    if line.status == "left out":
        assert line.test == ""
    else:
        assert line.test in names


@pytest.mark.parametrize("config", [DINConfig(), HiSACConfig()])
def test_every_model_has_a_card_that_says_what_is_stated_inferred_and_left_out(
    config: DINConfig | HiSACConfig,
) -> None:
    assert {line.status for line in fidelity_card(config)} == {"stated", "inferred", "left out"}

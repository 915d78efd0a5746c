"""Fidelity cards: every claim has a source, and both the source and the test that a card names are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from headings import resolves, sections
from kit import EVERY

from hisac_lab.config.model import ModelConfig
from hisac_lab.models.backbone import BACKBONE_CARD
from hisac_lab.models.catalog import KINDS as CLASSES
from hisac_lab.models.catalog import fidelity_card
from hisac_lab.models.champion import ChampionConfig
from hisac_lab.models.contract import CardLine, LongBranch

ROOT = Path(__file__).parents[3]
KINDS = {config.kind: config for config in (*EVERY.values(), ChampionConfig())}
LINES = [(kind, line) for kind, config in KINDS.items() for line in fidelity_card(config)]


@pytest.fixture(scope="module")
def names() -> set[str]:
    """Names of all test functions, and of the laws in `hisac_lab.testing`."""
    return {
        node.name
        for path in [*ROOT.glob("tests/**/test_*.py"), *ROOT.glob("src/hisac_lab/testing/*.py")]
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


@pytest.mark.parametrize(("model", "line"), LINES, ids=[f"{model}-{line.claim[:40]}" for model, line in LINES])
def test_a_card_line_has_a_source_and_a_test_that_exists(model: str, line: CardLine, names: set[str]) -> None:
    assert line.claim
    assert line.source.startswith("docs/papers/")
    assert "#" in line.source
    assert resolves(line.source), line.source
    assert line.status in {"stated", "inferred", "left out"}
    if line.status == "left out":
        assert line.test == ""
    else:
        assert line.test in names


@pytest.mark.parametrize("config", KINDS.values(), ids=KINDS)
def test_every_model_has_a_card_that_says_what_is_stated_inferred_and_left_out(config: ModelConfig) -> None:
    assert {line.status for line in fidelity_card(config)} == {"stated", "inferred", "left out"}


PAPERS = ("hisac", "sam", "iat", "r2led")
NOTES = tuple(f"docs/papers/{paper}.md#" for paper in PAPERS)


@pytest.mark.parametrize("paper", PAPERS)
def test_a_card_speaks_of_every_section_that_states_something_and_calls_nothing_else_stated(paper: str) -> None:
    """A note marks what its paper states; each such section has a line on a card, and a stated line such a section."""
    note = f"docs/papers/{paper}.md"
    stating = {
        name
        for name, text in sections(ROOT / note).items()
        if re.search(r"^Stated", text, re.MULTILINE) or name == "stated-facts"
    }
    lines = [line for _, line in LINES if line.source.startswith(f"{note}#")]
    assert stating
    assert not stating - {line.source.partition("#")[2] for line in lines}
    assert not {line.source for line in lines if line.status == "stated"} - {f"{note}#{name}" for name in stating}


ROW = re.compile(r"^\| [^|]+ \| \[[^\]]+\]\((\w+\.md#[\w-]+)\) \| (?:`(\w+)`|left out) \|$", re.MULTILINE)
"""A row of the list of mechanisms: heading of a note, and the test; none for what is left out."""


def test_the_list_of_mechanisms_and_the_cards_say_the_same() -> None:
    """Each mechanism of a paper has its line, and each line on what a paper has its mechanism."""
    text = (ROOT / "docs/papers/mechanisms.md").read_text()
    listed = [(f"docs/papers/{source}", test) for source, test in ROW.findall(text)]
    assert len(listed) == len(set(listed)) == len(re.findall(r"^\| [^|]+ \| \[", text, re.MULTILINE))
    owns = {kind for paper in PAPERS for kind in (paper, f"{paper}_source", "compress") if kind in KINDS}
    carded = {
        (line.source, line.test)
        for kind, line in LINES
        if kind in owns and line.status != "inferred" and line.source.startswith(NOTES)
    }
    assert not set(listed) - carded, "no card has a line for it"
    assert not carded - set(listed), "the list of mechanisms has no row for it"


def test_a_card_says_what_the_backbone_adds_where_a_branch_stands_in_it() -> None:
    for kind, config in KINDS.items():
        claims = {line.claim for line in fidelity_card(config)}
        added = {line.claim for line in BACKBONE_CARD}
        assert (added <= claims) == issubclass(CLASSES[kind], LongBranch)

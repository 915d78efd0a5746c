"""README's ten lines, the notebook and the tutorial's lines run, on made-up logs."""

from __future__ import annotations

import contextlib
import io
import json
import re
from pathlib import Path

import notebook
import pytest
from tiny import write_movielens

ROOT = Path(__file__).parents[3]
LOAD = 'hl.load("movielens-100k")'
BOOK = ROOT / "docs" / "first_look.ipynb"


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The call that reads the made-up log, and gives the codebook that fits it."""
    write_movielens(tmp_path / "log")
    monkeypatch.chdir(tmp_path)
    return 'hl.load("movielens-100k", path="log")'


def small(source: str, load: str) -> str:
    """The code for the made-up log."""
    return source.replace(LOAD, load).replace(".tokenize()", ".tokenize(widths=[8, 8, 8])")


def test_the_ten_lines_of_the_readme_print_a_comparison(load: str) -> None:
    (block,) = re.findall(r"```python\n(import hisac_lab as hl\n.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    lines = [line for line in block.splitlines() if line.strip()]
    assert len(lines) <= 11
    assert LOAD in block
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(small(block, load), {})
    assert "test samples of" in said.getvalue()
    assert said.getvalue().count("DIN") >= 2


def test_the_notebook_runs_and_shows_what_it_says(load: str) -> None:
    cells = notebook.sources(BOOK)
    assert LOAD in cells[0]
    outputs = notebook.run([small(cell, load) for cell in cells])
    kinds = [sorted(one["data"]) if "data" in one else ["text"] for cell in outputs for one in cell]
    kept = json.loads(BOOK.read_text())["cells"]
    assert kinds == [
        sorted(one["data"]) if "data" in one else ["text"] for cell in kept for one in cell.get("outputs", ())
    ]
    assert kinds.count(["image/png"]) == 3
    assert "/tmp" not in BOOK.read_text()


def test_the_lines_of_the_tutorial_rank_and_show_agents(load: str, tmp_path: Path) -> None:
    page = (ROOT / "docs/tutorials/notebook_to_graph.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    ratings = [line.split("\t") for line in (tmp_path / "log/u.data").read_text().splitlines()]
    rows = [f"{user},{item},{time},{int(int(rating) >= 4)}" for user, item, rating, time in ratings]
    (tmp_path / "clicks.csv").write_text("\n".join(["u,i,t,clicked", *rows]) + "\n")
    block = block.replace("/data/clicks.csv", str(tmp_path / "clicks.csv"))
    block = block.replace(".tokenize()", '.tokenize(widths=[8, 8, 8], embed_by={"method": "cooccurrence"})')
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(block.replace("agents=64", "agents=8"), {})
    assert "rank" in said.getvalue()
    assert "votes" in said.getvalue()

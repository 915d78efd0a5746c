"""`hisac-lab graph`: writes the code of each stage into dvc.yaml and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from kit import says

from hisac_lab.cli import graph

BEFORE = """# the graph
stages:
  plan:
    cmd: hisac-lab stage plan
    deps:
    - artifacts/sweep/best.json
    - src/hisac_lab/gone.py
    outs:
    - artifacts/plan
  # a comment
  acquire:
    cmd: hisac-lab stage acquire
    deps:
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def code(stage: str) -> str:
    return "".join(f"    - {path}\n" for path in graph.code_of(stage))


def test_code_stands_behind_what_else_a_stage_needs_and_all_else_stays() -> None:
    Path("dvc.yaml").write_text(BEFORE + "    - log\n")
    assert graph.write()
    wanted = BEFORE.replace("    - src/hisac_lab/gone.py\n", code("plan")) + "    - log\n" + code("acquire")
    assert Path("dvc.yaml").read_text() == wanted
    assert not graph.write()
    assert Path("dvc.yaml").read_text() == wanted


def test_a_stage_names_its_own_entry_and_what_it_imports() -> None:
    named = graph.code_of("plan")
    assert named == sorted(named)
    assert {"src/hisac_lab/cli/stages/plan.py", "src/hisac_lab/cli/plan.py", "src/hisac_lab/sweep/records.py"} < {
        *named
    }
    assert not [path for path in named if path.endswith(("cli/paths.py", "base/stages.py", "training/train.py"))]


def test_a_folder_without_a_graph_is_told() -> None:
    with says("dvc.yaml: does not exist; check the path"):
        graph.write()
    assert not Path("dvc.yaml").exists()


def test_a_stage_without_a_list_is_told_and_the_file_stays() -> None:
    text = BEFORE + "    - log\n  embed:\n    cmd: hisac-lab stage embed\n"
    Path("dvc.yaml").write_text(text)
    with says("dvc.yaml: stages.embed.deps: has no list; write one, empty perhaps"):
        graph.write()
    assert Path("dvc.yaml").read_text() == text

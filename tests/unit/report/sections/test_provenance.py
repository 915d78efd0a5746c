"""The section on lineage."""

from __future__ import annotations

import platform
import re
from pathlib import Path

import yaml
from finished import build, edit

from hisac_lab.base.stages import Artifacts
from hisac_lab.report.sections.provenance import RANKS

ROOT = Path(__file__).parents[4]


def test_lineage_tells_arithmetic_and_no_machine(inputs: Artifacts, tmp_path: Path) -> None:
    edit(inputs.embed / "manifest.json", arithmetic="native")
    twin = build(inputs, tmp_path)[1]
    assert re.search(r"^\| embed \| `\w{12}` \| native \|$", twin, re.MULTILINE)
    assert re.search(r"^\| train new, seed 0 \| `\w{12}` \| portable \|$", twin, re.MULTILINE)
    assert "hisac-lab summary" in twin
    assert platform.node() not in twin


def _above(stages: dict[str, set[str]], stage: str) -> set[str]:
    """Every stage that this one waits for, at once or through others."""
    return stages[stage].union(*(_above(stages, other) for other in stages[stage]))


def test_the_picture_of_the_graph_is_the_graph() -> None:
    outputs, inputs = dict[str, str](), dict[str, list[str]]()
    for name, stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].items():
        facts = stage.get("do", stage)
        inputs[name] = [path for path in facts["deps"] if path.startswith("artifacts/")]
        outputs |= {path.split("/")[1]: name for path in facts["outs"] if path.startswith("artifacts/")}
    real = {name: {outputs[path.split("/")[1]] for path in paths} for name, paths in inputs.items()}
    shown = {name: set(RANKS[at - 1]) if at else set[str]() for at, rank in enumerate(RANKS) for name in rank}
    assert set(shown) == set(real)
    for name in real:
        assert _above(shown, name) == _above(real, name), name

"""The section on lineage."""

from __future__ import annotations

import platform
import re
from pathlib import Path

from finished import build, edit

from hisac_lab.base.stages import Artifacts


def test_lineage_tells_arithmetic_and_no_machine(inputs: Artifacts, tmp_path: Path) -> None:
    edit(inputs.embed / "manifest.json", arithmetic="native")
    twin = build(inputs, tmp_path)[1]
    assert re.search(r"^\| embed \| `\w{12}` \| native \|$", twin, re.MULTILINE)
    assert re.search(r"^\| train new, seed 0 \| `\w{12}` \| portable \|$", twin, re.MULTILINE)
    assert "hisac-lab summary" in twin
    assert platform.node() not in twin

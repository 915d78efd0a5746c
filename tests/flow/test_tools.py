"""The tools' own views of a finished project, as docs/howto/tools.md shows them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from lab import ROOT, Lab

FINDING = re.compile(r"^    \* (.*):$", re.MULTILINE)


def test_lint_finds_what_the_documentation_answers_and_nothing_else(lab: Lab) -> None:
    page = (ROOT / "docs/howto/tools.md").read_text()
    found = set(FINDING.findall(lab.run("snakemake", "--lint").text))
    assert found == {"Specify a conda environment or container for each rule."}
    assert all(finding in page for finding in found)


def test_snakemakes_report_holds_the_page_the_figures_and_the_numbers_with_captions(lab: Lab, tmp_path: Path) -> None:
    answer = lab.run("snakemake", "--report", str(tmp_path / "page.html"))
    assert answer.code == 0, answer.text
    added = set(re.findall(r"Adding (\S+)", answer.text))
    figures = {path.name for path in (lab.path / "reports/figures").glob("*.svg")}
    assert added >= {"report.html", "metrics.json", *figures}
    page = (tmp_path / "page.html").read_text()
    for name in ("report", "figures", "metrics"):
        caption = (ROOT / f"workflow/captions/{name}.rst").read_text().split(",")[0].split(";")[0].strip()
        assert caption.split("``")[0].strip() in page


def test_dvc_compares_numbers_and_curves_of_two_commits(lab: Lab, tmp_path: Path) -> None:
    command = next(
        shlex.split(line[2:])
        for line in (ROOT / "docs/howto/tools.md").read_text().splitlines()
        if line.startswith("$ dvc exp show")
    )
    shown = lab.run(*command, "--no-pager")
    assert shown.code == 0, shown.text
    head = next(line for line in shown.text.splitlines() if "hisac.auc" in line)
    assert "src/" not in head
    assert "artifacts/" not in head
    numbers = lab.path / "reports/metrics.json"
    numbers.write_text(re.sub(r'("hisac.auc": 0)\.\d+', r"\1.123456", numbers.read_text()))
    changed = lab.run("dvc", "metrics", "diff", "HEAD", "--md", "--precision", "6")
    assert [line for line in changed.text.splitlines() if "hisac.auc" in line and "0.123456" in line], changed.text
    drawn = lab.run("dvc", "plots", "diff", "HEAD", "--out", str(tmp_path / "plots"))
    assert drawn.code == 0, drawn.text
    assert "AUC on the validation period" in (tmp_path / "plots/index.html").read_text()

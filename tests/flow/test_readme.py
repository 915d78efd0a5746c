"""The examples of the documentation are applied and run."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from lab import ROOT, Lab

BLOCK = re.compile(r"```(python|diff)\n# file: (\S+)\n(.*?)```", re.DOTALL)


def apply_blocks(lab: Lab, page: str) -> list[str]:
    """Applies the blocks of one page: a python block is a new file, a diff block an edit of one place."""
    text = (ROOT / "docs" / "howto" / page).read_text()
    touched = []
    for kind, name, body in BLOCK.findall(text):
        touched.append(name)
        if kind == "python":
            (lab.path / name).write_text(body)
            continue
        lines = body.splitlines(keepends=True)
        old = "".join(line[1:] for line in lines if line[0] in " -")
        new = "".join(line[1:] for line in lines if line[0] in " +")
        lab.edit(name, old, new)
    return touched


def test_the_model_of_the_documentation_is_one_file_and_trains_alone(lab: Lab) -> None:
    before = lab.hashes()
    assert len(apply_blocks(lab, "add_model.md")) == 1
    assert lab.snakemake() == ["code"]
    lab.set(**{"models.max": {"kind": "max"}, "experiment.models": ["din_50", "mean", "hisac", "max"]})
    wanted = ["abtest", "evaluate", "register", "report", "train@max-0"]
    assert lab.planned() == wanted
    computed = lab.snakemake()
    assert computed == wanted
    assert {path: lab.hashes()[path] for path in before if "train" in path} == {
        path: before[path] for path in before if "train" in path
    }
    assert lab.both_idle()


def test_the_stage_of_the_documentation_runs_in_both_engines(lab: Lab) -> None:
    assert len(apply_blocks(lab, "add_stage.md")) == 3
    assert lab.snakemake("artifacts/popularity", "--cores", "2") == ["code", "popularity"]
    assert lab.repro("popularity") == []


def test_an_own_log_goes_through_by_the_settings_of_the_documentation(lab: Lab, tmp_path: Path) -> None:
    page = (ROOT / "docs/howto/own_log.md").read_text()
    settings = yaml.safe_load(page.split("```yaml\n")[1].split("```")[0])
    ratings = [line.split("\t") for line in (lab.path / "log/u.data").read_text().splitlines()]
    events = sorted(((u, i, t, r) for u, i, r, t in ratings), key=lambda event: int(event[2]))
    rows = ["user_id,item_id,timestamp,rating", *(",".join(event) for event in events)]
    (tmp_path / "clicks.csv").write_text("\n".join(rows) + "\n")
    films = [line.split("|") for line in (lab.path / "log/u.item").read_text(encoding="latin-1").splitlines()]
    items = ["item_id,title,category", *(f'{film[0]},"{film[1]}",film' for film in films)]
    (tmp_path / "items.csv").write_text("\n".join(items) + "\n")
    settings["acquire"] |= {"path": str(tmp_path / "clicks.csv"), "items_path": str(tmp_path / "items.csv")}
    for section, values in settings.items():
        lab.set(**{f"{section}.{key}": value for key, value in values.items()})
    computed = lab.snakemake("artifacts/codebook", "--cores", "2")
    assert computed == ["acquire", "code", "codebook", "embed", "ingest", "prepare", "shard@0", "shard@1", "tokenize"]

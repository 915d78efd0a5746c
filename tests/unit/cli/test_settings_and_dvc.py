"""DVC's own view of the settings: its writer leaves the file's form alone, its graph agrees with `explain`."""

from __future__ import annotations

import difflib
import shutil
from pathlib import Path

import pytest
from dvc.dependency import ParamsDependency
from dvc.repo import Repo
from dvc.utils.hydra import apply_overrides

from hisac_lab.cli import reach, settings
from hisac_lab.cli.params import Params, defaults, load_params
from hisac_lab.config.base import PARAMS_FILE

ROOT = Path(__file__).parents[3]


def diff(before: str) -> list[str]:
    """Lines that differ, `-` or `+` in front."""
    pairs = difflib.ndiff(before.splitlines(), PARAMS_FILE.read_text().splitlines())
    return [line[0] + line[2:] for line in pairs if line[0] in "+-"]


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ("train.epochs=5", ["-  epochs: 3  # passes", "+  epochs: 5  # passes"]),
        ("train.patience=5", ["-  patience:  # training ends", "+  patience: 5 # training ends"]),
        ("evaluate.reference=din_whole", ["-  reference: din_50  #", "+  reference: din_whole #"]),
        ("backbone.table_mb=2.5", ["-  table_mb:  # MB", "+  table_mb: 2.5 # MB"]),
        ("experiment.seeds=[0,1,2]", ["+  - 2"]),
        ("tokenize.widths=[32,32]", ["-  - 32"]),
        ("prepare.shards=[0]", ["-  - 1"]),
        ("sweep.space.hisac.temperature=[0.03,0.07]", ["-      - 0.15"]),
        ("embed.concat.text=2.0", ["-  concat: {cooccurrence: 1.0, text: 1.0}", "+  concat: {cooccurrence: 1.0, text"]),
        ("prepare.columns.text=[]", ["-    text:  # columns", "-    - title", "+    text:       [] # columns"]),
    ],
)
def test_an_experiment_of_dvc_changes_its_own_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, override: str, changed: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    PARAMS_FILE.write_text(defaults())
    apply_overrides(str(PARAMS_FILE), [override])
    found = diff(defaults())
    assert len(found) == len(changed), found
    assert all(line.startswith(begin) for line, begin in zip(sorted(found), sorted(changed), strict=True)), found


def test_what_params_set_writes_is_left_alone_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    PARAMS_FILE.write_text(defaults())
    for key, value in {
        "models.mine": "{kind: hisac, agents: 8}",
        "models.hisac.budgets": "[4, 2, 1]",
        "prepare.columns.fields": "[genre]",
        "acquire.path": "a/b.csv",
        "train.learning_rate": "2e-4",
        "train.weight_decay": "1e-5",
        "backbone.dropout": "0.25",
    }.items():
        settings.change(key, value)
    apply_overrides(str(PARAMS_FILE), ["train.epochs=5"])
    assert load_params().train.weight_decay == 1e-5  # in DVC's own spelling now, 1e-05
    settings.change("train.epochs", "3")
    before = PARAMS_FILE.read_text()
    apply_overrides(str(PARAMS_FILE), ["train.epochs=5"])
    assert [line[:13] for line in diff(before)] == ["-  epochs: 3 ", "+  epochs: 5 "]


def test_explain_names_the_stages_that_dvc_would_find_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    PARAMS_FILE.write_text(defaults())
    shutil.copy2(ROOT / "dvc.yaml", "dvc.yaml")
    tracked = {
        stage.addressing: [name for dep in stage.deps if isinstance(dep, ParamsDependency) for name in dep.params]
        for stage in Repo.init(no_scm=True).index.stages
    }
    params = Params()
    values = params.model_dump(mode="json")
    for key in settings.every(params):
        first = reach.lines(key, values)[0].partition(": ")[2].split(", ")
        expected = {name for name, names in tracked.items() if any(f"{key}.".startswith(f"{one}.") for one in names)}
        found = {name for name in tracked for one in first if name == one or name.startswith(f"{one}@")}
        assert found == expected, key

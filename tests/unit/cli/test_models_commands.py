"""The commands `models`: the list of versions, all that is known of one, and whether it is what it was."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from finished import edit
from kit import says
from mlflow import MlflowClient
from registered import PRODUCT, listing, register, store_in, write_params

from hisac_lab.base.artifacts import MANIFEST, sha256_tree
from hisac_lab.base.stages import Artifacts
from hisac_lab.cli import models, registry


def test_models_lists_versions_with_aliases_and_evidence(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    registry.promote("new", None)
    capsys.readouterr()
    models.list_versions()
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    base, new = (row for row in rows if row)
    numbers = "0.7|0.69|0.71|control|||0.02|25250000|4000.5|fedcba9876543210"
    assert base == f"1|base||{numbers}".split("|")
    assert new[:3] == ["2", "new", "champion"]
    assert new[6:9] == ["better", "0.008", "0.016"]


def test_models_as_json_has_every_tag_and_a_narrow_terminal_gets_the_first_columns(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    models.list_versions(as_json=True)
    base, new = json.loads(capsys.readouterr().out)
    assert (base["version"], base["model"], base["aliases"], base["auc"]) == ("1", "base", [], "0.7")
    assert new["fingerprint"] == "fedcba9876543210"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    models.list_versions()
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines)
    assert [cell.strip() for cell in lines[1].split("┃")[1:-1]] == [
        "version", "model", "alias", "AUC", "from", "to", "A/B test"]  # fmt: skip


def test_a_look_at_versions_loads_no_torch() -> None:
    """It takes most of the time that the command has."""
    modules = "hisac_lab.cli.models, hisac_lab.cli.version, hisac_lab.cli.registry, hisac_lab.registry.store"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_listing_mirrors_nothing_and_says_what_does(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    registry.promote("new", None)
    manifest = project / "artifacts/register/manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"pipeline": "another"}))
    before = listing(project)
    models.list_versions()
    assert listing(project) == before
    (project / "reports/ledger.jsonl").unlink()
    with says("registry: ranker has no version of this project yet; run the graph, or `hisac-lab sync`"):
        models.list_versions()


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """What was printed since it was asked last."""
    return lambda: capsys.readouterr().out


def shown(said: Callable[[], str], name: str) -> dict[str, Any]:
    said()
    models.show(name, as_json=True)
    facts: dict[str, Any] = json.loads(said())
    return facts


def test_a_version_is_shown_by_alias_and_number_with_where_it_comes_from(
    project: Path, said: Callable[[], str]
) -> None:
    write_params(project, max_state_bytes=100)
    registry.promote("new", None, force=True, reason="a try")
    known = shown(said, "ranker@champion")
    for name in ("champion", "2", "ranker/2", f"models:/{PRODUCT}@champion"):
        assert shown(said, name) == known
    assert (known["model"], known["aliases"], known["origin"]["commit"]) == ("new", ["champion"], "")
    assert known["bundle"] == sha256_tree(project / "artifacts/register/new")
    assert known["origin"]["settings"]["mlflow.experiment"] == {"value": "tests", "default": "hisac-lab"}
    assert known["origin"]["source"]["files"] == {"log.csv": "ab" * 32}
    assert known["origin"]["sweeps"]["new"]["chosen"] == 0
    assert known["evidence"]["metrics"]["auc"]["interval"] == [0.7, 0.72]
    assert [line["action"] for line in known["ledger"]] == ["promote"]
    models.show("champion")
    text = said()
    assert max(map(len, text.splitlines())) <= 80
    for part in (
        "ranker version 2: new, champion",
        "mlflow.experiment: tests (default hisac-lab)",
        "trial 0 of 2",
        "auc 0.7100 [0.7000, 0.7200]",
        "better by fitted evidence",
        "FAIL max_state_bytes",
        "forced: a try",
    ):
        assert part in text


def test_an_unknown_version_or_product_is_one_line(project: Path) -> None:
    with says("registry: ranker has no version or alias '9' (there are: 1, 2, challenger); name one of them"):
        models.show("9")
    with says("registry: 'other' is not this project's product, ranker; write ranker@ALIAS or ranker/VERSION"):
        models.verify_version("other@champion")


def test_a_whole_version_is_verified_part_by_part(project: Path, said: Callable[[], str]) -> None:
    registry.promote("new", None)
    said()
    models.verify_version("champion")
    marks = {line.split()[1].rstrip(":"): line.split()[0] for line in said().splitlines()}
    assert set(marks.values()) == {"ok"}
    parts = {"bundle", "code", "weights", "tags", "files", "champion", "ledger", "origin", "prepare", "codebook"}
    assert parts <= set(marks)


@pytest.mark.parametrize(
    ("part", "file"),
    [
        ("bundle", "mlruns/**/card.json"),
        ("weights", "mlruns/**/weights.safetensors"),
        ("code", "mlruns/**/code/hisac_lab/__init__.py"),
        ("files", "artifacts/register/new/evidence.json"),
        ("champion", "champion/card.json"),
        ("prepare", "artifacts/prepare/items.parquet"),
    ],
)
def test_a_damaged_part_is_named_and_fails(project: Path, said: Callable[[], str], part: str, file: str) -> None:
    registry.promote("new", None)
    said()
    damaged = list(project.glob(file))
    assert damaged
    for path in damaged:
        path.write_bytes(path.read_bytes() + b" ")
    with says("version 2: ", " parts are damaged (", part):
        models.verify_version("champion")
    (line,) = [line for line in said().splitlines() if f" {part}: " in line]
    assert line.startswith("FAIL")


def test_a_number_that_was_changed_in_mlflow_is_named(project: Path, said: Callable[[], str]) -> None:
    MlflowClient(store_in(project).tracking_uri).set_model_version_tag(PRODUCT, "2", "auc", "0.99")
    with says("version 2: 1 of", "damaged (tags)"):
        models.verify_version("2")
    assert "FAIL tags: version 2: tag auc: is 0.99, the evidence says 0.71" in said()


def different(one: dict[str, Any], other: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Entries that differ."""
    pairs = {key: (one.get(key), other.get(key)) for key in one | other}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def lose(project: Path, empty_store: Path) -> None:
    """The registry is gone: a fresh store stands in its place."""
    shutil.copyfile(empty_store, project / "mlflow.db")
    shutil.rmtree(project / "mlruns")


def test_a_lost_registry_comes_back_from_the_files(project: Path, empty_store: Path, said: Callable[[], str]) -> None:
    """Versions, aliases, evidence, the mark of a forced promotion, and where each comes from."""
    write_params(project, max_state_bytes=100)
    registry.promote("base", None, force=True, reason="a try")
    registry.promote("new", None, force=True, reason="another")
    said()
    models.list_versions(as_json=True)
    before, known = json.loads(said()), shown(said, "champion")
    assert [one["hisac_lab.forced"] for one in before] == ["a try", "another"]
    lose(project, empty_store)
    registry.sync()
    said()
    models.list_versions(as_json=True)
    again, whole = json.loads(said()), shown(said, "champion")
    assert [different(one, other) for one, other in zip(before, again, strict=True)] == [{}, {}]
    assert different(known, whole) == {}


def test_a_champion_of_an_earlier_run_comes_back_from_its_folder(
    project: Path, empty_store: Path, said: Callable[[], str]
) -> None:
    registry.promote("new", None)
    known = shown(said, "champion")
    made = Artifacts(project / "artifacts")
    edit(made.abtest / MANIFEST, test_fingerprint="another day")
    register(made)
    assert sha256_tree(made.bundle("new")) != known["bundle"]
    lose(project, empty_store)
    registry.sync()
    again = shown(said, "champion")
    assert different(known, again) == {"version": ("2", "1")}
    models.list_versions(as_json=True)
    assert [one["model"] for one in json.loads(said())] == ["new", "base", "new"]
    said()
    models.verify_version("champion")
    assert "-    files: artifacts/register/new is of another run" in said()

"""The commands `items`: what they write, what they say, and one line for what is wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml
from bundles import bundle_of, new_rows
from finished import edit
from kit import Stages, says
from registered import PRODUCT, apart, finish, store_in, with_evidence

from hisac_lab.base.artifacts import sha256_tree
from hisac_lab.cli import items as command
from hisac_lab.cli import models, registry
from hisac_lab.cli.params import defaults, load_params
from hisac_lab.inference.bundle import weights_of
from hisac_lab.inference.records import VocabularyFile
from hisac_lab.models.contract import ItemSpace
from hisac_lab.registry.records import Evidence, Registered

pytestmark = pytest.mark.skipif("not __import__('importlib').util.find_spec('wordllama')")


@pytest.fixture(scope="module")
def home(stages: Stages, items: ItemSpace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with params.yaml, a bundle with evidence, and a table of two new items."""
    made = tmp_path_factory.mktemp("items")
    bundle = bundle_of(made / "bundle", "hisac", stages, items)
    run = finish(made / "artifacts")
    for file in ("card.json", "evidence.json"):
        shutil.copyfile(run.bundle("new") / file, bundle / file)
    (made / "params.yaml").write_text(defaults())
    new_rows(stages, ["river storm", "a quiet winter"]).to_csv(made / "new.csv", index=False)
    return made


def add(bundle: str | None = "bundle", out: str | None = "out", table: str = "new.csv") -> None:
    paths = [None if name is None else Path(name) for name in (bundle, out)]
    command.add(Path(table), None, "champion", paths[0], paths[1], False)


def test_a_bundle_gets_more_items_in_a_folder_of_its_own(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(home)
    before = sha256_tree(home / "bundle")
    add(out="more")
    assert capsys.readouterr().out == "more: bundle with 2 items appended, 2 of them with a semantic ID\n"
    assert VocabularyFile.open(home / "more").items[-2:] == ["n0", "n1"]
    assert [part.items for part in Evidence.open(home / "more").appended] == [2]
    assert sha256_tree(home / "bundle") == before
    command.changes(Path("bundle"), Path("more"))
    assert capsys.readouterr().out == "0 of 80 items in both have another semantic ID; 2 are new, 0 are gone\n"
    moved = Path(shutil.copytree(home / "more/tokens", home / "moved"))
    table = pd.read_parquet(moved / "ids.parquet")
    table.assign(code_3=(table["code_3"] + 1).clip(0, 7)).to_parquet(moved / "ids.parquet", index=False)
    command.changes(Path("more"), Path("moved"))
    lines = capsys.readouterr().out.splitlines()
    command.changes(Path("more"), Path("moved"), as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert len(told["changed"]) > command.LISTED
    assert lines[0].startswith(f"{len(told['changed'])} of 82 items in both have another semantic ID")
    assert len(lines) == 1 + command.LISTED + 1
    assert lines[-1] == f"  and {len(told['changed']) - command.LISTED} more, all in --json"


def test_the_champion_gets_more_items_as_a_version_that_promote_takes(
    home: Path, empty_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = finish(tmp_path / "artifacts")
    shutil.rmtree(run.bundle("new"))
    shutil.copytree(home / "bundle", run.bundle("new"))
    digest = with_evidence(run.bundle("new"), weights=weights_of(run.bundle("new")))
    edit(run.register / "manifest.json", models=Registered.open(run.register).models | {"new": digest})
    shutil.copyfile(home / "new.csv", tmp_path / "new.csv")
    shutil.copyfile(empty_store, tmp_path / "mlflow.db")
    settings = yaml.safe_load(defaults())
    settings["mlflow"] |= store_in(tmp_path).model_dump()
    settings["train"]["start_from"] = "of an earlier day"
    settings["promotion"]["replay_requests"] = 0  # the made-up run has no log to replay
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(settings))
    (tmp_path / "dvc.yaml").write_text("stages:\n  prepare: {}\n  report: {}\n")
    with apart(tmp_path):
        with says(f"{PRODUCT}: has no champion"):
            add(bundle=None, out=None)
        registry.sync()
        registry.promote("new", None, force=True, reason="the first")
        first = load_params().models.get("champion").model_dump()["digest"]  # type: ignore[union-attr]
        capsys.readouterr()
        add(bundle=None, out=None)
        said, hint = capsys.readouterr().out.splitlines()
        number = said.split()[2].rstrip(":")
        assert said.startswith(f"{PRODUCT} version {number}: version ")
        assert said.endswith("with 2 items appended, 2 with a semantic ID")
        assert hint == f"`hisac-lab promote --version {number}` makes it champion"
        with says(f"version {number}: it has items that were appended after its training, which no run makes; rebuild"):
            models.rebuild_version(number, None, None)
        command.add(Path("new.csv"), None, "champion", None, None, True)
        assert f"version {number} is champion" in capsys.readouterr().out, "the same items are the same version"
        assert VocabularyFile.open(tmp_path / "champion").items[-1] == "n1"
        with says("new.csv: item: item 'n0' is one of the model's already"):
            add(bundle=None, out=None)
        now = load_params().train.start_from
    assert first == digest != now == sha256_tree(tmp_path / "champion"), "training begins with the champion of the day"


def test_what_is_wrong_is_one_line(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    with says("items add: --bundle and --out belong together"):
        add(out=None)
    with says("no.csv: does not exist; name a .csv"):
        add(table="no.csv")
    with says("artifacts: is there already; name a folder that is not"):
        add(out="artifacts")
    Path("nameless.csv").write_text("text\nsome words\n")
    with says("nameless.csv: item: columns are missing: item, genres, decade (there are: text); add", "catalog.json"):
        add(table="nameless.csv")
    frame = pd.read_csv("new.csv")
    field = frame.columns[-1]
    frame.assign(**{field: "never seen"}).to_csv("strange.csv", index=False)
    with says(f"strange.csv: {field}: item 'n0' has the value 'never seen', which no item of the log has"):
        add(table="strange.csv")
    assert not Path("out").exists()
    with says("artifacts: holds no semantic IDs (ids.parquet); name a bundle"):
        command.changes(Path("artifacts"))

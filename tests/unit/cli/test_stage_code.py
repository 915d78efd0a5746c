"""The stage `code`: one file for each model, with the digest of the code of its kind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from kit import says

from hisac_lab.base.artifacts import read_json
from hisac_lab.cli import code, params
from hisac_lab.cli.stages import code as stage
from hisac_lab.models.catalog import BUILT_IN

PARAMS = yaml.safe_load(params.defaults())


def write(models: dict[str, dict[str, str]]) -> None:
    Path("params.yaml").write_text(yaml.safe_dump(PARAMS | {"models": PARAMS["models"] | models}))


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write({})


def test_each_kind_is_found_where_it_stands() -> None:
    assert code.kinds() == {
        name: code.BuiltIn(kind.__module__, kind.Config.needs_instances) for name, kind in BUILT_IN.items()
    }


def test_models_of_one_kind_have_the_same_code_and_those_of_others_another() -> None:
    assert not code.is_current()
    stage.run()
    assert code.is_current()
    one, two, three, four, five = (read_json(Path(f"artifacts/code/models/{name}.json")) for name in PARAMS["models"])
    assert one == two != three
    assert four == five != three
    assert (three["kind"], four["kind"]) == ("hisac", "linear")
    assert set(read_json(Path("artifacts/code/experiment.json"))["models"]) == set(PARAMS["models"])
    assert read_json(Path("artifacts/code/source.json")) == read_json(Path("artifacts/code/quantizer.json")) == {}


def test_a_new_model_leaves_the_files_of_the_others() -> None:
    stage.run()
    before = {path: path.read_text() for path in Path("artifacts/code").rglob("*.json")}
    write({"mean": {"kind": "mean"}})
    assert not code.is_current()
    stage.run()
    new = {path for path in Path("artifacts/code").rglob("*.json") if path.read_text() != before.get(path)}
    assert new == {Path("artifacts/code/models/mean.json")}


def test_a_kind_that_nobody_brings_is_named() -> None:
    write({"mine": {"kind": "most"}})
    with says("params.yaml", "models.mine.kind", "'most' is no kind of model", "install the package"):
        code.files()


def test_the_stage_needs_no_torch() -> None:
    text = "import sys; from hisac_lab.cli.stages import code; code.run(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", text], check=False).returncode == 0

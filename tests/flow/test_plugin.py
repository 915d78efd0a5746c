"""A package from outside brings a model, a data set and a quantizer, and goes all the way without an edit here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from lab import Lab
from plugins import PLUGIN, install
from tiny import make_log

MODEL = "shop-models==1.2"
SCORE = """
import importlib.util, mlflow, pandas as pd, sys
assert importlib.util.find_spec("shop_models") is None
mlflow.set_tracking_uri("sqlite:///" + sys.argv[1] + "/mlflow.db")
versions = mlflow.MlflowClient().search_model_versions("tags.model = 'peak'")
uri = f"models:/ranker/{max(int(version.version) for version in versions)}"
model = mlflow.pyfunc.load_model(uri)
request = {"history_items": [["3", "5", "8"]], "history_times": [[10, 20, 86400]], "time": [90000],
           "candidates": [["1", "2", "7"]]}
print([len(scores) for scores in model.predict(pd.DataFrame(request))["scores"]])
print(mlflow.pyfunc.get_model_dependencies(uri, format="pip"))
"""


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the package is installed."""
    return install(PLUGIN, tmp_path_factory.mktemp("site"))


@pytest.fixture
def lab(plugin: Path, tmp_path: Path) -> Lab:
    """A fresh project beside the package, which uses all that the package brings."""
    lab = Lab.found(tmp_path / "lab")
    lab.one_process("sweep")
    events, _ = make_log()
    table = events.set_axis(["who", "what", "stars", "when"], axis=1)
    table.to_csv(lab.path / "log/shop.csv", index=False)
    lab.set(
        **{
            "acquire.dataset": "shop-log",
            "embed.method": "cooccurrence",
            "embed.cooccurrence_dim": 16,
            "tokenize.method": "brief",
            "tokenize.limits.min_explained_variance": -1.0,
            "tokenize.limits.min_neighbor_overlap": 0.0,
            "models.peak": {"kind": "peak", "window": 20},
            "experiment.models": ["din_50", "peak"],
        }
    )
    lab.commit("a package from outside")
    return Lab(lab.path, (plugin,))


def test_a_package_from_outside_goes_through_the_whole_graph(lab: Lab, tmp_path: Path) -> None:
    computed = lab.snakemake("--cores", "2")
    assert {"acquire", "tokenize", "train@peak-0", "evaluate", "abtest", "register", "report"} <= set(computed)
    assert lab.both_idle()
    for made in ("acquire/manifest", "tokenize/manifest", "train/peak-0/manifest", "register/peak/model"):
        assert json.loads((lab.path / f"artifacts/{made}.json").read_text())["package"] == MODEL, made
    assert "package" not in json.loads((lab.path / "artifacts/register/din_50/model.json").read_text())
    assert "peak" in (lab.path / "reports/report.md").read_text()
    peak = lab.beside[0] / "shop_models/peak.py"
    peak.write_text(peak.read_text().replace("max pooling", "maximum pooling", 1))
    assert lab.planned() == ["abtest", "evaluate", "register", "report", "train@peak-0"]
    assert "train@peak-0" in lab.snakemake()
    answer = lab.run("hisac-lab", "sync")
    assert answer.code == 0, answer.text
    environment = {key: value for key, value in lab.environment.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-c", SCORE, str(lab.path)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "[3]" in done.stdout
    requirements = Path(done.stdout.split()[-1]).read_text()
    assert f"numpy=={metadata.version('numpy')},>=2\n" in requirements + "\n", "ours and the package's own"
    assert "hisac-lab" not in requirements
    without = Lab(lab.path).run("hisac-lab", "stage", "register")
    assert "models.peak" in without.text or "acquire.dataset" in without.text
    assert len(without.text.splitlines()) == 1


def test_the_laws_hold_for_what_it_brings(plugin: Path, tmp_path: Path) -> None:
    shutil.copytree(PLUGIN / "tests", tmp_path / "tests")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(plugin), os.environ.get("PYTHONPATH", "")])}
    # a folder of its own: else it clears away what earlier runs left, which takes a minute, and may be the outer run's
    home = f"--basetemp={tmp_path / 'home'}"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", home, "tests"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    for law in ("TestPeak", "TestBrief", "TestShop"):
        assert law not in done.stdout
    assert int(done.stdout.split(" passed")[0].split()[-1]) > 40

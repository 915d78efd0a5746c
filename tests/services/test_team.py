"""Two clones share MLflow behind a password, on PostgreSQL and S3, and DVC's remote, while each of these is killed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import member
import optuna
import pytest
from finished import edit
from kit import says
from lab import Lab
from mlflow import MlflowClient
from registered import PAIRS, PRODUCT, apart, finish, listing, register
from servers import Team, team

from hisac_lab.base.stages import Artifacts
from hisac_lab.config.mlflow import MLflowConfig
from hisac_lab.registry.mirror import COMPLETE, Lineage
from hisac_lab.registry.store import Registry

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    folder = tmp_path_factory.mktemp("team")
    with team(folder) as started, pytest.MonkeyPatch.context() as patch:
        for name, value in started.environment.items():
            patch.setenv(name, value)
        yield started


@pytest.fixture(scope="module")
def clones(shared: Team, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two folders of one project: they have its ledger, and results of their own."""
    home = tmp_path_factory.mktemp("clones")
    origin = home / "origin"
    finish(origin / "artifacts")
    mirror(origin, settings(shared))
    for index, name in enumerate(("one", "two")):
        made = Artifacts(shutil.copytree(origin, home / name) / "artifacts")
        edit(made.evaluate / "metrics.json", pairs=[PAIRS[0] | {"p": 0.01 + index / 100}])
        register(made)
    return home / "one", home / "two"


@pytest.fixture(scope="module")
def published(shared: Team, finished: Lab, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """The finished graph, its outputs in the bucket and its runs on the server."""
    lab = finished.copy(tmp_path_factory.mktemp("published") / "origin")
    settings = {"tracking_uri": shared.tracking.address, "experiment": "graph", "mirror": True}
    lab.set(**{f"mlflow.{key}": value for key, value in settings.items()}, **{"promotion.product": "graph"})
    done(lab, "dvc", "remote", "add", "--default", "store", "s3://dvc/graph")
    done(lab, "dvc", "remote", "modify", "store", "endpointurl", shared.bucket.address)
    done(lab, "dvc", "push", "--quiet")
    assert "mirrored" in done(lab, "hisac-lab", "sync")
    lab.commit("published")
    return lab


def mirror(folder: Path, config: MLflowConfig) -> bool:
    """Brings MLflow up to date; gives whether there was anything new."""
    with apart(folder), Registry.open(config, PRODUCT, folder / "ledger.jsonl", folder / ".work") as registry:
        return registry.mirror(Artifacts(folder / "artifacts"), Lineage("0123abc", {}), Path("nothing"))[1]


def begin(folder: Path, shared: Team) -> subprocess.Popen[str]:
    command = [sys.executable, member.__file__, str(folder), shared.tracking.address]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def trees(shared: Team, experiment: str = "tests") -> tuple[int, int]:
    """Whole runs of the graph, and all runs, with those below them."""
    client = MlflowClient(shared.tracking.address)
    (mine,) = [one for one in client.search_experiments() if one.name == experiment]
    assert mine.artifact_location.startswith("mlflow-artifacts:")
    every = client.search_runs([mine.experiment_id])
    return sum(COMPLETE in run.data.tags for run in every), len(every)


def done(lab: Lab, *command: str) -> str:
    answer = lab.run(*command)
    assert answer.code == 0, answer.text
    return answer.text


def at_once(labs: list[Lab], *command: str) -> list[str]:
    """Runs a command in several folders at the same time, each to a good end."""
    running = [lab.start(*command) for lab in labs]
    said = [one.communicate()[0] for one in running]
    assert [one.returncode for one in running] == [0] * len(labs), "\n".join(said)
    return said


def settings(shared: Team) -> MLflowConfig:
    return MLflowConfig(tracking_uri=shared.tracking.address, experiment="tests")


def test_a_server_that_is_killed_under_two_clones_costs_a_line_each_and_no_run(
    shared: Team, clones: tuple[Path, Path]
) -> None:
    whole, every = trees(shared)
    assert whole == 1
    members = [begin(folder, shared) for folder in clones]
    while trees(shared)[1] < every + 2:  # both may have begun
        assert any(one.poll() is None for one in members), members[0].communicate()
        time.sleep(0.2)
    shared.tracking.kill()
    for one in members:
        _, errors = one.communicate()
        assert one.returncode == 1
        assert errors.strip().splitlines()[-1].startswith(f"error: {shared.tracking.address}: ")
        assert "Traceback" not in errors
    shared.tracking.start()
    members = [begin(folder, shared) for folder in clones]
    for one in members:
        said, errors = one.communicate()
        assert one.returncode == 0, errors
        assert said.split()[-1] == "True"
    assert trees(shared) == (3, 3 * every)  # nothing half-written is left
    assert not mirror(clones[0], settings(shared))


def test_a_database_that_stops_is_told_and_nothing_is_lost(shared: Team, clones: tuple[Path, Path]) -> None:
    before = trees(shared)
    shared.database.stop()
    try:
        with says(f"{shared.tracking.address}: answers with TEMPORARILY_UNAVAILABLE: ", "see the server's log"):
            mirror(clones[0], settings(shared))
    finally:
        shared.database.start()
    assert not mirror(clones[0], settings(shared))
    assert trees(shared) == before


def test_a_database_that_stops_in_the_middle_of_a_mirror_costs_a_line_and_no_run(
    shared: Team, clones: tuple[Path, Path]
) -> None:
    whole, every = trees(shared)
    made = Artifacts(clones[0] / "artifacts")
    edit(made.evaluate / "metrics.json", pairs=[PAIRS[0] | {"p": 0.03}])
    register(made)
    cut = begin(clones[0], shared)
    while trees(shared)[1] < every + 2:
        assert cut.poll() is None, cut.communicate()
        time.sleep(0.2)
    shared.database.stop()
    try:
        _, errors = cut.communicate()
    finally:
        shared.database.start()
    assert cut.returncode == 1
    assert errors.strip().splitlines()[-1].startswith(f"error: {shared.tracking.address}: ")
    assert "Traceback" not in errors
    again = begin(clones[0], shared)
    said, errors = again.communicate()
    assert again.returncode == 0, errors
    assert said.split()[-1] == "True"
    assert trees(shared) == (whole + 1, every + every // whole)


def test_a_wrong_password_and_a_missing_one_are_told(
    shared: Team, clones: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "no")
    with says(f"{shared.tracking.address}: refuses this user (HTTP 401); see user and password"):
        mirror(clones[0], settings(shared))
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.delenv(name)
    with says("refuses this user (HTTP 401)", "or MLFLOW_TRACKING_TOKEN"):
        mirror(clones[0], settings(shared))


def test_without_a_server_files_lie_in_the_bucket_and_the_other_clone_reads_them(
    shared: Team, clones: tuple[Path, Path]
) -> None:
    uri = shared.database.make("direct").replace("postgresql:", "postgresql+psycopg2:")
    config = MLflowConfig(tracking_uri=uri, experiment="tests", artifact_root="s3://mlflow/direct")
    assert mirror(clones[0], config)
    ledger = (PRODUCT, clones[1] / "ledger.jsonl", clones[1] / ".work")
    shared.bucket.kill()
    try:
        with (
            says("the store of its files: Could not connect to the endpoint URL", "mlflow.artifact_root"),
            apart(clones[1]),
            Registry.open(config, *ledger) as registry,
        ):
            registry.versions.evidence(registry.versions.pick("new", None))
    finally:
        shared.bucket.start()
    with apart(clones[1]), Registry.open(config, *ledger) as registry:
        assert registry.versions.evidence(registry.versions.pick("new", None)).model == "new"
        (tree,) = registry.client.search_runs([registry.experiment], f"tags.`{COMPLETE}` = 'true'")
        assert tree.info.artifact_uri.startswith("s3://mlflow/direct/tests/")


def test_mlflow_and_optuna_have_a_database_each_of_one_server(shared: Team) -> None:
    study = optuna.create_study(study_name="s", storage=shared.database.make("optuna"))
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    assert len(study.trials) == 2
    assert trees(shared)[0] >= 1


def test_pushes_at_once_through_a_killed_s3_server_lose_no_byte(
    shared: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # else each file is tried for half a minute
    labs = [Lab(tmp_path / name) for name in ("one", "two")]
    for number, lab in enumerate(labs):
        made = lab.path / "made"
        made.mkdir(parents=True)
        for part in range(200):
            (made / f"{part}").write_text(f"{part} of {part % 2 or number}\n" * 1000)  # half of it both have
        done(lab, "dvc", "init", "--no-scm", "--quiet")
        done(lab, "dvc", "remote", "add", "--default", "store", "s3://dvc/store")
        done(lab, "dvc", "remote", "modify", "store", "endpointurl", shared.bucket.address)
        done(lab, "dvc", "add", "--quiet", "made")
    pushes = [lab.start("dvc", "push", "--quiet") for lab in labs]
    while not shared.objects("dvc", "store/"):
        assert all(push.poll() is None for push in pushes)
        time.sleep(0.05)
    shared.bucket.kill()
    for push in pushes:
        push.communicate()
        assert push.returncode in (1, 255)
    assert "ERROR: " in labs[0].run("dvc", "push").text
    shared.bucket.start()
    monkeypatch.delenv("AWS_MAX_ATTEMPTS")
    at_once(labs, "dvc", "push", "--quiet")
    for lab in labs:
        made = lab.path / "made"
        there = listing(made)
        shutil.rmtree(made)
        shutil.rmtree(lab.path / ".dvc/cache")
        done(lab, "dvc", "pull", "--quiet")
        assert listing(made) == there


def test_the_graph_of_two_clones_goes_on_while_mlflow_and_the_bucket_are_away_and_they_meet_later(
    shared: Team, published: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # while it is away
    clones = [published.clone(tmp_path / name) for name in ("one", "two")]
    at_once(clones, "dvc", "pull", "--quiet")
    before = trees(shared, "graph")
    for seed, clone in enumerate(clones, start=5):
        clone.set(**{"abtest.seed": seed})
    running = [clone.start("snakemake", "--cores", "1") for clone in clones]
    while not all((clone.path / "logs/abtest.log").exists() for clone in clones):
        assert all(one.poll() is None for one in running)
        time.sleep(0.1)
    shared.tracking.kill()
    shared.bucket.kill()
    away = f"MLflow at {shared.tracking.address} was not updated ({shared.tracking.address}: does not answer"
    for clone, one in zip(clones, running, strict=True):
        said, _ = one.communicate()
        assert one.returncode == 0, said
        assert {log.stem for log in (clone.path / "logs").glob("*.log")} == {"abtest", "register", "report"}
        log = (clone.path / "logs/register.log").read_text()
        assert away in log
        assert "Traceback" not in log
        assert "ERROR: " in clone.run("dvc", "push").text
        clone.commit("another seed")
    shared.bucket.start()
    shared.tracking.start()
    monkeypatch.delenv("AWS_MAX_ATTEMPTS")
    assert all(": mirrored" in said for said in at_once(clones, "hisac-lab", "sync"))
    assert trees(shared, "graph") == (3, 3 * before[1])
    at_once(clones, "dvc", "push", "--quiet")
    later = [clone.clone(clone.path.with_name(f"after {clone.path.name}")) for clone in clones]
    at_once(later, "dvc", "pull", "--quiet")
    for clone, third in zip(clones, later, strict=True):
        assert third.hashes() == clone.hashes()
        assert done(third, "dvc", "status", "--quiet") == ""
    assert "was there already" in done(later[0], "hisac-lab", "sync")

"""The commands around the registry: what they say, and that a store which does not answer stops no stage."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from finished import edit
from kit import says
from mlflow import MlflowClient
from registered import PRODUCT, SETTINGS, store_in, where, write_params

from hisac_lab.base.artifacts import sha256_tree
from hisac_lab.base.errors import UserError
from hisac_lab.cli import champion, lineage, models, registry, running
from hisac_lab.cli.params import Params, load_params
from hisac_lab.models.champion import ChampionConfig
from hisac_lab.registry.store import Registry

SEATED = "the next run of the graph compares with it (champion/, models.champion, abtest.control)"


def ledger(project: Path) -> list[dict[str, Any]]:
    begin, *lines = (project / "reports/ledger.jsonl").read_text().splitlines()
    assert json.loads(begin)["action"] == "begin"
    return [json.loads(line) for line in lines]


def top_run(project: Path) -> Any:
    client = MlflowClient(store_in(project).tracking_uri)
    experiment = client.get_experiment_by_name("tests")
    assert experiment is not None
    (top,) = client.search_runs([experiment.experiment_id], "tags.hisac_lab.complete = 'true'")
    return top


def test_sync_says_whether_the_run_is_new_and_attaches_what_is_there(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "reports/figures").mkdir(parents=True)
    for name in ("report.md", "figures/curve.svg", "figures/curve.txt"):
        (project / "reports" / name).write_text("it")
    registry.sync()
    top = top_run(project)
    assert capsys.readouterr().out == f"MLflow run {top.info.run_id}: was there already\n"
    client = MlflowClient(store_in(project).tracking_uri)
    files = {file.path for folder in ("", "figures") for file in client.list_artifacts(top.info.run_id, folder)}
    assert {"params.yaml", "report.md", "figures/curve.svg"} < files
    assert not {"report.html", "figures/curve.txt"} & files
    manifest = project / "artifacts/register/manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"pipeline": "another"}))
    registry.sync()
    assert capsys.readouterr().out.endswith(": mirrored\n")


def test_the_run_holds_every_setting_by_its_dotted_name(project: Path) -> None:
    params = top_run(project).data.params
    assert params["train.epochs"] == str(SETTINGS["train"]["epochs"])
    assert params["tokenize.widths"] == str(SETTINGS["tokenize"]["widths"])
    assert params["promotion.product"] == PRODUCT
    assert params["models.hisac.kind"] == "hisac"


def test_a_version_whose_requests_are_not_here_is_refused_in_a_line(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_params(project, replay_requests=2)
    edit(project / "artifacts/evaluate/manifest.json", fingerprint="0123456789abcdef")
    with says("not promoted", "max_skew"):
        registry.promote("new", None)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "max_skew" in line]
    assert line.startswith("  FAIL max_skew: replay: the evaluation here is 0123456789abcdef, its own ")
    assert line.endswith("check out its commit, or set promotion.replay_requests to 0")


GATES = [
    "max_auc_loss",
    "abtest",
    "abtest_checks",
    "max_calibration_error",
    "max_request_cost",
    "max_state_bytes",
    "fingerprints",
    "bundle",
]


def test_a_promotion_says_every_gate_and_how_to_load_the_champion(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry.promote(None, None)
    who, *gates, last, seated = capsys.readouterr().out.splitlines()
    assert who.startswith("new version 2 is the challenger: of all that are not champion it has the best AUC")
    assert [line.split()[:2] for line in gates] == [["ok", f"{name}:"] for name in GATES]
    assert last == "new version 2 is champion: load it with models:/ranker@champion"
    assert seated == f"params.yaml: {SEATED}"
    assert [entry["action"] for entry in ledger(project)] == ["promote"]


def test_a_refusal_says_every_gate_and_names_those_that_failed(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_params(project, max_state_bytes=100, max_calibration_error=0.01)
    failed = "2 of 8 gates failed (max_calibration_error, max_state_bytes)"
    with says(f"new version 2: not promoted, {failed}; fix the model, or the gates in params.yaml: promotion"):
        registry.promote("new", None)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["ok", "ok", "ok", "FAIL", "ok", "FAIL", "ok", "ok"]
    assert lines[5] == "  FAIL max_state_bytes: bytes of user state is 4,000, the limit is 100"
    assert [entry["action"] for entry in ledger(project)] == ["refuse"]


def test_no_champion_moves_while_a_graph_runs_here(project: Path) -> None:
    registry.promote(None, None)
    before = ledger(project)
    with running.hold("", ""):
        for move in (partial(registry.promote, None, None), registry.rollback):
            with says("another run (process", "works here, so no champion moves; wait for it or stop it"):
                move()
    assert ledger(project) == before
    registry.rollback()


def test_who_promotes_is_told_which_models_of_the_board_are_ahead(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry.promote("base", None, force=True, reason="it is known")
    said = capsys.readouterr().out
    assert "on its board these are ahead of it in AUC by the whole interval: new by 0.0100\n" in said


def test_a_forced_promotion_needs_a_reason_and_says_what_it_went_past(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_params(project, max_state_bytes=100)
    for force, reason in ((True, None), (True, " "), (False, "because")):
        with says('promote: --force and --reason belong together; write --force --reason "WHY"'):
            registry.promote(None, None, force=force, reason=reason)
    registry.promote(None, None, force=True, reason="no other is left")
    *_, forced, last, _ = capsys.readouterr().out.splitlines()
    assert forced == "forced past max_state_bytes; the ledger keeps the reason"
    assert "new version 2 is champion" in last
    assert [(entry["action"], entry["forced"]) for entry in ledger(project)] == [("promote", "no other is left")]


def test_a_rollback_says_who_is_champion_now(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    registry.promote("base", None)
    registry.promote(None, None)
    assert "new version 2 is champion" in capsys.readouterr().out
    registry.rollback()
    assert capsys.readouterr().out == f"ranker: champion was version 2, is version 1 again\nparams.yaml: {SEATED}\n"
    registry.rollback()
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "ranker: champion was version 1, now there is none, as before"
    assert said[1] == "params.yaml: the board is without a champion"
    with says("reports/ledger.jsonl: ranker has no champion; nothing to roll back"):
        registry.rollback()


def test_the_champion_stands_in_the_project_on_its_board_and_as_the_control(project: Path) -> None:
    before, folder = load_params(), project / "champion"
    for model in ("base", "new"):
        registry.promote(model, None)
        params = load_params()
        assert params.experiment.models == (*before.experiment.models, "champion")
        assert params.abtest.control == "champion"
        entry = params.models["champion"]
        bundle = project / "artifacts/register" / model
        assert isinstance(entry, ChampionConfig)
        digest = entry.digest
        assert digest == sha256_tree(folder) == sha256_tree(bundle)
    shutil.rmtree(folder)
    registry.sync()
    assert sha256_tree(folder) == digest
    for file in ("weights.safetensors", "vocabulary.json"):
        (folder / file).write_bytes(b"other")
        registry.sync()
        assert sha256_tree(folder) == digest
    registry.rollback()
    assert sha256_tree(folder) == sha256_tree(project / "artifacts/register/base")
    registry.rollback()
    after = load_params()
    assert after.experiment == before.experiment
    assert after.abtest == before.abtest
    assert not folder.exists()


def test_a_champion_that_reads_stored_instances_stays_off_the_board(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later day has other items: neither board nor test is asked to go on with it."""
    before = load_params()
    registry.promote("base", None)
    bundle = Path(shutil.copytree(project / "artifacts/register/new", tmp_path / "bundle"))
    edit(bundle / "model.json", instances="a digest")
    monkeypatch.setattr(champion, "_bundle", lambda _: bundle)
    with Registry.open(*where(project), project / ".work") as opened:
        said = champion.seat(opened)
    assert said == (
        "params.yaml: the board is without the champion, which reads stored instances: a later day has others"
    )
    after = load_params()
    assert (after.experiment, after.abtest) == (before.experiment, before.abtest)
    assert not (project / "champion").exists()


def test_a_refused_promotion_leaves_the_project_as_it_was(project: Path) -> None:
    write_params(project, max_state_bytes=100)
    before = (project / "params.yaml").read_bytes()
    with pytest.raises(UserError, match="not promoted"):
        registry.promote("new", None)
    assert (project / "params.yaml").read_bytes() == before
    assert not (project / "champion").exists()


def test_before_anything_is_made_no_store_is_begun_and_a_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert registry.mirror_or_say(Params()) == ""
    assert "nothing to show of this project yet: run the graph" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_store_that_does_not_answer_costs_two_lines(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(Registry, "open", fail)
    params = load_params()
    registry.mirror_or_say(params)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        f"MLflow at {params.mlflow.tracking_uri} was not updated (ConnectionError: no route)",
        "the files are whole; `hisac-lab sync` tries again",
    ]
    with pytest.raises(ConnectionError):
        registry.sync()


@pytest.mark.parametrize(
    "command",
    [
        registry.sync,
        models.list_versions,
        partial(registry.promote, "new", None),
        registry.rollback,
        partial(registry.ui, 5001),
    ],
)
def test_every_command_says_in_one_line_that_a_store_does_not_answer(
    project: Path, command: Callable[[], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "execv", lambda *_: pytest.fail("no server is needed"))
    uri = "http://me:sesame@127.0.0.1:9"
    write_params(project, uri)
    what = "http://me:***@127.0.0.1:9: does not answer, the connection failed; start the server, or see mlflow.tracking"
    with says(what):
        command()
    assert "".join(capsys.readouterr()) == ""
    registry.mirror_or_say(load_params())
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith(f"MLflow at http://me:***@127.0.0.1:9 was not updated ({what[:40]}")
    assert second == "the files are whole; `hisac-lab sync` tries again"


def test_the_ui_refuses_a_port_in_use(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "execv", lambda *_: pytest.fail("the port is not ours"))
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
        with says(f"127.0.0.1:{port}: cannot be listened at (Address already in use); name a free port"):
            registry.ui(port)
    with says("127.0.0.1:70000: cannot be listened at"):
        registry.ui(70000)
    assert capsys.readouterr().out == ""


def test_the_ui_of_a_server_is_the_servers(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "execv", lambda *_: pytest.fail("there is a server"))
    monkeypatch.setattr(registry, "quick_look", lambda *_, **__: True)
    monkeypatch.setattr(registry, "mirror_or_say", lambda params: None)
    write_params(project, "http://127.0.0.1:9")
    registry.ui(5001)
    assert (
        capsys.readouterr().out == "open http://127.0.0.1:9, the server that params.yaml names (mlflow.tracking_uri)\n"
    )


def test_the_commit_has_a_plus_where_code_was_changed_or_is_not_that_of_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert lineage.commit() == ""
    Path("src").mkdir()
    for name in ("src/one", "params.yaml"):
        Path(name).write_text("1")
    who = ("-c", "user.name=me", "-c", "user.email=me@here")
    for words in (("init", "-q"), ("add", "."), (*who, "commit", "-qm", "one")):
        subprocess.run(["git", *words], check=True)
    clean = lineage.commit()
    assert len(clean) == 40
    for name in ("params.yaml", "notes"):
        Path(name).write_text("2")
    assert lineage.commit() == clean
    Path("src/two").write_text("untracked")
    assert lineage.commit() == f"{clean}+"
    Path("src/two").unlink()
    ran = {"path": "src/one", "md5": "c4ca4238a0b923820dcc509a6f75849b"}
    for last, wanted in (("c", f"{clean}+"), ("b", clean)):
        lock = {"stages": {"prepare": {"cmd": "hisac-lab", "deps": [ran | {"md5": ran["md5"][:-1] + last}]}}}
        Path("dvc.lock").write_text(yaml.safe_dump(lock))
        assert lineage.commit() == wanted
    Path("src/one").write_text("2")
    assert lineage.commit() == f"{clean}+"


def test_a_champion_that_was_moved_by_hand_is_told_by_a_look_and_put_back_by_a_sync(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry.promote("new", None)
    client = MlflowClient(store_in(project).tracking_uri)
    client.set_registered_model_alias(PRODUCT, "champion", "1")
    capsys.readouterr()
    told = "ranker@champion in MLflow is version 1, the ledger says version 2"
    models.list_versions()
    assert f"{told}: `hisac-lab sync` puts it back\n" in capsys.readouterr().err
    registry.sync()
    assert f"{told}: it is put back; `hisac-lab promote` changes it\n" in capsys.readouterr().err
    assert (
        client.get_model_version_by_alias(PRODUCT, "champion").tags["may_ship"].startswith("it is champion (promoted")
    )


def test_the_ui_listens_on_this_machine_alone_after_a_sync(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[Any] = []

    def mirror(_: Any) -> str:
        calls.append("mirrored")
        return "7"

    monkeypatch.setenv("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "")
    monkeypatch.setattr(registry, "mirror_or_say", mirror)
    monkeypatch.setattr(os, "execv", lambda path, words: calls.append((path, words)))
    registry.ui(5001)
    mirrored, (path, words) = calls
    assert mirrored == "mirrored"
    assert path == words[0]
    assert Path(path).name == "mlflow"
    options = dict(zip(words[2::2], words[3::2], strict=True))
    store = store_in(project).tracking_uri
    assert options == {"--backend-store-uri": store, "--host": "127.0.0.1", "--port": "5001", "--workers": "1"}
    page = "#/experiments/7/runs?workflowType=machine_learning&orderByKey=attributes.start_time&orderByAsc=true"
    assert capsys.readouterr().out == f"open http://127.0.0.1:5001/{page} (stop with Ctrl-C)\n"
    assert os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"

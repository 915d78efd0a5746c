"""`hisac-lab sid show` and `hisac-lab agents show` on the made-up log."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from kit import Stages, prepare_log, says
from typer.testing import CliRunner

from hisac_lab.base.artifacts import load_array
from hisac_lab.cli.main import app
from hisac_lab.cli.params import defaults
from hisac_lab.codebook.ballot import Ballot
from hisac_lab.codebook.counting import Election
from hisac_lab.codebook.tree import Codebook
from hisac_lab.codebook.votes import split_budget
from hisac_lab.config.events import PrepareConfig
from hisac_lab.events.store import EventStore
from hisac_lab.inference.records import ModelFile


@pytest.fixture
def lab(stages: Stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a finished run up to the codebook."""
    (tmp_path / "artifacts").mkdir()
    for name in ("prepare", "embed", "tokenize", "codebook"):
        (tmp_path / "artifacts" / name).symlink_to(getattr(stages, name))
    (tmp_path / "params.yaml").write_text(defaults())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str) -> str:
    answer = CliRunner().invoke(app, list(words))
    if answer.exception:
        raise answer.exception
    return answer.stdout


def test_an_items_id_is_shown_level_by_level(lab: Path, stages: Stages) -> None:
    codes, table = load_array(stages.tokenize, "codes"), EventStore.open(stages.prepare).item_table
    shown = run("sid", "show", str(table["item"].iloc[7]), "--neighbors", "3")
    assert f"semantic ID {'-'.join(map(str, codes[7]))}" in shown
    lines = shown.splitlines()
    head = next(place for place, line in enumerate(lines) if line.startswith("level"))
    for level in range(3):
        cells = re.split(r"\s{2,}", lines[head + 1 + level])
        inside = int((codes[:, : level + 1] == codes[7, : level + 1]).all(axis=1).sum())
        assert cells[:3] == [str(level + 1), str(codes[7, level]), str(inside)]
    near = lines[next(place for place, line in enumerate(lines) if line.startswith("neighbor")) + 1 :]
    vectors = load_array(stages.embed, "embeddings")
    order = np.argsort(((vectors - vectors[7]) ** 2).sum(axis=1), kind="stable")
    assert [line.split()[0] for line in near] == [str(table["item"].iloc[row]) for row in order[order != 7][:3]]


def test_an_item_that_is_not_there_is_answered_with_a_guess(lab: Path) -> None:
    with says("items.parquet", "item", "'1000'", "did you mean"):
        run("sid", "show", "1000")


@pytest.mark.parametrize("half_life", ["null", "10.0"])
def test_a_users_agents_are_those_of_the_votes(lab: Path, stages: Stages, half_life: str) -> None:
    path = lab / "params.yaml"
    path.write_text(path.read_text().replace("vote_half_life:", f"vote_half_life: {half_life}"))
    store, book = EventStore.open(stages.prepare), Codebook.open(stages.codebook)
    user = int(np.diff(store.offsets).argmax())
    shown = run("agents", "show", str(store.user_ids[user]), "--pruned", "2").splitlines()
    history = np.asarray(store.items[store.offsets[user] : store.offsets[user + 1]])
    assert shown[0].startswith(f"user {store.user_ids[user]}: {len(history)} behaviors")
    assert book.digest in shown[1]
    head = next(place for place, line in enumerate(shown) if line.startswith("agent"))
    agents = [line.split()[:2] for line in shown[head + 1 : shown.index("", head)]]
    if half_life == "null":
        ballot = Ballot(book)
        ballot.add_all(history.tolist())
        expected = ballot.agents(Election(split_budget(32, 3, 0.7), wanted=32))
        assert agents == [["-".join(map(str, book.path(one.node, 2))), str(one.votes)] for one in expected]
        covered = sum(one.votes for one in expected) / len(history)
        assert f"{len(expected)} agents hold {covered:.1%} of the votes" in shown
        hint = "that is below 90%: raise agents, lower depth, or rank all leaves (vote: flat)"
        assert (hint in shown) == (covered < 0.9)
    else:
        # In behaviors of this moment: the newest counts one, all others less.
        assert 1 <= float(agents[0][1]) < len(history) / 2
        assert all(re.fullmatch(r"\d+\.\d\d", votes) for _, votes in agents)
    assert sum(line.startswith("pruned") for line in shown) == 2


@pytest.mark.parametrize("votes_from", ["positives", "all"])
def test_what_a_user_disliked_votes_only_where_all_events_do(lab: Path, stages: Stages, votes_from: str) -> None:
    (lab / "artifacts" / "prepare").unlink()
    prepare_log(PrepareConfig(history="all"), stages.acquire, lab / "artifacts" / "prepare")
    path = lab / "params.yaml"
    path.write_text(path.read_text().replace("votes_from: positives", f"votes_from: {votes_from}"))
    store = EventStore.open(lab / "artifacts" / "prepare")
    user = int(np.diff(store.offsets).argmax())
    events = slice(store.offsets[user], store.offsets[user + 1])
    assert store.feedback is not None
    liked = np.asarray(store.feedback[events]) >= 4
    ballot = Ballot(Codebook.open(stages.codebook))
    ballot.add_all(np.asarray(store.items[events])[liked | (votes_from == "all")].tolist())
    shown = run("agents", "show", str(store.user_ids[user])).splitlines()
    silent = f"{(~liked).sum()} disliked, " if votes_from == "positives" else ""
    assert 0 < liked.sum() < len(liked)
    assert shown[0] == f"user {store.user_ids[user]}: {len(liked)} behaviors, {silent}{len(ballot)} that vote"
    head = next(place for place, line in enumerate(shown) if line.startswith("agent"))
    votes = [int(line.split()[1]) for line in shown[head + 1 : shown.index("", head)]]
    assert votes == [one.votes for one in ballot.agents(Election(split_budget(32, 3, 0.7), wanted=32))]


def test_agents_can_be_as_few_as_hold_a_share_of_the_votes(lab: Path) -> None:
    path = lab / "params.yaml"
    every = run("agents", "show", "1").splitlines()[2].split()
    path.write_text(path.read_text().replace("keep_votes:", "keep_votes: 0.2"))
    few = run("agents", "show", "1").splitlines()[2].split()
    assert 1 <= int(few[0]) < int(every[0])
    assert 20 <= float(few[3].rstrip("%")) < float(every[3].rstrip("%"))


def test_a_model_without_pruning_has_every_leaf_as_an_agent(lab: Path) -> None:
    path = lab / "params.yaml"
    path.write_text(path.read_text().replace("every_leaf: false", "every_leaf: true"))
    shown = run("agents", "show", "1")
    assert "agents hold 100.0% of the votes" in shown
    assert "pruned: 0 nodes with 0.0% of the votes" in shown


def test_a_model_trained_with_another_codebook_is_refused(lab: Path) -> None:
    (lab / "artifacts" / "train" / "hisac-0").mkdir(parents=True)
    ModelFile(model={}, backbone={}, items={}, codebook="0123456789abcdef").save(
        lab / "artifacts" / "train" / "hisac-0"
    )
    with says("model.json", "codebook", "0123456789abcdef", "train it again"):
        run("agents", "show", "1")


def test_a_model_without_agents_is_refused(lab: Path) -> None:
    with says("params.yaml", "models", "'din_50' is no model with agents", "hisac"):
        run("agents", "show", "1", "--model", "din_50")

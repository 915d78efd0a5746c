"""Requests of the test period through a server of its own: the evaluation's scores, or a refusal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bundles import bundle_of_log
from kit import BACKBONE, MODELS, Stages, lively, says

from hisac_lab.config.compute import ComputeConfig
from hisac_lab.config.model import InstancesConfig
from hisac_lab.config.promotion import PromotionConfig
from hisac_lab.config.train import TrainConfig
from hisac_lab.events.batches import Requests
from hisac_lab.events.records import ContextFacts, InstancesMade
from hisac_lab.events.side_columns import Category, SideColumns
from hisac_lab.events.store import EventStore
from hisac_lab.inference.bundle import save_model
from hisac_lab.inference.records import VocabularyFile
from hisac_lab.models.backbone import Ranker
from hisac_lab.models.catalog import build
from hisac_lab.models.contract import ItemSpace
from hisac_lab.models.iat import IATConfig
from hisac_lab.serving.skew import Skew, replay
from hisac_lab.training.instances import make_instances

CONFIG = PromotionConfig()


@pytest.fixture(scope="module")
def whole(model: Ranker, items: ItemSpace, store: EventStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its bundle."""
    return bundle_of_log(tmp_path_factory.mktemp("skew") / "bundle", model, "hisac", items, store)


def test_a_model_of_all_features_gets_the_evaluations_scores_from_histories_and_states(
    whole: Path, store: EventStore
) -> None:
    found = replay(whole, store, 40)
    assert (found.requests, found.unanswered) == (40, 0)
    assert found.history <= 1e-6
    assert found.state is not None
    assert found.state <= 1e-6
    assert max(found.auc) - min(found.auc) < 1e-6
    gate = found.gate(CONFIG)
    assert gate.holds
    assert gate.says.startswith("40 requests over HTTP: scores differ from the evaluation's by ")
    assert gate.says.endswith(
        f"the limit is 1e-06; AUC of these alone by each: {', '.join([f'{found.auc[0]:.4f}'] * 3)}"
    )


@pytest.mark.parametrize("name", ["votes-beside-exposures", "din-short-only", "hisac-beside-counts"])
def test_other_models_too(name: str, items: ItemSpace, store: EventStore, tmp_path: Path) -> None:
    home = bundle_of_log(tmp_path / "bundle", lively(name, items), name, items, store)
    assert replay(home, store, 8).gate(CONFIG).holds


def test_a_server_that_numbers_items_otherwise_is_found_out(whole: Path, store: EventStore, tmp_path: Path) -> None:
    names = store.item_table["item"].tolist()
    home = _copied(whole, tmp_path / "shifted", [*names[1:], names[0]], store)
    found = replay(home, store, 20)
    assert found.history > 1e-3
    gate = found.gate(CONFIG)
    assert (gate.name, gate.holds) == ("max_skew", False)
    assert found.gate(PromotionConfig(max_skew=1.0)).holds == (len(set(np.round(found.auc, 4))) == 1)


def test_candidates_without_a_score_are_counted_and_never_pass(whole: Path, store: EventStore, tmp_path: Path) -> None:
    names = store.item_table["item"].tolist()
    home = _copied(whole, tmp_path / "short", ["gone", *names[1:]], store)
    asked = Requests.of(store, store.samples("test"), 500)
    assert (asked.candidates[asked.mask] == 0).any()
    found = replay(home, store, 10_000)
    assert found.requests == (asked.lengths > 0).sum()
    gate = found.gate(PromotionConfig(max_skew=1.0))
    assert not gate.holds
    assert gate.says.endswith(f"; {found.unanswered} candidates got no score")


def test_the_token_of_the_environment_is_sent(whole: Path, store: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HISAC_LAB_TOKEN", "secret")
    assert replay(whole, store, 2).unanswered == 0


def test_a_model_of_another_log_is_told_in_a_line(store: EventStore, items: ItemSpace, tmp_path: Path) -> None:
    known = SideColumns(fields=(Category(name="city", values=("Oslo",)),))
    space = replace(items, context=ContextFacts(user=known))
    features = BACKBONE.model_copy(update={"features": ("length", "user")})
    home = bundle_of_log(tmp_path / "bundle", build(MODELS["hisac"], features, space, 0), "hisac", space, store)
    with says("context.user", "has user columns none, the model learned city"):
        replay(home, store, 2)


def test_a_model_of_stored_instances_is_asked_with_what_its_store_answers(
    stages: Stages, store: EventStore, items: ItemSpace, tmp_path: Path
) -> None:
    config = InstancesConfig(order="user", dim=8, decoder=(8,), window=16, layers=1, heads=2, chunks=4)
    made = tmp_path / "instances"
    made.mkdir()
    train = TrainConfig(epochs=1, batch_requests=64)
    make_instances(config, BACKBONE, train, ComputeConfig(device="cpu"), items, prepared=stages.prepare, out=made)
    reader, home = IATConfig(dim=8, window=12, layers=1, heads=2), tmp_path / "bundle"
    home.mkdir()
    save_model(home, build(reader, BACKBONE, items, 0).eval(), reader, items, InstancesMade.open(made).digest)
    VocabularyFile(items=store.item_table["item"].tolist(), history_limit=store.limit).save(home)
    found = replay(home, store, 12, made)
    assert found.state is None
    assert found.gate(CONFIG).holds
    assert "from states" not in found.gate(CONFIG).says


@pytest.mark.parametrize(
    ("skew", "holds"),
    [
        (Skew(9, 0, 1e-6, 1e-6, (0.7, 0.7, 0.7)), True),
        (Skew(9, 0, 1.1e-6, None, (0.7, 0.7)), False),
        (Skew(9, 0, 0.0, 2e-6, (0.7, 0.7, 0.7)), False),
        (Skew(9, 0, 0.0, None, (0.7, 0.7001)), False),
        (Skew(9, 0, 0.0, None, (0.7, 0.70001)), True),
        (Skew(9, 1, 0.0, None, (0.7, 0.7)), False),
        (Skew(9, 0, 0.0, None, (float("nan"), float("nan"))), True),
    ],
)
def test_the_gate_asks_for_scores_and_auc(skew: Skew, holds: bool) -> None:
    assert skew.gate(CONFIG).holds == holds


def _copied(whole: Path, home: Path, names: list[str], store: EventStore) -> Path:
    """The bundle with other names of its items."""
    home.mkdir()
    for file in whole.iterdir():
        (home / file.name).write_bytes(file.read_bytes())
    VocabularyFile(items=names, history_limit=store.limit).save(home)
    return home

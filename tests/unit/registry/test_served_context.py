"""Context at serving: a bundle's counts at the end of the log, or those that a request brings, score as offline."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from bundles import reader_of_all
from kit import BACKBONE, CPU, MODELS, Stages
from mlflow.exceptions import MlflowException
from mlflow.models.utils import _enforce_schema

from hisac_lab.base.errors import UserError
from hisac_lab.config.model import ModelConfig
from hisac_lab.events.batches import Requests, in_order
from hisac_lab.events.store import EventStore
from hisac_lab.inference.bundle import save_model
from hisac_lab.inference.loader import Loader, score
from hisac_lab.inference.records import VocabularyFile
from hisac_lab.models.backbone import Ranker
from hisac_lab.models.catalog import build
from hisac_lab.models.contract import ItemSpace
from hisac_lab.models.fitted import Fitted
from hisac_lab.models.linear import LinearConfig
from hisac_lab.models.trees import TreesConfig
from hisac_lab.registry.context import save_snapshots
from hisac_lab.registry.served import ServedRanker
from hisac_lab.registry.signature import example, signature

USERS, CANDIDATES = 6, 5


@pytest.fixture(scope="module")
def model(items: ItemSpace, rows: dict[str, Requests]) -> Ranker:
    """A model that reads all features, standardized on the training requests."""
    return reader_of_all(items, rows["train"])


def serve(
    home: Path,
    model: Ranker,
    items: ItemSpace,
    store: EventStore,
    counts: bool = True,
    config: ModelConfig = MODELS["hisac"],
) -> ServedRanker:
    save_model(home, model, config, items)
    VocabularyFile(items=store.item_table["item"].tolist(), history_limit=store.limit).save(home)
    if counts:
        save_snapshots(home, model, store)
    served = ServedRanker()
    served.load_context(SimpleNamespace(artifacts={"bundle": str(home)}))
    return served


def later(store: EventStore, wait: int) -> Requests:
    """A request of each of some users after the log's end, five candidates each."""
    user = np.arange(USERS)
    start, end = store.offsets[user], store.offsets[user + 1]
    time = np.full(USERS, int(store.manifest.splits["test"].last) + wait)
    candidates = np.random.default_rng(wait).integers(0, store.manifest.items, (USERS, CANDIDATES))
    candidates[:, 0] = store.items[end - 1]  # the pair's own columns say something
    full = np.ones(candidates.shape, bool)
    return Requests(store, start, end, time, candidates, full.astype(np.float32), full, candidates, user)


def asked(requests: Requests) -> list[dict[str, Any]]:
    """The same as a caller words them."""
    store = requests.store
    names, levels = store.item_table["item"].to_numpy(), store.manifest.feedback
    assert levels is not None
    assert store.feedback is not None
    found = []
    for row in range(len(requests)):
        events = slice(requests.start[row], requests.end[row])
        values = [None if code == 0 else levels.begins[code - 1] for code in store.feedback[events]]
        found.append({
            "history_items": names[store.items[events]].tolist(),
            "history_times": store.times[events].tolist(),
            "history_feedback": values,
            "time": int(requests.time[row]),
            "candidates": names[requests.candidates[row]].tolist(),
        })  # fmt: skip
    return found


@pytest.mark.parametrize("wait", [1, 86_400 * 40])
def test_served_scores_are_those_of_the_log(
    wait: int, model: Ranker, items: ItemSpace, store: EventStore, tmp_path: Path
) -> None:
    served, requests = serve(tmp_path, model, items, store), later(store, wait)
    wanted = torch.sigmoid(torch.from_numpy(score(model, Loader.of(model, requests, CPU)))).numpy()
    found = np.array(served.predict(None, pd.DataFrame(asked(requests)))["scores"].tolist())
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    assert wanted.std() > 1e-3


@pytest.mark.parametrize("config", [TreesConfig(rounds=9), LinearConfig()], ids=lambda config: config.kind)
def test_models_that_read_columns_are_served_without_what_fitted_them(
    config: ModelConfig,
    items: ItemSpace,
    store: EventStore,
    rows: dict[str, Requests],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = build(config, BACKBONE, items, 0).eval()
    assert isinstance(model, Fitted)
    loader = Loader.of(model, rows["train"], CPU)
    model.fit((loader.batch(index) for index in in_order(rows["train"])), 0)
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    served, requests = serve(tmp_path, model, items, store, config=config), later(store, 86_400)
    wanted = torch.sigmoid(torch.from_numpy(score(model, Loader.of(model, requests, CPU)))).numpy()
    found = np.array(served.predict(None, pd.DataFrame(asked(requests)))["scores"].tolist())
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    assert wanted.std() > 1e-3


def test_a_request_may_bring_its_own_counts(model: Ranker, items: ItemSpace, store: EventStore, tmp_path: Path) -> None:
    served, requests = serve(tmp_path, model, items, store), later(store, 1)
    plain, columns = asked(requests), model.context_columns
    loader = Loader.of(model, requests, CPU)
    context = loader.batch(np.arange(USERS)).context
    assert context is not None
    own = context[..., : len(columns.item_names)].tolist()
    brought = [request | {"candidate_context": rows} for request, rows in zip(plain, own, strict=True)]
    expected = served.predict(None, pd.DataFrame(plain))["scores"].tolist()
    mixed = pd.DataFrame([brought[0], plain[1], *brought[2:]])
    for frame in (pd.DataFrame(brought), mixed, _enforce_schema(mixed.iloc[[0]], signature(tmp_path).inputs)):
        for found, wanted in zip(served.predict(None, frame)["scores"], expected, strict=False):
            assert found == pytest.approx(wanted, rel=1e-5)
    raised = [[number + 1 for number in row] for row in own[0]]
    other = served.predict(None, pd.DataFrame([plain[0] | {"candidate_context": raised}]))["scores"][0]
    assert other != pytest.approx(expected[0], rel=1e-3)
    for wrong in (own[0][:2], [row[:-1] for row in own[0]], [["many"] * len(own[0][0])] * CANDIDATES):
        with pytest.raises(MlflowException, match=r"candidate_context.*give for each candidate the numbers item_days"):
            served.predict(None, pd.DataFrame([plain[0] | {"candidate_context": wrong}]))


def test_the_example_and_the_columns_of_a_bundle_know_of_the_context(
    model: Ranker, items: ItemSpace, store: EventStore, tmp_path: Path
) -> None:
    served = serve(tmp_path, model, items, store)
    told = ["history_items", "history_times", "time", "candidates", "history_feedback", "candidate_context"]
    assert [column.name for column in served.reader.columns] == told == signature(tmp_path).inputs.input_names()
    assert len(served.predict(None, example(tmp_path))["scores"][0]) == 3


def test_a_bundle_without_its_counts_is_refused(
    model: Ranker, items: ItemSpace, store: EventStore, stages: Stages, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="positives_count"):
        serve(tmp_path, model, items, store, counts=False)

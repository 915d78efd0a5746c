"""Further answers from a log to the evaluation: each has the AUC of its own scores, where the log knows it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from evaluating import CONFIG
from kit import BACKBONE, CPU, MODELS, prepare_log, raw_log
from sklearn.metrics import roc_auc_score

from hisac_lab.base.artifacts import stage_output
from hisac_lab.codebook.build import build_codebook
from hisac_lab.config.compute import ComputeConfig
from hisac_lab.config.events import PrepareConfig
from hisac_lab.config.tokens import EmbedConfig, TokenizeConfig
from hisac_lab.config.train import TrainConfig
from hisac_lab.evaluation.evaluate import evaluate
from hisac_lab.evaluation.records import Scores
from hisac_lab.events.batches import Requests
from hisac_lab.events.store import EventStore
from hisac_lab.inference.bundle import load_model
from hisac_lab.inference.items import load_items
from hisac_lab.inference.loader import Loader, score_tasks
from hisac_lab.tokens.embeddings import embed
from hisac_lab.tokens.tokenize import tokenize
from hisac_lab.training.train import train_model


def _log() -> pd.DataFrame:
    random, count = np.random.default_rng(0), 900
    log = pd.DataFrame({"user": random.integers(0, 20, count), "item": random.integers(0, 30, count)})
    log["rating"], log["time"] = random.integers(1, 6, count), 1000 + 7 * np.arange(count)
    log["is_buy"] = np.where(random.random(count) < 0.2, np.nan, (log["item"] + (random.random(count) < 0.2)) % 2)
    return log


def test_each_answer_has_the_auc_of_its_own_scores(tmp_path: Path) -> None:
    prepared, embedded, tokens, book = (tmp_path / name for name in ("prepared", "embed", "tokens", "book"))
    config = PrepareConfig(positive_from=4.0, tasks={"bought": "is_buy"})
    prepare_log(config, raw_log(tmp_path / "raw", _log()), prepared)
    with stage_output(embedded) as out:
        embed(EmbedConfig(method="cooccurrence", cooccurrence_dim=4), prepared=prepared, out=out)
    with stage_output(tokens) as out:
        tokenize(TokenizeConfig(widths=(4, 4)), prepared=prepared, embedded=embedded, out=out)
    with stage_output(book) as out:
        build_codebook(tokenized=tokens, out=out)
    items = load_items(prepared=prepared, embedded=embedded, codebook=book)
    told, compute = BACKBONE.model_copy(update={"tasks": {"bought": 1.0}}), ComputeConfig(device="cpu")
    runs = dict[str, list[Path]]()
    for name, kind in {"din_50": "din-short-only", "counts": "linear-on-counts"}.items():
        runs[name] = [tmp_path / f"{name}-0"]
        with stage_output(runs[name][0]) as out:
            settings = TrainConfig(epochs=4, batch_requests=32, learning_rate=0.01)
            work = tmp_path / "work"
            train_model(name, MODELS[kind], told, settings, compute, 0, items, prepared=prepared, out=out, work=work)
    with stage_output(tmp_path / "scores") as out:
        evaluate(CONFIG, compute, prepared=prepared, runs=runs, out=out, timings=tmp_path / "timings.json")

    found = Scores.open(tmp_path / "scores").models
    assert found["counts"].tasks == {}  # a model that is fitted at once answers the label alone
    store = EventStore.open(prepared)
    rows = Requests.of(store, store.samples("test"), 4)
    model, _ = load_model(runs["din_50"][0])
    given = np.zeros((len(store.samples("test")), 2))
    given[rows.sample[rows.mask]] = score_tasks(model, Loader.of(model, rows, CPU))[rows.mask]
    bought = store.answers("test", ("bought",))[:, 0]
    known = ~np.isnan(bought)
    assert 0 < known.sum() < len(known)
    estimate = found["din_50"].tasks["bought"]
    assert estimate is not None
    assert estimate.value == pytest.approx(roc_auc_score(bought[known], given[known, 1]), abs=1e-6)
    assert estimate.value > 0.65
    assert estimate.interval[0] < estimate.value < estimate.interval[1]

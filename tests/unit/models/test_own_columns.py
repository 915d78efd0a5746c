"""The data set's columns of users and requests, as models read them: a planted effect, saving, serving, ranking."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kit import BACKBONE, CPU, EVERY, make_history, make_items, make_requests, says

from hisac_lab.api.model import _telling
from hisac_lab.base.errors import UserError
from hisac_lab.config.model import BackboneConfig, ModelConfig
from hisac_lab.config.train import TrainConfig
from hisac_lab.events.batches import Requests
from hisac_lab.events.records import ContextFacts
from hisac_lab.events.side_columns import Category, Number, SideColumns, SideTable
from hisac_lab.inference.bundle import load_model, save_model
from hisac_lab.inference.loader import Loader, score
from hisac_lab.inference.request import RequestReader, columns
from hisac_lab.inference.sides import KnownColumns
from hisac_lab.models.backbone import Ranker
from hisac_lab.models.catalog import build
from hisac_lab.models.din import DINConfig
from hisac_lab.models.linear import LinearConfig
from hisac_lab.models.trees import TreesConfig
from hisac_lab.ops.auc import auc
from hisac_lab.training.loop import train

PEOPLE = SideColumns(
    fields=(Category(name="city", values=("Oslo", "Rome")),), numbers=(Number(name="age", shift=3.5, scale=2.0),)
)
ASKED = SideColumns(fields=(Category(name="device", values=("phone", "tv")),))
SPACE = dataclasses.replace(make_items(), context=ContextFacts(user=PEOPLE, request=ASKED))
TOLD = BACKBONE.model_copy(update={"features": ("length", "user", "request")})
READS: dict[str, Any] = {"reads": ("length", "user", "request")}


def _planted(seed: int) -> tuple[Requests, tuple[KnownColumns, KnownColumns]]:
    """Requests that are clicked on in Rome, by old users and on the phone, whatever the item."""
    requests, random = make_requests(), np.random.default_rng(seed)
    requests = requests.take(random.integers(0, len(requests), 600))
    count = len(requests)
    requests = dataclasses.replace(requests, user=np.arange(count), request=np.arange(count)[::-1].copy())
    cities, ages, devices = random.integers(0, 3, count), random.normal(40, 15, count), random.integers(0, 3, count)
    logit = 2.5 * (cities == 2) + (ages > 40) - 2.0 + 2.5 * (devices[::-1] == 1)
    labels = (random.random(requests.candidates.shape) < 1 / (1 + np.exp(-logit))[:, None]).astype(np.float32)
    tables = (
        SideTable(PEOPLE, np.stack([cities, np.where(random.random(count) < 0.05, np.nan, ages)], axis=1)),
        SideTable(ASKED, devices[:, None]),
    )
    sides = KnownColumns("user", tables[0]), KnownColumns("request", tables[1])
    return dataclasses.replace(requests, labels=labels), sides


@pytest.mark.parametrize(
    "config",
    [DINConfig(whole_history=False), TreesConfig(rounds=20, **READS), LinearConfig(**READS)],
    ids=lambda config: str(config.kind),
)
def test_a_planted_effect_of_user_and_request_is_learned(config: ModelConfig) -> None:
    areas = []
    for told in (True, False):
        space = SPACE if told else dataclasses.replace(SPACE, context=ContextFacts())
        model = build(config, TOLD, space, 0)
        loaders = []
        for seed in (0, 1):
            requests, sides = _planted(seed)
            loaders.append(Loader(requests, CPU, sides if told else ()))
        settings = TrainConfig(epochs=3, batch_requests=32, learning_rate=0.01)
        seen, unseen = loaders
        train(model, seen, unseen, settings, 0, "planted")
        areas.append(auc(unseen.requests.labels[unseen.requests.mask], score(model, unseen)[unseen.requests.mask]))
    assert areas[0] > 0.75
    assert areas[1] < 0.6


@pytest.mark.parametrize("name", ["din-short-only", "hisac", "linear", "iat-source-temporal"])
def test_columns_are_read_from_where_the_loader_puts_them_and_survive_saving(name: str, tmp_path: Path) -> None:
    config = EVERY[name]
    if isinstance(config, LinearConfig):
        config = config.model_copy(update=READS)
    model = build(config, TOLD, SPACE, 0).eval()
    if isinstance(config, LinearConfig):
        torch.nn.init.normal_(next(model.parameters()))
    assert {"user", "request"} <= model.sides
    history, candidates = make_history([4, 0]), torch.arange(6).view(2, 3)
    with says("settings", "backbone.features", "'user' needs the columns of the user"):
        model(history, candidates)
    rows = [torch.from_numpy(facts.row({})) for facts in (PEOPLE, ASKED)]
    unknown = dataclasses.replace(history, user=rows[0].expand(2, -1), request=rows[1].expand(2, -1))
    plain = model(unknown, candidates)
    for side, facts, value in (("user", PEOPLE, {"city": "Rome"}), ("request", ASKED, {"device": "tv"})):
        row: dict[str, Any] = {side: torch.cat([torch.from_numpy(facts.row(told)) for told in (value, {})])}
        moved = (model(dataclasses.replace(unknown, **row), candidates) - plain).abs() > 1e-6
        assert moved.all(dim=1).tolist() == [True, False]
    save_model(tmp_path, model, config, SPACE)
    again, _ = load_model(tmp_path)
    assert again.user_features.own == model.user_features.own == {"user": PEOPLE, "request": ASKED}
    assert torch.equal(again(unknown, candidates), plain)


def test_a_model_that_names_none_of_them_is_told_none() -> None:
    model = build(DINConfig(), BACKBONE, SPACE, 0)
    assert model.sides.isdisjoint({"user", "request"})
    assert build(DINConfig(), BackboneConfig(), make_items(), 0).sides.isdisjoint({"user", "request"})


def _ask(model: Ranker, **more: Any) -> torch.Tensor:
    reader = RequestReader(model, [str(number) for number in range(60)], 100)
    request = {"history_items": ["1", "2"], "history_times": [5, 9], "time": 20, "candidates": ["3", "4"]} | more
    scores: torch.Tensor = model(*reader.batch([reader.read(0, request)]))
    return scores


def test_a_served_request_brings_its_columns_and_what_is_absent_is_unknown() -> None:
    model = build(DINConfig(whole_history=False), TOLD, SPACE, 0).eval()
    names = [column.name for column in columns(model.sides, None, told=model.user_features.own)][4:]
    assert names == ["user_city", "user_age", "request_device"]
    plain = _ask(model)
    empty: dict[str, Any] = {"user_city": None, "user_age": math.nan, "request_device": ""}
    assert torch.equal(_ask(model, **empty), plain)
    assert torch.equal(_ask(model, user_city="Paris"), plain)
    for more in ({"user_city": " Rome"}, {"user_age": 50}, {"user_age": "50"}, {"request_device": "tv"}):
        assert not torch.equal(_ask(model, **more), plain)
    assert torch.equal(_ask(model, user_age="50"), _ask(model, user_age=50.0))
    with says("model input", "row 0: user_age", "value 'old' is no number", "leave it out"):
        _ask(model, user_age="old")


def test_a_ranking_may_be_told_the_columns_of_its_request() -> None:
    model = build(DINConfig(whole_history=False), TOLD, SPACE, 0).eval()
    requests, sides = _planted(0)
    loader = Loader(dataclasses.replace(requests.take(np.arange(3)), request=None), CPU, sides)
    told = _telling(loader, model, {"device": "phone"})
    row = torch.from_numpy(ASKED.row({"device": "phone"}))
    assert torch.equal(told.batch(np.arange(3)).history.request, row.expand(3, -1))  # type: ignore[arg-type]
    unknown = loader.batch(np.arange(3)).history.request
    assert unknown is not None
    assert unknown.tolist() == ASKED.row({}).tolist() * 3
    with pytest.raises(UserError, match=r"there is no column 'screen' \(there are: device\)"):
        _telling(loader, model, {"screen": "wide"})

"""Columns of users and requests at serving: in the signature, optional, and scored as the same columns offline."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from kit import BACKBONE, ITEMS, make_items
from mlflow.exceptions import MlflowException
from mlflow.models.utils import _enforce_schema

from hisac_lab.events.records import ContextFacts
from hisac_lab.events.side_columns import Category, Number, SideColumns
from hisac_lab.inference.bundle import save_model
from hisac_lab.inference.records import VocabularyFile
from hisac_lab.models.catalog import build
from hisac_lab.models.contract import History
from hisac_lab.models.din import DINConfig
from hisac_lab.registry.served import ServedRanker
from hisac_lab.registry.signature import example, signature

PEOPLE = SideColumns(
    fields=(Category(name="city", values=("Oslo", "Rome")),), numbers=(Number(name="age", shift=3.5, scale=2.0),)
)
ASKED = SideColumns(fields=(Category(name="device", values=("phone", "tv")),))
TOLD: list[dict[str, Any]] = [
    {"user_city": "Rome", "user_age": 44, "request_device": "tv"},
    {"user_city": "Oslo", "user_age": "31.5", "request_device": "radio"},
    {"user_city": None, "user_age": None, "request_device": None},
]


def test_requests_bring_columns_through_the_signature_and_score_as_offline(tmp_path: Path) -> None:
    space = dataclasses.replace(make_items(), context=ContextFacts(user=PEOPLE, request=ASKED))
    backbone = BACKBONE.model_copy(update={"features": ("length", "user", "request")})
    config = DINConfig(whole_history=False)
    model = build(config, backbone, space, 0).eval()
    save_model(tmp_path, model, config, space)
    VocabularyFile(items=[str(number) for number in range(ITEMS)], history_limit=100).save(tmp_path)
    served = ServedRanker()
    served.load_context(SimpleNamespace(artifacts={"bundle": str(tmp_path)}))
    schema = signature(tmp_path).inputs
    names = [column.name for column in schema.inputs if not column.required]
    assert [name for name in names if name.startswith(("user_", "request_"))] == list(TOLD[0])
    served.predict(None, _enforce_schema(example(tmp_path), schema))

    plain: dict[str, Any] = {"history_items": ["1", "2"], "history_times": [5, 9], "time": 20, "candidates": ["3", "4"]}
    frame = pd.DataFrame([plain | told for told in TOLD])
    scores = served.predict(None, _enforce_schema(frame, schema))["scores"].tolist()
    for told, found in zip(TOLD, scores, strict=True):
        rows: dict[str, Any] = {
            side: torch.from_numpy(known.row({name: told[f"{side}_{name}"] for name in known.names}))
            for side, known in (("user", PEOPLE), ("request", ASKED))
        }
        history = History(torch.tensor([[1, 2]]), torch.tensor([[15, 11]]), torch.ones(1, 2, dtype=torch.bool), **rows)
        wanted = torch.sigmoid(model(history, torch.tensor([[3, 4]])))[0].tolist()
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
    bare = served.predict(None, _enforce_schema(pd.DataFrame([plain]), schema))["scores"].tolist()
    assert bare == [scores[2]]
    with pytest.raises(MlflowException, match=r"row 0: user_age: value 'old' is no number"):
        served.predict(None, pd.DataFrame([plain | {"user_age": "old"}]))

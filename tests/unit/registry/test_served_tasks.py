"""A served model that has learned further answers gives a score for each."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from bundles import bundle_with_tasks

from hisac_lab.registry.served import ServedRanker
from hisac_lab.registry.signature import signature

REQUEST = {"history_items": ["i1", "i2"], "history_times": [10, 20], "time": 1000, "candidates": ["i5", "no", "i7"]}
EMPTY = REQUEST | {"history_items": ["gone"], "history_times": [10]}


def test_a_score_for_each_answer_as_the_model_gives_it(tmp_path: Path) -> None:
    home, model = bundle_with_tasks(tmp_path / "bundle")
    served = ServedRanker()
    served.load_context(SimpleNamespace(artifacts={"bundle": str(home)}))
    frame = pd.DataFrame([REQUEST, EMPTY])
    answer = served.predict(None, frame)

    history, candidates, context = served.reader.batch(served._read(frame.iloc[[0]]))
    with torch.inference_mode():
        logits = model.answer(model.encode(history), candidates, context)
        assert torch.equal(logits[..., 0], model(history, candidates, context))
    chances = torch.sigmoid(logits)[0].numpy()
    for place, name in enumerate(["scores", "scores_bought", "scores_liked"]):
        first, unknown, last = answer[name][0]
        assert np.allclose([first, last], chances[[0, 2], place], atol=1e-6)
        assert unknown is None
        assert answer[name][1] == [None, None, None]
    outputs = signature(home).outputs.input_names()
    assert outputs == ["scores", "scores_bought", "scores_liked", "unknown_events", "note"]

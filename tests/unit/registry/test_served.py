"""The served model: what a request holds is what the model reads."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from kit import EVERY, ITEMS, lively, make_items
from mlflow.exceptions import MlflowException
from mlflow.models.utils import _enforce_schema

from hisac_lab.base import arithmetic
from hisac_lab.events.feedback import Levels
from hisac_lab.inference.bundle import save_model
from hisac_lab.inference.records import VocabularyFile
from hisac_lab.models.contract import History, ItemSpace
from hisac_lab.models.iat import IATConfig
from hisac_lab.models.instances import Instances
from hisac_lab.registry import served as registry_served
from hisac_lab.registry.served import ServedRanker
from hisac_lab.registry.signature import example, signature
from hisac_lab.testing.samples import LEVELS

SPACE = make_items()
TIME = 1_000
REQUEST: dict[str, Any] = {
    "history_items": ["i1", "i2"],
    "history_times": [10, 20],
    "time": TIME,
    "candidates": ["i5", "i6", "i7"],
}
VECTORS = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)
FETCHED: dict[str, Any] = {
    "instance_items": [f"i{place}" for place in range(6)],
    "instance_times": [100, 200, 300, 400, 500, 600],
    "instance_labels": [0, 1, 2, 0, 1, 2],
    "instance_vectors": VECTORS.tolist(),
}


def _served(name: str, home: Path, space: ItemSpace = SPACE) -> ServedRanker:
    digest = "0123456789abcdef" if name.startswith("iat") else None
    save_model(home, lively(name, space), EVERY[name], space, digest)
    VocabularyFile(items=[f"i{item}" for item in range(ITEMS)], history_limit=50).save(home)
    served = ServedRanker()
    served.load_context(SimpleNamespace(artifacts={"bundle": str(home)}))
    return served


def _answers(served: ServedRanker, *requests: dict[str, Any]) -> pd.DataFrame:
    return served.predict(None, pd.DataFrame(requests))


def _scores(served: ServedRanker, request: dict[str, Any]) -> list[float]:
    scores: list[float] = _answers(served, request)["scores"][0]
    return scores


@contextmanager
def refuses(*words: str) -> Iterator[None]:
    """A bad request: MLflow's error with its code, one line that holds these words in this order."""
    with pytest.raises(MlflowException) as caught:
        yield
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"
    assert caught.value.get_http_status_code() == 400
    (line,) = str(caught.value).splitlines()
    assert re.search(".*".join(map(re.escape, ("model input", *words))), line)


def test_instances_of_a_request_are_scored_as_from_a_store(tmp_path: Path) -> None:
    served, model = _served("iat", tmp_path), lively("iat", SPACE)
    found = _scores(served, REQUEST | FETCHED)
    config = EVERY["iat"]
    assert isinstance(config, IATConfig)
    last = slice(-config.window, None)
    past = Instances(
        torch.from_numpy(VECTORS[None, last]),
        torch.arange(6)[None, last],
        TIME - torch.tensor(FETCHED["instance_times"])[None, last],
        torch.tensor(FETCHED["instance_labels"])[None, last],
        torch.ones(1, 4, dtype=torch.bool),
    )
    items, ages = torch.tensor([[1, 2]]), torch.tensor([[TIME - 10, TIME - 20]])
    history = History(items, ages, torch.ones(1, 2, dtype=torch.bool), time=torch.tensor([TIME]), instances=past)
    wanted = torch.sigmoid(model(history, torch.tensor([[5, 6, 7]])))[0]
    np.testing.assert_allclose(found, wanted.detach().numpy(), rtol=1e-5)
    empty = _scores(served, REQUEST | {name: [] for name in FETCHED})
    assert len(empty) == 3
    assert empty != pytest.approx(found)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"instance_times": [100, 200, 300, 400, 500, TIME]}, ("instance_times", "1000", "not before")),
        ({"instance_labels": [0, 1, 2, 0, 1, 3]}, ("instance_labels", "3 is no label")),
        ({"instance_labels": [0, 1]}, ("instance_vectors", "2 labels", "one of each")),
        ({"instance_vectors": VECTORS[:, :4].tolist()}, ("instance_vectors", "6 vectors", "8 numbers")),
        ({"instance_times": [200, 100, 300, 400, 500, 600]}, ("instance_times", "200 stands before 100")),
    ],
)
def test_instances_that_do_not_fit_are_told(changes: dict[str, Any], words: tuple[str, ...], tmp_path: Path) -> None:
    with refuses("row 0", *words):
        _scores(_served("iat", tmp_path), REQUEST | FETCHED | changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"history_times": [20, 10]}, ("history_times", "20 stands before 10", "oldest first")),
        ({"history_times": [10, 10_000_000_000_000]}, ("history_times", "beyond the year 2100", "seconds")),
        ({"time": 10_000_000_000_000}, ("beyond the year 2100", "seconds")),
        ({"history_times": [10, TIME]}, ("history_times", "1000 is not before the request", "leave out")),
        ({"history_times": [10]}, ("history_times", "1 times for 2 items", "one time per event")),
        ({"history_times": ["noon", 20]}, ("history_times", "no whole numbers")),
        ({"candidates": []}, ("candidates", "asks for nothing", "at least one")),
    ],
)
def test_a_request_that_cannot_be_meant_is_refused(
    changes: dict[str, Any], words: tuple[str, ...], tmp_path: Path
) -> None:
    with refuses("row 1", *words):
        _answers(_served("din-whole", tmp_path), REQUEST, REQUEST | changes)


@pytest.mark.parametrize("name", ["din-whole", "sim-code", "hisac", "iat"])
def test_feedback_of_a_request_is_read_as_the_log_has_it(name: str, tmp_path: Path) -> None:
    served, model = _served(name, tmp_path), lively(name, SPACE)
    items, ages = torch.tensor([[1, 2]]), torch.tensor([[TIME - 10, TIME - 20]])
    plain = History(
        items, ages, torch.ones(1, 2, dtype=torch.bool), time=torch.tensor([TIME]), instances=Instances.none(1, 8)
    )
    request = REQUEST | {column: [] for column in FETCHED}
    for given, levels in (([1.0, 3], [1, 3]), ([2.0, None], [2, 0]), ([np.nan, 99], [0, 3]), (None, [0, 0])):
        history = dataclasses.replace(plain, feedback=torch.tensor([levels]))
        wanted = torch.sigmoid(model(history, torch.tensor([[5, 6, 7]])))[0].tolist()
        assert _scores(served, request | {"history_feedback": given}) == pytest.approx(wanted, rel=1e-5)
    together = _answers(served, request | {"history_feedback": [1.0, 3]}, request)["scores"]
    assert together[1] == pytest.approx(_scores(served, request), rel=1e-5)
    assert together[1] != pytest.approx(together[0], rel=1e-5)


@pytest.mark.parametrize(
    ("given", "words"),
    [([1.0], "1 values for 2 items"), ([1.0, "good"], "value 'good' is no feedback"), ([[1.0], 2.0], "is no feedback")],
)
def test_feedback_that_does_not_fit_is_told(given: list[Any], words: str, tmp_path: Path) -> None:
    with refuses("row 0: history_feedback", words, "null where it is unknown"):
        _scores(_served("din-whole", tmp_path), REQUEST | {"history_feedback": given})


def test_words_of_a_log_are_words_of_a_request(tmp_path: Path) -> None:
    levels = Levels(begins=[0.0, 1.0, 2.0], positive=3, words={"view": 0.0, "cart": 1.0, "purchase": 2.0})
    served = _served("din-whole", tmp_path, dataclasses.replace(SPACE, feedback=levels))
    by_words, by_numbers = (
        _scores(served, REQUEST | {"history_feedback": given}) for given in (["Purchase", None], [2, None])
    )
    assert by_words == by_numbers
    assert example(tmp_path)["history_feedback"][0] == ["purchase"] * 3
    with refuses("history_feedback", "'sale' is no feedback", "give one of", "purchase"):
        _scores(served, REQUEST | {"history_feedback": ["sale", "view"]})


@pytest.mark.parametrize("words", [None, {"bad": 1.0, "fair": 2.0, "good": 3.0}])
def test_mlflow_lets_the_feedback_out_or_some_of_it(words: dict[str, float] | None, tmp_path: Path) -> None:
    space = dataclasses.replace(SPACE, feedback=LEVELS.model_copy(update={"words": words}))
    served = _served("din-whole", tmp_path, space)
    schema, best = signature(tmp_path).inputs, "good" if words else 3
    for request in (REQUEST, REQUEST | {"history_feedback": [best, None]}, REQUEST | {"history_feedback": [best] * 2}):
        passed = _enforce_schema(pd.DataFrame([request]), schema)
        assert served.predict(None, passed)["scores"][0] == pytest.approx(_scores(served, request))


def test_unknown_items_cost_their_own_score_only(tmp_path: Path) -> None:
    served = _served("din-whole", tmp_path)
    strange = {"history_items": ["i1", "new", "i2"], "history_times": [10, 15, 20], "candidates": ["i5", "newer", "i7"]}
    stranger = {"history_items": ["new"], "history_times": [10]}
    plain, mixed, nothing = _answers(served, REQUEST, REQUEST | strange, REQUEST | stranger).to_dict("records")
    assert mixed["scores"][1] is None
    assert mixed["scores"][0] == pytest.approx(plain["scores"][0])
    assert mixed["scores"][2] == pytest.approx(plain["scores"][2])
    assert (mixed["unknown_events"], mixed["note"]) == (1, "1 of 3 candidates are unknown to this model")
    assert nothing["scores"] == [None] * 3
    assert nothing["note"] == "no event of the history is known: rank by popularity"
    assert (plain["unknown_events"], plain["note"]) == (0, "")
    missing = _answers(served, REQUEST | {"history_items": [], "history_times": []})
    assert missing["scores"][0] == [None] * 3


def test_an_id_is_read_as_an_own_log_is_unless_it_is_known_as_it_stands(tmp_path: Path) -> None:
    served = _served("din-whole", tmp_path)
    blanks = {"history_items": [f" {item}  " for item in REQUEST["history_items"]]}
    assert _scores(served, REQUEST | blanks) == _scores(served, REQUEST)
    served.reader.number |= {"caf\u00e9": 3, " i1": 4}
    assert served.reader._numbers(["cafe\u0301", "caf\u00e9 ", " i1", "i1 ", "i\u03011"]).tolist() == [3, 3, 4, 1, -1]


@pytest.mark.parametrize("name", ["hisac", "iat", "din-whole"])
def test_requests_score_in_any_company_as_alone(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served, random = _served(name, tmp_path), np.random.default_rng(0)
    requests = []
    for length in (1, 7, 30, 2, 60):
        times = np.sort(random.integers(1, TIME, length)).tolist()
        items = [f"i{item}" for item in random.integers(0, ITEMS, length)]
        asked = [f"i{item}" for item in random.integers(0, ITEMS, 1 + length % 4)]
        requests.append(REQUEST | FETCHED | {"history_items": items, "history_times": times, "candidates": asked})
    requests[1] |= {column: [] for column in FETCHED}
    alone = [_scores(served, request) for request in requests]
    for size in (1, 2, 32):
        monkeypatch.setattr(registry_served, "ROWS_AT_ONCE", size)
        for found, wanted in zip(_answers(served, *requests)["scores"], alone, strict=True):
            assert found == pytest.approx(wanted, abs=1e-5)


def test_the_example_of_a_version_is_a_request_that_it_answers(tmp_path: Path) -> None:
    for name in ("iat", "hisac"):
        (tmp_path / name).mkdir()
        served = _served(name, tmp_path / name)
        scores = served.predict(None, example(tmp_path / name))["scores"][0]
        assert len(scores) == 3
        assert all(0 < score < 1 for score in scores)


def test_only_a_model_that_reads_instances_asks_for_them(tmp_path: Path) -> None:
    told = [*REQUEST, "history_feedback"]
    for name, wanted in (("iat", [*told, *FETCHED]), ("din-whole", told)):
        home = tmp_path / name
        home.mkdir()
        served = _served(name, home)
        assert [column.name for column in served.reader.columns] == wanted == signature(home).inputs.input_names()
    assert len(_scores(served, REQUEST)) == 3
    with refuses("instance_items", "column is missing"):
        _scores(_served("iat", tmp_path / "iat"), REQUEST)


def test_scores_are_the_same_bytes_where_numpy_and_torch_were_loaded_before(tmp_path: Path) -> None:
    """As under `mlflow models serve`, which loads both, with their own choice of code, before it loads the model."""
    scores = _scores(_served("hisac", tmp_path), REQUEST)
    code = f"""
import numpy, pandas, torch
torch.set_num_threads(2)
from types import SimpleNamespace
from hisac_lab.registry.served import ServedRanker
served = ServedRanker()
served.load_context(SimpleNamespace(artifacts={{"bundle": {str(tmp_path)!r}}}))
print(served.predict(None, pandas.DataFrame([{REQUEST!r}]))["scores"][0])
"""
    kept = {name: value for name, value in os.environ.items() if name not in arithmetic.PORTABLE}
    answer = subprocess.run([sys.executable, "-c", code], env=kept, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == str(scores)

"""What models read of one user: the user, the request, the answers and agents are those of store and model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from kit import CPU

from hisac_lab.evaluation.reading import CANDIDATES
from hisac_lab.evaluation.records import Readings, Scores
from hisac_lab.events.batches import Requests
from hisac_lab.events.store import EventStore
from hisac_lab.inference.bundle import load_model
from hisac_lab.inference.loader import Loader, score
from hisac_lab.models.hisac import HiSACBranch


@pytest.fixture(scope="module")
def readings(judged: Path) -> Readings:
    """What the stage wrote."""
    return Readings.open(judged)


def test_the_user_comes_to_the_test_period_with_the_longest_history(readings: Readings, store: EventStore) -> None:
    samples = store.samples("test")
    begin, end = store.bounds(samples)
    first = {user: int(np.flatnonzero(samples["user"] == user)[0]) for user in np.unique(samples["user"]).tolist()}
    lengths = {user: int(end[at] - begin[at]) for user, at in first.items()}
    assert lengths[readings.user] == max(lengths.values())
    assert readings.end - readings.begin == lengths[readings.user]
    assert readings.time == samples["time"][first[readings.user]]
    theirs = samples[samples["user"] == readings.user]
    assert readings.items == list(dict.fromkeys(theirs["item"].tolist()))[:CANDIDATES]
    assert readings.positive[0] == bool(theirs["label"][0])


def test_models_that_keep_agents_are_told_and_others_are_not(readings: Readings) -> None:
    assert list(readings.models) == ["hisac"]
    for one in readings.models["hisac"]:
        weights = [agent.weight for agent in one.agents]
        assert weights == sorted(weights, reverse=True)
        assert 0 < sum(weights) <= 1 + 1e-5


def test_answers_are_those_of_the_run_with_the_best_validation(
    readings: Readings, judged: Path, trained: Path, store: EventStore
) -> None:
    seed = Scores.open(judged).models["hisac"].best_seed
    model, _ = load_model(trained / f"hisac-{seed}")
    samples = store.samples("test")
    asked = samples[samples["user"] == readings.user][: len(readings.items)].copy()
    assert len(set(asked["item"].tolist())) == len(asked), "the tiny log repeats no item here"
    for column in ("time", "end", "request"):
        asked[column] = asked[column][0]
    logits = score(model, Loader.of(model, Requests.of(store, asked, len(asked)), CPU).counted(model))
    chances = torch.sigmoid(torch.from_numpy(logits))[0].tolist()
    assert [one.probability for one in readings.models["hisac"]] == pytest.approx(chances, abs=1e-6)


def test_agents_stand_on_leaves_that_the_history_voted_for(
    readings: Readings, judged: Path, trained: Path, store: EventStore
) -> None:
    model, _ = load_model(trained / f"hisac-{Scores.open(judged).models['hisac'].best_seed}")
    assert isinstance(model.long, HiSACBranch)
    leaves = model.long.item_leaf[torch.tensor(store.items[readings.begin : readings.end].tolist())]
    for one in readings.models["hisac"]:
        for agent in one.agents:
            assert agent.path[-1] in leaves.tolist()
            assert len(agent.path) == model.long.depth
            for level in range(len(agent.path) - 1, 0, -1):
                assert int(model.long.parents[level][agent.path[level]]) == agent.path[level - 1]

"""What feedback is for: whether a user likes an item again is told by how it went the last time."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kit import BACKBONE, CPU, as_backbone, make_history, make_items

from hisac_lab.config.model import ModelConfig
from hisac_lab.config.train import TrainConfig
from hisac_lab.events.batches import Requests
from hisac_lab.events.feedback import Levels
from hisac_lab.events.records import Prepared
from hisac_lab.events.store import EventStore
from hisac_lab.inference.loader import Loader, score
from hisac_lab.models.catalog import build
from hisac_lab.models.contract import Candidates, UserState
from hisac_lab.models.din import DINConfig
from hisac_lab.models.hisac import HiSACConfig
from hisac_lab.models.path_votes import VotesConfig
from hisac_lab.models.retrieval import SIMConfig
from hisac_lab.ops.auc import auc
from hisac_lab.testing.samples import lively
from hisac_lab.training.loop import train

KNOWN = 8  # items of a history, each once
SPACE = dataclasses.replace(make_items(), feedback=Levels(begins=[0.0, 1.0], positive=2))


def _requests(count: int, seed: int) -> Requests:
    """Users who have met eight items, half of them liked; each is asked about four of these, and likes them again."""
    random = np.random.default_rng(seed)
    items = np.argsort(random.random((count, 12)), axis=1, kind="stable")[:, :KNOWN] * 5
    liked = random.integers(0, 2, items.shape)
    places = np.argsort(random.random(items.shape), axis=1, kind="stable")[:, :4]
    candidates, labels = (np.take_along_axis(part, places, axis=1) for part in (items, liked))
    offsets = np.arange(count + 1) * KNOWN
    times = 10**9 + np.tile(np.arange(KNOWN), count) * 3_600
    unread = Prepared.model_construct()  # type: ignore[call-arg]
    feedback = (1 + liked).ravel().astype(np.uint8)
    store = EventStore(Path("nowhere"), unread, items.ravel().astype(np.int32), times, offsets, feedback)
    time, user = np.full(count, 10**9 + KNOWN * 3_600), np.arange(count)
    full = np.ones(candidates.shape, bool)
    return Requests(
        store, offsets[:-1], offsets[1:], time, candidates, labels.astype(np.float32), full, candidates, user
    )


@pytest.mark.parametrize("config", [DINConfig(whole_history=False), SIMConfig(search="semantic", top=1, heads=1)])
def test_models_learn_from_the_feedback_of_an_earlier_event_of_the_same_item(config: ModelConfig) -> None:
    seen, unseen = _requests(2_000, 0), _requests(400, 1)
    for told in (True, False):
        backbone = BACKBONE.model_copy(update={"dim": 16, "short_window": KNOWN, "tower": (32,), "feedback": told})
        model = build(config, backbone, SPACE, 0)
        settings = TrainConfig(epochs=6, batch_requests=32, learning_rate=0.01, embedding_learning_rate=0.1)
        train(model, Loader(seen, CPU), Loader(unseen, CPU), settings, 0, "feedback")
        area = auc(unseen.labels.ravel(), score(model, Loader(unseen, CPU)).ravel())
        assert area > 0.9 if told else 0.45 < area < 0.55


@pytest.mark.parametrize("labels", ["own", "shuffled"])
def test_nothing_is_learned_from_shuffled_labels(labels: str) -> None:
    """A coin's log loss is 0.693; of what little noise teaches, the order may be anything. All are one user's."""
    seen, unseen = _requests(1_000, 0), _requests(400, 1)
    alike = [dataclasses.replace(part, user=np.zeros(len(part), np.int64)) for part in (seen, unseen)]
    learned, judged = (part.shuffled(0) for part in alike) if labels == "shuffled" else alike
    backbone = BACKBONE.model_copy(update={"dim": 16, "short_window": KNOWN, "tower": (32,)})
    model = build(DINConfig(whole_history=False), backbone, SPACE, 0)
    settings = TrainConfig(epochs=6, batch_requests=32, learning_rate=0.01, embedding_learning_rate=0.1)
    train(model, Loader(learned, CPU), Loader(judged, CPU), settings, 0, labels)
    logits = score(model, Loader(unseen, CPU))
    loss = float((np.logaddexp(0, logits) - unseen.labels * logits).mean())
    assert loss < 0.4 if labels == "own" else loss > 0.65


@pytest.mark.parametrize("vote", ["tree", "flat"])
@pytest.mark.parametrize("route_by", ["events", "items", "leaves"])
def test_what_was_disliked_does_not_vote(vote: Any, route_by: Any) -> None:
    """HiSAC's agents, facts and values, and votes, are those of a history without these events."""
    history, candidates = make_history([12, 9, 4]), torch.arange(9).view(3, 3)
    feedback = torch.from_numpy(np.random.default_rng(0).integers(0, 3, history.items.shape)) * history.mask
    heard = dataclasses.replace(history, feedback=feedback)
    less = dataclasses.replace(heard, mask=heard.mask & (feedback != 1))
    configs = (HiSACConfig(agents=4, vote=vote, route_by=route_by), VotesConfig())
    for config in configs:
        answers = []
        for votes_from, seen in (("positives", heard), ("all", less), ("all", heard)):
            branch = as_backbone(lively(config.model_copy(update={"votes_from": votes_from}), SPACE))
            long = branch.long
            assert long is not None
            events = branch.embed(seen.items, seen.ages, seen.feedback)
            state = UserState(long.encode(seen, events))
            vectors = branch.encoder(candidates)
            answers.append(long.attend(state, Candidates(candidates, vectors, vectors, branch.embed)))
        torch.testing.assert_close(answers[0], answers[1])
        assert not torch.allclose(answers[0], answers[2])


def test_feedback_that_is_unknown_or_absent_votes() -> None:
    history = make_history([6])
    history = dataclasses.replace(history, feedback=history.feedback * (history.feedback != 1))
    assert (history.feedback == 0).any()
    assert torch.equal(history.voters(SPACE.first_voting("positives")).mask, history.mask)
    assert SPACE.first_voting("positives") == 2
    assert SPACE.first_voting("all") == dataclasses.replace(SPACE, feedback=None).first_voting("positives") == 0

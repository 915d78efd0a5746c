"""Further answers and weights in training: the loss by its formula, what is learned, what stays as it was."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from kit import BACKBONE, CPU, MODELS, as_backbone, make_items, make_requests
from torch import nn

from hisac_lab.config.train import TrainConfig
from hisac_lab.events.batches import Requests
from hisac_lab.inference.loader import Loader, score, score_tasks
from hisac_lab.models.backbone import Backbone
from hisac_lab.models.catalog import build
from hisac_lab.ops.auc import auc
from hisac_lab.training.exchange import Exchange
from hisac_lab.training.loop import _backward, train
from hisac_lab.training.parallel import ALONE

SPACE = make_items()
WITH = BACKBONE.model_copy(update={"tasks": {"bought": 0.5, "liked": 2.0}, "features": ("length", "recency")})
WITHOUT = WITH.model_copy(update={"tasks": {}})


def _requests(seed: int = 0, users: int = 12) -> Requests:
    """Requests whose second answer is unknown now and then, and with weights."""
    made, random = make_requests(users, seed=seed), np.random.default_rng([seed, 3])
    count = made.candidates.size
    answers = random.integers(0, 2, (count, 2)).astype(np.float32)
    answers[random.random(count) < 0.3, 1] = np.nan
    sample = np.arange(count).reshape(made.candidates.shape)
    weights = random.random(count).astype(np.float32)
    return dataclasses.replace(made, sample=sample, answers=answers, weights=weights)


def _model(backbone: object = WITH, seed: int = 0) -> Backbone:
    return as_backbone(build(MODELS["hisac"], backbone, SPACE, seed))  # type: ignore[arg-type]


def test_the_loss_is_the_weighted_mean_of_all_answers_that_are_known() -> None:
    requests, index = _requests(), np.arange(9)
    model, again = _model().eval(), _model().eval()
    total = requests.weight_of(index)
    shown = _backward(model, Loader(requests, CPU), index, total, Exchange(model, ALONE))

    batch = Loader(requests, CPU).batch(index)
    assert batch.answers is not None
    assert batch.weights is not None
    logits = again.answer(again.encode(batch.history), batch.candidates, batch.context)
    terms = []
    for place, (weight, truth) in enumerate(
        zip((1.0, 0.5, 2.0), (batch.labels, *batch.answers.unbind(-1)), strict=True)
    ):
        known = ~truth.isnan()
        chance, answer = torch.sigmoid(logits[..., place].double())[known], truth[known]
        loss = -(answer * chance.log() + (1 - answer) * (1 - chance).log())
        terms.append(weight * (loss * batch.weights[known]).sum() / batch.weights.sum())
    torch.stack(terms).sum().backward()
    assert shown == pytest.approx(terms[0].item(), abs=1e-6)
    for (name, one), other in zip(model.named_parameters(), again.parameters(), strict=True):
        if other.grad is not None:
            torch.testing.assert_close(one.grad, other.grad, msg=name, atol=1e-6, rtol=1e-4)


def test_an_event_of_weight_two_counts_as_two_events_of_weight_one() -> None:
    once, index = dataclasses.replace(make_requests(4), answers=None), np.arange(12)
    sample = np.arange(once.candidates.size).reshape(once.candidates.shape)
    heavy = np.ones(once.candidates.size, np.float32)
    heavy[sample[3:6].ravel()] = 2
    weighted = dataclasses.replace(once, sample=sample, weights=heavy)
    one, other = _model(WITHOUT).eval(), _model(WITHOUT).eval()
    _backward(one, Loader(weighted, CPU), index, weighted.weight_of(index), Exchange(one, ALONE))
    twice = np.r_[index, 3:6]
    _backward(other, Loader(once, CPU), twice, once.weight_of(twice), Exchange(other, ALONE))
    for left, right in zip(one.parameters(), other.parameters(), strict=True):
        if right.grad is not None:
            torch.testing.assert_close(left.grad, right.grad, atol=1e-6, rtol=1e-4)


def test_all_other_weights_start_as_without_further_answers() -> None:
    plain = _model(WITHOUT).state_dict()
    told = _model().state_dict()
    assert set(told) - set(plain) == {"further.weight", "further.bias"}
    assert all(torch.equal(told[name], part) for name, part in plain.items())


def test_scores_of_the_label_do_not_know_of_the_other_heads() -> None:
    model, requests = _model().eval(), _requests()
    loader = Loader(requests, CPU)
    answers = score_tasks(model, loader)
    assert answers.shape == (*requests.candidates.shape, 3)
    assert np.array_equal(answers[..., 0], score(model, loader))
    nn.init.ones_(model.further.weight)  # type: ignore[union-attr]
    assert np.array_equal(score_tasks(model, loader)[..., 0], answers[..., 0])
    assert not np.array_equal(score_tasks(model, loader)[..., 1:], answers[..., 1:])


def test_an_answer_is_learned_beside_a_label_that_says_nothing_of_it() -> None:
    """Even items are bought; labels are drawn."""
    requests = _requests(users=80)
    bought = (requests.candidates % 2 == 0).astype(np.float32).ravel()
    answers = np.stack([bought, np.full(len(bought), np.nan, np.float32)], axis=1)
    requests = dataclasses.replace(requests, answers=answers, weights=None)
    model = _model()
    config = TrainConfig(epochs=12, batch_requests=32, checks_per_epoch=1, learning_rate=0.01)
    train(model, Loader(requests, CPU), Loader(requests, CPU), config, 0, "test")
    told = score_tasks(model, Loader(requests, CPU))
    assert auc(bought, told[..., 1].ravel().astype(float)) > 0.9
    assert auc(bought, told[..., 0].ravel().astype(float)) < 0.7

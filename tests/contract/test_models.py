"""What every model must do, whatever its settings: `encode` once per request, `score` per candidate."""

from __future__ import annotations

import dataclasses
import inspect

import pytest
import torch
from kit import FRAME, ITEMS, MODELS, WITHOUT_ID, lively, make_history, make_items, padded
from torch import nn

from hisac_lab.models.catalog import BRANCHES, build
from hisac_lab.models.contract import History
from hisac_lab.models.frame import Ranker

SPACE = make_items()
LENGTHS = [14, 3, 0, 7, 1]
CANDIDATES = torch.randint(0, ITEMS, (len(LENGTHS), 6), generator=torch.Generator().manual_seed(5))
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> Ranker:
    """A model of this configuration."""
    return lively(request.param, SPACE)


@pytest.fixture
def history() -> History:
    """Five histories: long, short, empty, middling, one event; some events have no semantic ID."""
    made = make_history(LENGTHS)
    made.items[0, 2], made.items[3, -2] = WITHOUT_ID
    return made


def _pick(history: History, rows: list[int]) -> History:
    return History(history.items[rows], history.ages[rows], history.mask[rows])


def test_every_kind_of_model_stands_in_this_suite() -> None:
    assert {type(config) for config in MODELS.values()} == set(BRANCHES)


@pytest.mark.parametrize("more", [1, 9])
def test_padding_changes_nothing(model: Ranker, history: History, more: int) -> None:
    torch.testing.assert_close(model(padded(history, more), CANDIDATES), model(history, CANDIDATES), **CLOSE)


def test_what_stands_in_the_padding_changes_nothing(model: Ranker, history: History) -> None:
    dirty = History(
        torch.where(history.mask, history.items, 11), torch.where(history.mask, history.ages, 999), history.mask
    )
    torch.testing.assert_close(model(dirty, CANDIDATES), model(history, CANDIDATES), **CLOSE)


def test_a_request_alone_scores_as_among_others(model: Ranker, history: History) -> None:
    together = model(history, CANDIDATES)
    for row in range(len(LENGTHS)):
        alone = model(_pick(history, [row]), CANDIDATES[[row]])
        torch.testing.assert_close(alone, together[[row]], **CLOSE)


def test_the_order_of_requests_is_the_order_of_scores(model: Ranker, history: History) -> None:
    order = [3, 0, 4, 2, 1]
    shuffled = model(_pick(history, order), CANDIDATES[order])
    torch.testing.assert_close(shuffled, model(history, CANDIDATES)[order], **CLOSE)


def test_candidates_do_not_see_each_other(model: Ranker, history: History) -> None:
    together = model(history, CANDIDATES)
    for column in range(CANDIDATES.shape[1]):
        torch.testing.assert_close(model(history, CANDIDATES[:, [column]]), together[:, [column]], **CLOSE)
    many = CANDIDATES.repeat(1, 30)
    torch.testing.assert_close(model(history, many), together.repeat(1, 30), **CLOSE)


def test_scores_depend_on_the_candidate_and_on_the_history(model: Ranker, history: History) -> None:
    scores = model(history, torch.arange(20).expand(len(LENGTHS), -1))
    assert (scores.std(dim=1) > 1e-4).all()
    assert (scores.std(dim=0) > 1e-4).all()


def test_an_empty_history_gives_finite_scores(model: Ranker, history: History) -> None:
    assert torch.isfinite(model(history, CANDIDATES)).all()
    empty = make_history([0, 0])
    assert torch.isfinite(model(empty, CANDIDATES[:2])).all()
    unknown = make_history([4, 4])
    unknown.items[:] = WITHOUT_ID[0]
    assert torch.isfinite(model(unknown, CANDIDATES[:2])).all()


def test_an_empty_history_gives_finite_gradients(model: Ranker) -> None:
    model(make_history([0, 2]), CANDIDATES[:2]).sum().backward()
    assert all(torch.isfinite(part.grad).all() for part in model.parameters() if part.grad is not None)


def test_encode_then_score_is_forward(model: Ranker, history: History) -> None:
    state = model.encode(history)
    assert torch.equal(model.score(state, CANDIDATES), model(history, CANDIDATES))


def test_encode_knows_no_candidate_and_score_no_history(model: Ranker) -> None:
    assert list(inspect.signature(model.encode).parameters) == ["history"]
    assert list(inspect.signature(model.score).parameters) == ["state", "candidates"]


def test_a_state_has_one_row_per_request_and_depends_on_it_alone(model: Ranker, history: History) -> None:
    state = model.encode(history)
    assert all(len(part) == len(LENGTHS) for part in state.parts.values())
    first = {name: part[[1]] for name, part in state.parts.items()}
    torch.testing.assert_close(
        model.score(dataclasses.replace(state, parts=first), CANDIDATES[[1]]), model(history, CANDIDATES)[[1]], **CLOSE
    )
    assert state.bytes == sum(part.nbytes for part in state.parts.values())


def test_agents_counted_beforehand_score_like_agents_counted_now(model: Ranker, history: History) -> None:
    agents = model.agents(history)
    if agents is None:
        assert not hasattr(model.long, "budgets")
        return
    beforehand = dataclasses.replace(history, agents=agents)
    assert torch.equal(model(beforehand, CANDIDATES), model(history, CANDIDATES))


def test_gradients_reach_every_parameter_and_no_buffer(model: Ranker, history: History) -> None:
    wide = make_history([40] * 5, seed=1)
    losses = model(wide, CANDIDATES).square().mean() + model(history, CANDIDATES).square().mean()
    losses.backward()
    for name, part in model.named_parameters():
        assert part.grad is not None, name
        assert part.grad.abs().sum() > 0, name
    assert not any(part.requires_grad for part in model.buffers())
    assert len(list(model.buffers())) >= 2


@pytest.mark.parametrize("name", MODELS)
def test_equal_seeds_give_equal_losses(name: str, history: History) -> None:
    """Three steps with dropout: the same from one seed, other numbers from another."""
    frame = FRAME.model_copy(update={"dropout": 0.3})
    labels = (CANDIDATES % 3 == 0).float()

    def losses(seed: int) -> list[float]:
        made = build(MODELS[name], frame, SPACE, seed)
        stepper = torch.optim.Adam(made.parameters(), lr=0.01)
        found = []
        for _ in range(3):
            loss = nn.functional.binary_cross_entropy_with_logits(made(history, CANDIDATES), labels)
            stepper.zero_grad()
            loss.backward()
            stepper.step()
            found.append(float(loss.detach()))
        return found

    assert losses(0) == losses(0)
    assert losses(0) != losses(1)

"""IAT: the narrow instance, streaming against user order, what is stored, and the downstream model's query."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from kit import BACKBONE, EVERY, ITEMS, ask, lively, make_history, make_items, pick
from torch import Tensor

from hisac_lab.base.errors import UserError
from hisac_lab.events.instances import UNKNOWN, InstanceQuery, InstanceStore
from hisac_lab.models.catalog import Models, build
from hisac_lab.models.contract import History, UserState
from hisac_lab.models.iat import IATBranch, IATConfig
from hisac_lab.models.instance_source import IATSourceConfig, InstanceSource
from hisac_lab.models.instances import Instances
from hisac_lab.models.tables import Embedding

SPACE = make_items()
CANDIDATES = torch.randint(0, ITEMS, (6, 3), generator=torch.Generator().manual_seed(0))
MASK = torch.ones(6, 3, dtype=torch.bool)
MASK[1, 2] = MASK[4, 1:] = False
USERS = torch.tensor([0, 1, 0, 1, 0, 2])
TIMES = torch.tensor([100, 100, 300, 200, 300, 50])  # requests 2 and 4 of one user in one second


def _source(order: str = "user", window: int = 64) -> InstanceSource:
    config = IATSourceConfig.model_validate({"order": order, "dim": 8, "decoder": (8,), "window": window, "heads": 2})
    model = build(config, BACKBONE, SPACE, 0)
    assert isinstance(model, InstanceSource)
    for part in model.modules():
        if isinstance(part, torch.nn.Embedding):
            torch.nn.init.normal_(part.weight)
    if model.reader is not None:
        assert model.reader.gaps is not None
        torch.nn.init.normal_(model.reader.gaps)
    return model.eval()


def _requests() -> History:
    return dataclasses.replace(make_history([5, 3, 9, 2, 0, 4]), instances=None)


def _past(parts: list[tuple[int, int, Tensor]], user: int, time: int, unit: int = 1, count: int = 64) -> Instances:
    """What a store of these instances, each with user, time and vector, shows of one user at this time."""
    users, times = (np.array([part[place] for part in parts], np.int64) for place in (0, 1))
    vectors = np.stack([part[2].numpy() for part in parts]) if parts else np.zeros((0, 8), np.float32)
    store = InstanceStore.of(users, times, users * 0, users * 0, times, vectors, unit)
    return Instances.of(store.fetch(np.array([user]), np.array([time]), InstanceQuery(count, 8)))


def _stream(
    model: InstanceSource, after: bool = False, unit: int = 1, times: Tensor = TIMES
) -> tuple[Tensor, list[tuple[int, int, Tensor]]]:
    """Requests in time order: fetch, score, store."""
    stored: list[tuple[int, int, Tensor]] = []
    logits, history = torch.zeros(6, 3), _requests()
    with torch.no_grad():
        for row in torch.argsort(times, stable=True).tolist():
            one = pick(history, [row])
            past = _past(stored, int(USERS[row]), int(times[row]), unit)
            state = model.encode(dataclasses.replace(one, instances=past))
            logits[row] = model.score(state, CANDIDATES[[row]])[0] * MASK[row]
            rows = model.instance(state, CANDIDATES[[row]])
            rows = model.after(state, rows) if after else rows
            stored += [(int(USERS[row]), int(times[row]), vector) for vector in rows[0][MASK[row]]]
    return logits, stored


@pytest.mark.parametrize("unit", [60, 250, 86_400])
def test_stored_instances_of_one_time_unit_do_not_see_each_other(unit: int) -> None:
    """As those of one batch do not: at 250 the last request of user 0 reads two that are strangers to each other."""
    model, times = _source(), torch.tensor([100, 100, 200, 200, 300, 50])
    streamed, _ = _stream(model, unit=unit, times=times)
    together = model.score_users(_requests(), CANDIDATES, MASK, USERS, times, unit=unit)
    torch.testing.assert_close(together, streamed, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("order", ["temporal", "user"])
def test_streaming_scores_like_user_order(order: str) -> None:
    """Instances from the store, one request at a time, or a whole batch grouped by user: the same logits."""
    model = _source(order)
    streamed, _ = _stream(model)
    together = model.score_users(_requests(), CANDIDATES, MASK, USERS, TIMES)
    torch.testing.assert_close(together, streamed, atol=1e-5, rtol=1e-4)
    assert not together[~MASK].any()
    if order == "user":
        alone = model.score(model.encode(_requests()), CANDIDATES) * MASK
        assert not torch.allclose(alone, streamed, atol=1e-3)  # the past matters
        torch.testing.assert_close(alone[[0, 1, 5]], streamed[[0, 1, 5]], atol=1e-5, rtol=1e-4)  # first requests


def test_in_user_order_gradients_reach_earlier_instances() -> None:
    model = _source()
    model.score_users(_requests(), CANDIDATES, MASK, USERS, TIMES)[2].sum().backward()
    assert isinstance(model.encoder.ids, Embedding)
    grad = model.encoder.ids.weight.grad
    assert grad is not None
    history = _requests()
    own = set(CANDIDATES[2].tolist()) | set(history.items[2][history.mask[2]].tolist())
    earlier = set(CANDIDATES[0].tolist()) - own
    others = set(CANDIDATES[[1, 3, 4, 5]].flatten().tolist()) - set(CANDIDATES[0].tolist()) - own
    others -= set(history.items[0][history.mask[0]].tolist())
    assert earlier
    assert all(grad[item].any() for item in earlier)
    assert others
    assert not any(grad[item].any() for item in others)


def test_instances_of_one_request_do_not_see_each_other() -> None:
    """Nor do those of another request in the same second."""
    model, changed = _source(), CANDIDATES.clone()
    before = model.score_users(_requests(), CANDIDATES, MASK, USERS, TIMES)
    changed[2, 0] = (changed[2, 0] + 1) % ITEMS
    after = model.score_users(_requests(), changed, MASK, USERS, TIMES)
    same = torch.ones(6, 3, dtype=torch.bool)
    same[2, 0] = False
    torch.testing.assert_close(after[same], before[same])
    assert after[2, 0] != before[2, 0]
    changed[0, 0] = (changed[0, 0] + 1) % ITEMS
    later = model.score_users(_requests(), changed, MASK, USERS, TIMES)
    assert (later[2] != after[2]).all()


@pytest.mark.parametrize("window", [3, 64])
def test_stored_instances_before_a_batch_read_like_a_longer_batch(window: int) -> None:
    """The first requests stored, the later ones together: as if all stood in one batch, or streamed one by one."""
    model = _source(window=window)
    assert model.reader is not None
    model.reader.blocks = model.reader.blocks[:1]  # with two blocks, a short window reaches further in a longer batch
    stored = _stream(model)[1]
    late = [2, 3, 4]  # of users 0 and 1, whose earlier requests are stored
    parts = [_past(stored, user, int(TIMES[user == USERS].max()), count=window - 1) for user in (0, 1)]
    width = max(part.mask.shape[1] for part in parts)
    padded = [torch.nn.functional.pad(part.vectors, (0, 0, width - part.mask.shape[1], 0)) for part in parts]
    rest = [
        [torch.nn.functional.pad(getattr(part, name), (width - part.mask.shape[1], 0)) for part in parts]
        for name in ("items", "ages", "labels", "mask")
    ]
    past = Instances(torch.cat(padded), *(torch.cat(part) for part in rest))
    found = model.score_users(
        pick(_requests(), late), CANDIDATES[late], MASK[late], USERS[late], TIMES[late], past.last(window - 1)
    )
    whole = model.score_users(_requests(), CANDIDATES, MASK, USERS, TIMES)
    torch.testing.assert_close(found, whole[late], atol=1e-5, rtol=1e-4)
    alone = model.score_users(pick(_requests(), late), CANDIDATES[late], MASK[late], USERS[late], TIMES[late])
    assert not torch.allclose(alone, found, atol=1e-3)
    if window > 3:
        torch.testing.assert_close(found, _stream(model)[0][late], atol=1e-5, rtol=1e-4)


def test_in_a_time_unit_nothing_is_seen() -> None:
    """Days instead of seconds: what happened earlier on the same day is not read."""
    model, day = _source(), 86_400
    vectors = torch.randn(1, 3, 8, generator=torch.Generator().manual_seed(0))
    times, real = torch.tensor([[100, 200, day + 5]]), torch.ones(1, 3, dtype=torch.bool)
    by_second, by_day = (model.sequence(vectors, times, real, unit) for unit in (1, day))
    alone = model.sequence(vectors[:, 1:2], times[:, 1:2], real[:, 1:2])
    torch.testing.assert_close(by_day[:, 1:2], alone, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(by_second[:, 1:2], alone, atol=1e-3)
    assert not torch.allclose(by_day[:, 2:], model.sequence(vectors[:, 2:], times[:, 2:], real[:, 2:]), atol=1e-3)


def test_an_instance_is_narrow_and_bounded() -> None:
    model = _source()
    found = model.instance(model.encode(_requests()), CANDIDATES)
    assert found.shape == (6, 3, 8)
    assert found.abs().max() <= 1
    assert found.std() > 0.1


@pytest.mark.parametrize("order", ["temporal", "user"])
def test_nothing_bypasses_the_instance(order: str) -> None:
    """With the instance put to a constant, candidates can no longer be told apart."""
    model = _source(order)
    model.squeeze.weight.data.zero_()
    scores = model.score(model.encode(make_history([5, 3])), CANDIDATES[:2])
    assert (scores == scores[:, :1]).all()


def test_the_stored_row_is_the_one_before_the_transformer() -> None:
    model = _source()
    state = model.encode(make_history([5, 3]))
    rows = model.instance(state, CANDIDATES[:2])
    other = model.encode(dataclasses.replace(make_history([5, 3]), instances=None))
    assert torch.equal(model.instance(other, CANDIDATES[:2]), rows)  # it knows no earlier instance
    assert not torch.allclose(model.after(state, rows), model.after(other, rows))
    torch.testing.assert_close(model.decode(model.after(state, rows)).squeeze(-1), model.score(state, CANDIDATES[:2]))
    before, after = (torch.stack([part[2] for part in _stream(model, after)[1]]) for after in (False, True))
    assert (before.abs() <= 1).all()
    assert not torch.allclose(before, after)
    temporal = _source("temporal")
    state = temporal.encode(make_history([5, 3]))
    rows = temporal.instance(state, CANDIDATES[:2])
    assert temporal.after(state, rows) is rows


def test_only_the_window_of_instances_is_read() -> None:
    model, history = _source(window=3), make_history([20])
    assert history.instances is not None
    near = dataclasses.replace(history, instances=history.instances.last(2))
    assert history.instances.mask.shape[1] > 2
    torch.testing.assert_close(model(history, CANDIDATES[:1]), model(near, CANDIDATES[:1]))


def _branch(**changes: Any) -> IATBranch:
    torch.manual_seed(0)
    settings = {"dim": 8, "window": 6, "heads": 2} | changes
    branch = IATBranch(IATConfig.model_validate(settings), BACKBONE, SPACE)
    for part in branch.modules():
        if isinstance(part, torch.nn.Embedding):
            torch.nn.init.normal_(part.weight)
    torch.nn.init.normal_(branch.none)
    return branch


def _answer(branch: IATBranch, history: History, context: Tensor | None = None) -> Tensor:
    state = branch.encode(history, torch.zeros(len(history.items), 1, BACKBONE.dim))
    state["context"] = torch.ones(len(history.items), 1) if context is None else context
    queries = torch.randn(len(history.items), 2, BACKBONE.dim, generator=torch.Generator().manual_seed(0))
    return branch.attend(UserState(state), ask(queries))


def test_tokens_know_instance_label_and_age() -> None:
    branch, history = _branch(), make_history([9, 7])
    past = history.instances
    assert past is not None
    before = _answer(branch, history)
    changes = {
        "vectors": past.vectors.flip(2),
        "labels": torch.where(past.mask, (past.labels + 1) % 3, UNKNOWN),
        "ages": past.ages * 40,
    }
    for name, part in changes.items():
        other = dataclasses.replace(past, **{name: part})
        assert not torch.allclose(_answer(branch, dataclasses.replace(history, instances=other)), before), name
    items = dataclasses.replace(history, instances=dataclasses.replace(past, items=past.items.flip(1)))
    torch.testing.assert_close(_answer(branch, items), before)  # the item itself is no part of a token


def test_handmade_tokens_know_the_item_and_not_the_vector() -> None:
    branch, history = _branch(tokens="handmade", labels=False), make_history([9, 7])
    past = history.instances
    assert past is not None
    before = _answer(branch, history)
    for name in ("vectors", "labels"):
        other = dataclasses.replace(past, **{name: torch.ones_like(getattr(past, name))})
        torch.testing.assert_close(_answer(branch, dataclasses.replace(history, instances=other)), before)
    other = dataclasses.replace(past, items=(past.items + 1) % ITEMS)
    assert not torch.allclose(_answer(branch, dataclasses.replace(history, instances=other)), before)


def test_the_query_knows_the_request() -> None:
    branch, history = _branch(), make_history([9, 7])
    assert not torch.allclose(_answer(branch, history), _answer(branch, history, torch.zeros(2, 1)))
    assert branch.query.in_features == 2 * BACKBONE.dim + 1


def test_users_without_instances_get_the_learned_answer() -> None:
    branch, history = _branch(), make_history([0, 8])
    answers = _answer(branch, history)
    torch.testing.assert_close(answers[0], branch.none.expand(2, -1))
    assert not torch.allclose(answers[1, 0], branch.none)


def test_a_history_without_instances_is_refused() -> None:
    history = dataclasses.replace(make_history([3]), instances=None)
    with pytest.raises(UserError, match="no stored instances"):
        lively("iat", SPACE)(history, CANDIDATES[:1])


def test_the_section_models_names_the_reader_and_not_the_source() -> None:
    assert Models.model_validate({"x": {"kind": "iat"}}).get("x") == IATConfig()
    with pytest.raises(ValueError, match="does not match any of the expected tags"):
        Models.model_validate({"x": {"kind": EVERY["iat-source-user"].kind}})

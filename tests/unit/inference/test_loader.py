"""Batches on a device and scoring by them: in any batches, with or without agents counted beforehand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from kit import BACKBONE, CPU, MODELS

from hisac_lab.events import batches
from hisac_lab.events.batches import Requests
from hisac_lab.inference.loader import Loader, score
from hisac_lab.models.catalog import build
from hisac_lab.models.contract import ItemSpace
from hisac_lab.models.hisac import HiSACConfig


@pytest.mark.parametrize("name", ["din-short-only", "din-whole", "hisac"])
def test_scores_do_not_depend_on_batches_or_on_agents_counted_beforehand(
    name: str, items: ItemSpace, rows: dict[str, Requests], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, test = build(MODELS[name], BACKBONE, items, 0), rows["test"]
    loader = Loader.of(model, test, CPU)
    plain = score(model, loader)
    assert plain.shape == test.candidates.shape
    monkeypatch.setattr(batches, "SCORING_ROWS", 7)
    np.testing.assert_allclose(score(model, loader), plain, atol=1e-5)
    assert (loader.counted(model) is loader) == (name != "hisac")
    np.testing.assert_allclose(score(model, loader.counted(model)), plain, atol=1e-5)


def test_shares_of_the_scoring_add_up_to_the_whole_to_the_bit(
    items: ItemSpace, rows: dict[str, Requests], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "SCORING_ROWS", 16)
    model, loader = build(MODELS["hisac"], BACKBONE, items, 0), Loader(rows["test"], CPU)
    shares = [score(model, loader, share=(place, 3)) for place in range(3)]
    assert all(share.any() for share in shares)
    np.testing.assert_array_equal(sum(shares), score(model, loader))


def test_agents_counted_beforehand_are_those_of_every_request(items: ItemSpace, rows: dict[str, Requests]) -> None:
    model = build(MODELS["hisac"], BACKBONE, items, 0)
    plain = Loader(rows["valid"], CPU)
    beforehand, size = plain.counted(model), len(plain)
    for index in (np.arange(5), np.array([17]), np.arange(size - 9, size)[::-1]):
        counted = model.agents(plain.batch(index).history)
        cached = beforehand.batch(index).history.agents
        assert counted is not None
        assert cached is not None
        assert torch.equal(cached.nodes, counted.nodes)
        assert torch.equal(cached.votes, counted.votes)
        assert cached.facts is not None
        assert counted.facts is not None
        assert torch.equal(cached.facts, counted.facts)


def test_agents_that_hold_few_votes_are_told_with_what_mends_it(items: ItemSpace, rows: dict[str, Requests]) -> None:
    """Once, by the mean share over the requests that have a vote; routed votes do not hide it."""
    plain, shares = Loader(rows["valid"], CPU), []
    model = build(HiSACConfig(budgets=(1, 1, 1)), BACKBONE, items, 0)
    leaf = items.codebook.item_nodes[:, -1]
    for row in range(len(plain)):
        history = plain.batch(np.array([row])).history
        leaves = leaf[history.items[history.mask].numpy()].tolist()
        voting = [node for node in leaves if node >= 0]
        agents = model.agents(history)
        assert agents is not None
        if voting:
            shares.append(sum(node == int(agents.nodes[0, 0]) for node in voting) / len(voting))
    share = np.mean(shares)
    assert share < 0.9
    told = f"the agents hold {share:.0%} of a history's votes, below 90%: raise agents, lower depth"
    assert [line[: len(told)] for line in plain.counted(model).warnings] == [told]
    assert plain.counted(build(HiSACConfig(every_leaf=True), BACKBONE, items, 0)).warnings == []
    assert plain.warnings == []


def test_a_batch_is_the_requests_at_the_index(items: ItemSpace, rows: dict[str, Requests]) -> None:
    train, index = rows["train"], np.array([5, 0, 17])
    batch = Loader(train, CPU).batch(index)
    few = train.take(index)
    for name in ("candidates", "labels", "mask"):
        np.testing.assert_array_equal(getattr(batch, name).numpy(), getattr(few, name))
    np.testing.assert_array_equal(batch.history.items.numpy(), few.histories().items)
    assert (batch.history.agents, batch.history.time, batch.history.instances) == (None, None, None)

"""Compressors: how events are grouped, what a group becomes, and who reads it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from kit import BACKBONE, DAY, WITHOUT_ID, ask, make_history, make_items
from torch import Tensor

from hisac_lab.models import compressors
from hisac_lab.models.compressors import MARGIN, CompressBranch, CompressConfig
from hisac_lab.models.contract import History, UserState
from hisac_lab.ops.attention import FLOOR, plain_attend
from hisac_lab.ops.hashing import planes, sign_bits

SPACE = make_items()
KINDS = ["kmeans", "lsh", "patches", "queries"]


def _branch(by: str, **changes: Any) -> CompressBranch:
    torch.manual_seed(0)
    return CompressBranch(CompressConfig.model_validate({"by": by, "size": 4} | changes), BACKBONE, SPACE)


def _history() -> History:
    history = make_history([30, 3, 0, 17])
    history.items[0, 4], history.items[3, -1] = WITHOUT_ID
    return history


def _values(history: History) -> Tensor:
    return torch.randn(*history.items.shape, BACKBONE.dim, generator=torch.Generator().manual_seed(1))


def _distortion(branch: CompressBranch, history: History) -> float:
    """Sum of squared distances of embeddings to the mean of their group."""
    slots, points, total = branch.slots(history), SPACE.semantic[history.items], 0.0
    for row in range(len(slots)):
        for group in set(slots[row].tolist()) - {-1}:
            own = points[row][slots[row] == group]
            total += float((own - own.mean(dim=0)).square().sum())
    return total


def test_k_means_lowers_the_distortion() -> None:
    history = make_history([60, 40], seed=3)
    one, many = (_distortion(_branch("kmeans", size=6, iterations=count), history) for count in (1, 12))
    patches = _distortion(_branch("patches", size=6), history)
    assert many < one < patches
    settled = _branch("kmeans", size=6, iterations=30).slots(history)
    assert torch.equal(settled, _branch("kmeans", size=6, iterations=31).slots(history))
    centers = {
        group: SPACE.semantic[history.items[0]][settled[0] == group].mean(dim=0)
        for group in set(settled[0].tolist()) - {-1}
    }
    for place, group in enumerate(settled[0].tolist()):
        if group >= 0:
            distance = {g: (SPACE.semantic[history.items[0, place]] - c).norm() for g, c in centers.items()}
            assert distance[group] <= min(distance.values()) + 1e-3


def _plain_k_means(items: Tensor, size: int, iterations: int) -> list[int]:
    """Lloyd's algorithm, one event at a time, over the events of one history; -1 without an embedding."""
    known = [int(item) for item in items if SPACE.semantic[item].any()]
    distinct = sorted(set(known))
    count = min(size, len(distinct))
    centers = [SPACE.semantic[distinct[place * len(distinct) // count]] for place in range(count)]

    def nearest(item: int) -> int:
        apart = [float((SPACE.semantic[item] - center).square().sum()) + MARGIN * n for n, center in enumerate(centers)]
        return apart.index(min(apart))

    for _ in range(iterations):
        group = [nearest(item) for item in known]
        for number in set(group):
            own = [item for item, found in zip(known, group, strict=True) if found == number]
            centers[number] = SPACE.semantic[own].mean(dim=0)
    return [nearest(int(item)) if int(item) in distinct else -1 for item in items]


@pytest.mark.parametrize("cells", [1, 200, 1 << 20])
@pytest.mark.parametrize(("size", "iterations"), [(1, 1), (6, 1), (6, 4), (40, 4)])
def test_k_means_is_the_plain_one(size: int, iterations: int, cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in small parts, which hold histories of like length."""
    monkeypatch.setattr(compressors, "CELLS", cells)
    history = make_history([30, 3, 0, 60, 17], seed=5)
    slots = _branch("kmeans", size=size, iterations=iterations).slots(history)
    for items, mask, own in zip(history.items, history.mask, slots, strict=True):
        assert own[mask].tolist() == _plain_k_means(items[mask], size, iterations)
        assert (own[~mask] == -1).all()


@pytest.mark.parametrize("by", ["kmeans", "lsh"])
def test_k_means_knows_no_order(by: str) -> None:
    branch, history = _branch(by), make_history([20])
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    mixed = dataclasses.replace(history, items=history.items[:, order], ages=history.ages[:, order])
    assert torch.equal(branch.slots(mixed), branch.slots(history)[:, order])


@pytest.mark.parametrize("by", ["kmeans", "lsh"])
def test_items_without_an_embedding_belong_to_no_group(by: str) -> None:
    history = _history()
    slots = _branch(by).slots(history)
    unknown = torch.isin(history.items, torch.tensor(WITHOUT_ID)) | ~history.mask
    assert torch.equal(slots < 0, unknown)


def test_fewer_items_than_groups_make_fewer_groups() -> None:
    history = make_history([2])
    _, bias = _branch("kmeans", size=9).compress(history, _values(history))
    assert int((bias > FLOOR).sum()) == len(set(history.items[0].tolist()))


@pytest.mark.parametrize(("size", "groups"), [(1, 1), (4, 4), (7, 4), (8, 8)])
def test_lsh_groups_equal_signatures(size: int, groups: int) -> None:
    branch, history = _branch("lsh", size=size), _history()
    assert branch.size == groups
    bits = sign_bits(SPACE.semantic, planes(SPACE.semantic.shape[1], groups.bit_length() - 1, 0))[history.items]
    slots = branch.slots(history)
    real = slots >= 0
    assert int(slots.max()) < groups
    for row in range(4):
        own, mine = bits[row][real[row]], slots[row][real[row]]
        assert torch.equal((own[:, None] == own).all(dim=2), mine[:, None] == mine)


def test_patches_are_equal_stretches() -> None:
    history = make_history([30, 3, 0, 17])
    slots = _branch("patches").slots(history)
    for row, length in enumerate([30, 3, 0, 17]):
        own = slots[row][history.mask[row]].tolist()
        assert own == sorted(own, reverse=True)  # the newest stretch is number 0
        sizes = [own.count(group) for group in set(own)]
        assert sum(sizes) == length
        assert max(sizes, default=0) - min(sizes, default=0) <= 1
        assert len(sizes) == min(4, length)


@pytest.mark.parametrize("by", ["kmeans", "lsh", "patches"])
def test_a_group_is_the_mean_of_its_events_and_weighs_its_share(by: str) -> None:
    branch, history = _branch(by), _history()
    values, slots = _values(history), branch.slots(history)
    means, bias = branch.compress(history, values)
    for row in range(4):
        total = int((slots[row] >= 0).sum())
        for group in range(branch.size):
            own = slots[row] == group
            if own.any():
                torch.testing.assert_close(means[row, group], values[row][own].mean(dim=0))
                assert float(bias[row, group]) == pytest.approx(math.log(int(own.sum()) / total), abs=1e-5)
            else:
                assert not means[row, group].any()
                assert bias[row, group] == FLOOR


def test_learned_queries_are_attention() -> None:
    branch, history = _branch("queries"), make_history([6, 0])
    values = _values(history)
    with torch.no_grad():
        found, bias = branch.compress(history, values)
        keys = branch.match(values[0])
        for number, query in enumerate(branch.queries):
            weights = torch.softmax(keys @ query / math.sqrt(BACKBONE.dim), dim=0)
            torch.testing.assert_close(found[0, number], weights @ values[0], atol=1e-6, rtol=1e-4)
    assert bias.tolist() == [[0.0] * 4, [FLOOR] * 4]


@pytest.mark.parametrize("reader", ["attention", "transformer"])
@pytest.mark.parametrize("by", KINDS)
def test_groups_are_read_by_attention(by: str, reader: str) -> None:
    """Target attention over the groups, which a transformer block may have mixed: each group sees those that exist."""
    branch, history = _branch(by, reader=reader, decay="none"), _history()
    events, queries = _values(history), torch.randn(4, 3, BACKBONE.dim)
    with torch.no_grad():
        answers = branch.attend(UserState(branch.encode(history, events)), ask(queries))
        groups, bias = branch.compress(history, branch.value(events))
        read = branch.reader
        for row in range(4):
            there = bias[row] > FLOOR
            own = groups[row][there]
            if branch.block is not None and there.any():
                pairs = bias[row][there].expand(1, 1, int(there.sum()), -1)
                own = branch.block.tokens(own[None], pairs)[0][0]
            mixed = plain_attend(
                read.to_query(queries[row]), read.to_key(own), read.to_value(own), bias[row][there], read.heads
            )
            torch.testing.assert_close(answers[row], read.merge(mixed), atol=1e-5, rtol=1e-4)


def test_values_fade_by_the_law_that_is_set() -> None:
    days = torch.tensor([[0, 1, 10, 365]])
    laws: dict[str, Callable[[int], float]] = {
        "exponential": lambda d: math.exp(-0.1 * d),
        "power": lambda d: (1 + d) ** -0.1,
        "none": lambda d: 1.0,
    }
    for decay, law in laws.items():
        branch = _branch("patches", decay=decay, decay_rate=0.1)
        left = torch.as_tensor(branch.fade(days * DAY)).expand(1, 4)
        assert left[0].tolist() == pytest.approx([law(int(day)) for day in days[0]], rel=1e-5)
        assert (branch.decay is None) == (decay == "none")

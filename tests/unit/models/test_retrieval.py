"""SIM and ETA: what the search finds, and that the exact unit sees nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from kit import BACKBONE, WITHOUT_ID, ask, make_history, make_items, says
from torch import Tensor

from hisac_lab.models.contract import History, UserState
from hisac_lab.models.retrieval import ETABranch, ETAConfig, SearchBranch, SIMBranch, SIMConfig
from hisac_lab.ops.attention import plain_attend
from hisac_lab.ops.hashing import plain_hamming, sign_bits

SPACE = make_items()
TOP = 3
CANDIDATES = torch.tensor([[4, 9, 17], [30, 3, 41]])


def _sim(search: str, **changes: Any) -> SIMBranch:
    torch.manual_seed(0)
    return SIMBranch(SIMConfig.model_validate({"search": search, "top": TOP} | changes), BACKBONE, SPACE)


def _setting(branch: SearchBranch, lengths: list[int], seed: int = 0) -> tuple[History, Tensor, UserState, Tensor]:
    history = make_history(lengths, seed)
    generator = torch.Generator().manual_seed(seed)
    events = torch.randn(*history.items.shape, BACKBONE.dim, generator=generator)
    with torch.no_grad():
        state = UserState(branch.encode(history, events))
    return history, events, state, torch.randn(2, 3, BACKBONE.dim, generator=generator)


def _found(branch: SearchBranch, state: UserState, queries: Tensor) -> list[list[int]]:
    places, valid = branch.retrieve(state, ask(queries, CANDIDATES))
    return [row[there].tolist() for row, there in zip(places.flatten(0, 1), valid.flatten(0, 1), strict=True)]


@pytest.mark.parametrize("search", ["code", "field"])
def test_hard_search_finds_the_newest_of_the_category(search: str) -> None:
    branch = _sim(search)
    history, _, state, queries = _setting(branch, [30, 12])
    table = SPACE.codebook.item_nodes[:, 0].tolist() if search == "code" else SPACE.fields[:, 0].tolist()
    expected = []
    for row in range(2):
        for candidate in CANDIDATES[row].tolist():
            events = [
                place
                for place in range(30)
                if history.mask[row, place] and table[int(history.items[row, place])] == table[candidate] >= 0
            ]
            expected.append(events[-TOP:])
    assert _found(branch, state, queries) == expected
    assert sum(len(row) for row in expected) > TOP


def test_an_item_without_an_id_has_no_category() -> None:
    """Minus one is no code: items without an ID must not find each other."""
    branch = _sim("code")
    history = make_history([4, 4])
    history.items[:] = torch.tensor(WITHOUT_ID[::1] * 2)
    state = UserState(branch.encode(history, torch.randn(2, 4, BACKBONE.dim)))
    unknown = torch.tensor(WITHOUT_ID).repeat(2, 1)
    _, valid = branch.retrieve(state, ask(torch.randn(2, 2, BACKBONE.dim), unknown))
    assert not valid.any()


@pytest.mark.parametrize("search", ["embedding", "semantic"])
def test_soft_search_finds_the_largest_products(search: str) -> None:
    branch = _sim(search)
    history, events, state, queries = _setting(branch, [9, 2])
    if search == "semantic":
        events, queries = SPACE.semantic[history.items], SPACE.semantic[CANDIDATES]
    expected = []
    for row in range(2):
        real = [place for place in range(9) if history.mask[row, place]]
        for column in range(3):
            products = {place: float(queries[row, column] @ events[row, place]) for place in real}
            expected.append(sorted(sorted(real, key=lambda place: (products[place], place))[-TOP:]))
    assert _found(branch, state, queries) == expected


def test_hamming_search_finds_the_nearest_signatures() -> None:
    branch = ETABranch(ETAConfig(bits=6, top=TOP), BACKBONE, SPACE)
    history, events, state, queries = _setting(branch, [9, 2])
    distance = plain_hamming(sign_bits(queries, branch.planes), sign_bits(events, branch.planes))
    expected = []
    for row in range(2):
        real = [place for place in range(9) if history.mask[row, place]]
        for column in range(3):
            near = sorted(real, key=lambda place: (-int(distance[row, column, place]), place))
            expected.append(sorted(near[-TOP:]))
    assert _found(branch, state, queries) == expected


def test_equal_distances_go_to_the_newest() -> None:
    branch = ETABranch(ETAConfig(top=TOP), BACKBONE, SPACE)
    history = make_history([7, 5])
    state = UserState(branch.encode(history, torch.ones(2, 7, BACKBONE.dim)))
    assert _found(branch, state, torch.randn(2, 3, BACKBONE.dim)) == [[4, 5, 6]] * 6


def test_equal_items_tie_whatever_stands_beside_them() -> None:
    """A product's last bit depends on where its column lies; repeats of an item must still go to the newest."""
    branch = _sim("semantic")
    for length in (5, 18, 33):
        history = make_history([length, length])
        history.items[:] = 11
        state = UserState(branch.encode(history, torch.zeros(2, length, BACKBONE.dim)))
        assert _found(branch, state, torch.zeros(2, 3, BACKBONE.dim)) == [[length - 3, length - 2, length - 1]] * 6


@pytest.mark.parametrize("kind", ["code", "embedding", "eta"])
def test_the_exact_unit_attends_to_chosen_events_alone(kind: str) -> None:
    branch = ETABranch(ETAConfig(top=TOP), BACKBONE, SPACE) if kind == "eta" else _sim(kind)
    _, events, state, queries = _setting(branch, [20, 2])
    candidates = ask(queries, CANDIDATES)
    with torch.no_grad():
        answers = branch.attend(state, candidates)
        places, valid = branch.retrieve(state, candidates)
        heads = branch.attention
        for row in range(2):
            for column in range(3):
                chosen = events[row, places[row, column][valid[row, column]]]
                mixed = plain_attend(
                    heads.to_query(queries[row, column])[None], heads.to_key(chosen), heads.to_value(chosen),
                    torch.zeros(len(chosen)), heads.heads,
                )  # fmt: skip
                torch.testing.assert_close(answers[row, column], heads.merge(mixed)[0], atol=1e-5, rtol=1e-4)


def test_a_field_that_is_not_there_is_refused() -> None:
    with says("settings", "models.*.field", "field 2", "the 2 item fields", "prepare.columns.fields"):
        _sim("field", field=2)


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with says("settings", "models.*.heads", "3 heads", "backbone.dim 8"):
        _sim("code", heads=3)

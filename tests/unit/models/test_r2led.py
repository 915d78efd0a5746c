"""R2LED: scores of both views by loops, the mixes, the gates, and where routes meet."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from kit import BACKBONE, ask, make_history, make_items, says
from torch import Tensor

from hisac_lab.models.catalog import build
from hisac_lab.models.contract import History, UserState
from hisac_lab.models.r2led import R2LEDBranch, R2LEDConfig
from hisac_lab.ops.hashing import plain_hamming, sign_bits

SPACE = make_items()
TOP, RECENT = 4, 3
CANDIDATES = torch.tensor([[4, 9], [30, 17]])  # the last one has no semantic ID
NODES = torch.from_numpy(SPACE.codebook.item_nodes)


def _branch(**changes: Any) -> R2LEDBranch:
    torch.manual_seed(0)
    settings = {"top": TOP, "recent": RECENT, "heads": 2, "collaborative": "events"} | changes
    branch = R2LEDBranch(R2LEDConfig.model_validate(settings), BACKBONE, SPACE)
    for table in branch.tables.parameters():
        torch.nn.init.normal_(table)
    return branch


def _setting(branch: R2LEDBranch) -> tuple[History, Tensor, UserState, Tensor]:
    history = make_history([14, 6], seed=2)
    generator = torch.Generator().manual_seed(1)
    events = torch.randn(2, 14, BACKBONE.dim, generator=generator)
    with torch.no_grad():
        state = UserState(branch.encode(history, events))
    return history, events, state, torch.randn(2, 2, BACKBONE.dim, generator=generator)


def _views(
    branch: R2LEDBranch, route: str, history: History, events: Tensor, row: int, query: Tensor, item: int
) -> tuple[list[float], list[float]]:
    """Both views' scores of every event of a row, as the note writes them."""
    real = [place for place in range(14) if history.mask[row, place]]
    members = {"target": [], "recent": real[-RECENT:], "global": real}[route]
    if members:
        query = events[row, members].mean(dim=0)
    sets = [item] if route == "target" else history.items[row, members].tolist()
    distance = plain_hamming(
        sign_bits(query, branch.planes)[None, None], sign_bits(events[row], branch.planes)[None]
    )[0, 0]  # fmt: skip
    near, same = [], []
    for place in range(14):
        near.append(1 - float(distance[place]) / branch.config.bits)
        score = 0.0
        for level in range(3):
            own = NODES[history.items[row, place], level]
            shared = sum(bool(NODES[other, level] == own) and bool(own >= 0) for other in sets) / len(sets)
            score += 2**level / 7 * shared
        same.append(score)
    return near, same


def _best(scores: list[float], allowed: list[int], count: int) -> list[int]:
    return sorted(sorted(allowed, key=lambda place: (round(scores[place], 5), place))[-count:])


def _expected(mix: str, near: list[float], same: list[float], real: list[int]) -> list[int]:
    if mix == "score":
        return _best([(a + b) / 2 for a, b in zip(near, same, strict=True)], real, TOP)
    if mix == "union":
        first = _best(near, real, TOP // 2)
        return sorted(first + _best(same, [place for place in real if place not in first], TOP - TOP // 2))
    if mix == "cascade":
        return _best(near, _best(same, real, 4 * TOP), TOP)
    return _best({"collaborative": near, "semantic": same, "newest": [0.0] * 14}[mix], real, TOP)


@pytest.mark.parametrize("mix", ["score", "union", "cascade", "collaborative", "semantic", "newest"])
def test_mixes_of_the_views(mix: str) -> None:
    branch = _branch(mix=mix)
    history, events, state, queries = _setting(branch)
    found = branch.find(state, ask(queries, CANDIDATES))
    for (places, valid), route in zip(found, branch.config.routes, strict=True):
        for row in range(2):
            real = [place for place in range(14) if history.mask[row, place]]
            for column in range(places.shape[1]):
                item = int(CANDIDATES[row, column])
                views = _views(branch, route, history, events, row, queries[row, column], item)
                assert places[row, column][valid[row, column]].tolist() == _expected(mix, *views, real), (route, row)


def test_the_collaborative_view_knows_ids_alone() -> None:
    """Signatures are those of the item table; what events otherwise hold changes none of them."""
    branch = _branch(collaborative="ids", mix="collaborative")
    table = torch.nn.Embedding(SPACE.semantic.shape[0], BACKBONE.dim)
    branch.id_vectors = table.forward
    history, events, state, queries = _setting(branch)
    with torch.no_grad():
        other = UserState(branch.encode(history, torch.randn_like(events)))
        ids = table(history.items)
    assert torch.equal(state["long_key"], other["long_key"])
    places, valid = branch.find(state, ask(queries, CANDIDATES))[0]
    for row in range(2):
        real = [place for place in range(14) if history.mask[row, place]]
        for column in range(2):
            near = _views(branch, "target", history, ids, row, table(CANDIDATES[row, column]).detach(), 0)[0]
            assert places[row, column][valid[row, column]].tolist() == _best(near, real, TOP)


def test_a_user_without_history_is_told_the_candidates_id() -> None:
    """Redrawing the tables of IDs moves scores without a history, where the tower sees the candidate's own ID."""
    for target_id in (True, False):
        config = R2LEDConfig(top=TOP, recent=RECENT, heads=2, target_id=target_id)
        model = build(config, BACKBONE, SPACE, seed=0).eval()
        history = make_history([0])
        assert isinstance(model.long, R2LEDBranch)
        with torch.no_grad():
            before = model(history, CANDIDATES[1:])
            for table in model.long.tables.parameters():
                torch.nn.init.normal_(table)
            after = model(history, CANDIDATES[1:])
        assert ((after - before).abs().max() > 1e-4).item() is target_id


def test_views_score_as_in_the_note() -> None:
    """The semantic view counts prefixes: events that agree below but not above share nothing."""
    branch = _branch()
    nodes = torch.tensor([[[0, 0, 0], [0, 0, 1], [0, 1, 2], [1, 5, 9], [-1, -1, -1]]])
    wanted = torch.tensor([[[0, 0, 0], [-1, -1, -1]]])
    same = branch._same(wanted, nodes)
    torch.testing.assert_close(same[0, 0], torch.tensor([7, 3, 1, 0, 0]) / 7)
    assert not same[0, 1].any()
    mask = torch.ones(1, 5, dtype=torch.bool)
    share = branch._shares(nodes, mask, torch.tensor([[True, True, False, False, False]]))
    torch.testing.assert_close(share[0], torch.tensor([1 + 2 + 4 / 2, 1 + 2 + 4 / 2, 1, 0, 0]) / 7)


@pytest.mark.parametrize("routes", [("target",), ("recent",), ("global", "target"), ("target", "recent", "global")])
def test_each_route_searches_for_itself(routes: tuple[str, ...]) -> None:
    branch, whole = _branch(routes=routes), _branch()
    _, _, state, queries = _setting(branch)
    _, _, every, _ = _setting(whole)
    candidates = ask(queries, CANDIDATES)
    reference: dict[str, tuple[Tensor, Tensor]] = dict(
        zip(whole.config.routes, whole.find(every, candidates), strict=True)
    )
    for route, (places, valid) in zip(routes, branch.find(state, candidates), strict=True):
        assert torch.equal(places, reference[route][0])
        assert torch.equal(valid, reference[route][1])
    with torch.no_grad():
        assert branch.attend(state, candidates).shape == queries.shape


def test_the_random_control_knows_neither_view_nor_padding() -> None:
    branch = _branch(mix="random")
    _, _, state, queries = _setting(branch)
    places = branch.retrieve(state, ask(queries, CANDIDATES))[0]
    assert (places[0] == places[0, 0]).all()
    assert places[0, 0].tolist() != list(range(14 - TOP, 14))
    other = _branch(mix="random", seed=5).retrieve(state, ask(queries, CANDIDATES))[0]
    assert not torch.equal(places, other)


def test_the_gate_weighs_levels() -> None:
    branch, plain = _branch(), _branch(level_gate=False)
    vectors, queries = torch.randn(5, BACKBONE.dim), torch.randn(5, BACKBONE.dim)
    nodes = NODES[torch.tensor([4, 9, 30, 41, 3])].int()
    with torch.no_grad():
        levels = torch.stack([table(nodes[:, level].long() + 1) for level, table in enumerate(branch.tables)])
        assert branch.gate_event is not None
        assert branch.gate_query is not None
        gates = torch.softmax(branch.gate_event(vectors) + branch.gate_query(queries), dim=-1)
        expected = sum((gates[:, level, None] * levels[level] for level in range(3)), torch.zeros(()))
        torch.testing.assert_close(branch.semantic(vectors, nodes, queries), expected)
        other = branch.semantic(vectors, nodes, queries.flip(0))
        assert not torch.allclose(other, expected)  # the candidate decides
        mean = torch.stack([table(nodes[:, level].long() + 1) for level, table in enumerate(plain.tables)])
        torch.testing.assert_close(plain.semantic(vectors, nodes, queries), mean.mean(dim=0))


def test_a_prefix_has_a_vector_of_its_own() -> None:
    branch = _branch()
    sizes = [len(parents) + 1 for parents in SPACE.codebook.parents]
    assert [len(table) for table in branch.tables.parameters()] == sizes
    assert [len(table) for table in _branch(depth=2).tables.parameters()] == sizes[:2]


def test_a_code_has_a_vector_wherever_it_stands() -> None:
    """Two leaves of equal last code share its row, whatever stands above them."""
    branch = _branch(tables="code", level_gate=False)
    codes = SPACE.codebook.codes
    assert [len(table) for table in branch.tables.parameters()] == [int(level.max()) + 2 for level in codes]
    last = codes[-1]
    one, other = next((a, b) for a in range(len(last)) for b in range(a + 1, len(last)) if last[a] == last[b])
    with torch.no_grad():
        upper, above, lowest = branch.tables.parameters()
        for table in (upper, above):
            table.zero_()
        nodes = torch.tensor([[0, 0, one], [0, 0, other], [-1, -1, -1]])
        levels = branch.semantic(torch.randn(3, BACKBONE.dim), nodes, torch.randn(3, BACKBONE.dim)) * 3
        torch.testing.assert_close(levels[0], lowest[int(last[one]) + 1])
        torch.testing.assert_close(levels[1], levels[0])
        torch.testing.assert_close(levels[2], lowest[0])


@pytest.mark.parametrize("fuse", ["views", "items"])
@pytest.mark.parametrize("fusion", ["attention", "concat", "mean"])
def test_routes_meet_in_attention(fuse: str, fusion: str) -> None:
    """The refinement written out, from the places that were found."""
    branch = _branch(fuse=fuse, fusion=fusion)
    _, events, state, e_v = _setting(branch)
    candidates = ask(e_v, CANDIDATES)
    with torch.no_grad():
        s_v = branch.semantic(e_v, branch.item_nodes[CANDIDATES], e_v)
        f_v = e_v if branch.bridge is None else e_v + branch.bridge(s_v)
        answers, number = [], 0
        for places, valid in branch.find(state, candidates):
            places, there = places.expand(-1, 2, -1), valid.expand(-1, 2, -1)
            x = torch.stack([events[row][places[row]] for row in range(2)])
            nodes = torch.stack([state["long_nodes"][row][places[row]] for row in range(2)])
            s = branch.semantic(x, nodes, e_v[:, :, None].expand_as(x))
            if fuse == "items":
                assert branch.view_gate is not None
                assert branch.bridge is not None
                z = torch.sigmoid(branch.view_gate(torch.cat([x, s], dim=-1)))
                answers.append(branch.attentions[number](f_v, z * x + (1 - z) * branch.bridge(s), there))
                number += 1
            else:
                answers += [branch.attentions[number](e_v, x, there), branch.attentions[number + 1](s_v, s, there)]
                number += 2
        stacked = torch.stack(answers, dim=2)
        if fusion == "attention":
            every = torch.ones(stacked.shape[:3], dtype=torch.bool)
            expected = branch.fusion(f_v, stacked + branch.origin, every)
        else:
            expected = stacked.mean(dim=2) if fusion == "mean" else branch.concat(stacked.flatten(2))
        torch.testing.assert_close(branch.attend(state, candidates), expected, atol=1e-5, rtol=1e-4)


def test_the_shuffled_control_searches_with_other_ids() -> None:
    own, shuffled = _branch(mix="semantic"), _branch(mix="semantic", ids="shuffled", seed=1)
    assert not torch.equal(own.item_nodes, shuffled.item_nodes)
    assert sorted(own.item_nodes.tolist()) == sorted(shuffled.item_nodes.tolist())
    _, _, state, queries = _setting(own)
    _, _, other, _ = _setting(shuffled)
    candidates = ask(queries, CANDIDATES)
    assert not torch.equal(own.retrieve(state, candidates)[0], shuffled.retrieve(other, candidates)[0])


def test_a_depth_beyond_the_codebook_is_refused() -> None:
    with says("settings", "models.*.depth", "4 levels", "the 3 of the codebook"):
        _branch(depth=4)

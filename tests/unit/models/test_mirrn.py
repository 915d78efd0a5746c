"""MIRRN: three searches, the filter's whole block, places from the newest event."""

from __future__ import annotations

import dataclasses
import math

import torch
from kit import BACKBONE, ask, asked, lively, make_history, make_items, padded
from torch import Tensor

from hisac_lab.models.contract import UserState
from hisac_lab.models.mirrn import FourierFilter, MIRRNBranch, MIRRNConfig
from hisac_lab.ops.hashing import plain_hamming, sign_bits

TOP, RECENT = 3, 4
SPACE = make_items()


def _branch() -> MIRRNBranch:
    torch.manual_seed(0)
    return MIRRNBranch(MIRRNConfig(top=TOP, recent=RECENT, heads=2), BACKBONE, SPACE)


def _nearest(branch: MIRRNBranch, query: Tensor, events: Tensor, mask: Tensor) -> list[int]:
    distance = plain_hamming(
        sign_bits(query, branch.planes)[None, None], sign_bits(events, branch.planes)[None]
    )[0, 0]  # fmt: skip
    real = [place for place in range(len(events)) if mask[place]]
    return sorted(sorted(real, key=lambda place: (-int(distance[place]), place))[-TOP:])


def test_three_queries_search_for_themselves() -> None:
    branch, history = _branch(), make_history([15, 9])
    events, queries = torch.randn(2, 15, BACKBONE.dim), torch.randn(2, 2, BACKBONE.dim)
    with torch.no_grad():
        state = UserState(branch.encode(history, events))
    places, valid = branch.retrieve(state, ask(queries))
    assert valid.all()
    different = set()
    for row in range(2):
        real = history.mask[row]
        recent, overall = events[row][real][-RECENT:].mean(dim=0), events[row][real].mean(dim=0)
        for column, query in enumerate([*queries[row], recent, overall]):
            assert places[row, column].tolist() == _nearest(branch, query, events[row], real)
            different.add(tuple(places[row, column].tolist()))
    assert len(different) >= 6


def test_the_filter_uses_the_whole_block() -> None:
    """Against a discrete Fourier transform written out; a weight's entry off the diagonal must matter."""
    torch.manual_seed(0)
    filtering = FourierFilter(8, 2)
    x = torch.randn(5, 8)
    with torch.no_grad():
        found = filtering(x)
        weight = torch.view_as_complex(filtering.weight)
        turns = torch.arange(5)[:, None] * torch.arange(5) / 5
        spectrum = torch.polar(torch.ones(5, 5), -2 * math.pi * turns) @ x.to(torch.complex64)  # all five frequencies
        mixed = torch.zeros_like(spectrum)
        for frequency in range(3):  # those a real signal is determined by; the others are their conjugates
            for block in range(2):
                part = slice(4 * block, 4 * block + 4)
                mixed[frequency, part] = spectrum[frequency, part] @ weight[block]
        mixed[4], mixed[3] = mixed[1].conj(), mixed[2].conj()
        mixed[0] = mixed[0].real.to(torch.complex64)
        back = (torch.polar(torch.ones(5, 5), 2 * math.pi * turns) @ mixed).real / 5
        torch.testing.assert_close(found, x + back, atol=1e-5, rtol=1e-4)
        filtering.weight[0, 1, 2] += 1.0
        assert not torch.allclose(filtering(x), found)


def test_the_filter_is_normalized_with_its_input() -> None:
    """Layer normalization by its definition, of what the bare filter gives; dropout in training alone."""
    torch.manual_seed(0)
    bare, normed = FourierFilter(8, 2), FourierFilter(8, 2, norm=True)
    normed.weight = bare.weight
    x = torch.randn(3, 5, 8)
    with torch.no_grad():
        plain = bare(x)
        centered = plain - plain.mean(dim=-1, keepdim=True)
        expected = centered / (centered.square().mean(dim=-1, keepdim=True) + 1e-5) ** 0.5
        torch.testing.assert_close(normed.eval()(x), expected, atol=1e-5, rtol=1e-4)
        assert not torch.allclose(normed.train()(x), expected, atol=1e-3)


def test_places_are_counted_from_the_newest_event() -> None:
    """The same events, one place further from now: other answers; more padding in front of them: the same."""
    model = lively("mirrn", SPACE)
    history = make_history([9])
    candidates = torch.arange(5)[None]
    torch.testing.assert_close(model(padded(history, 5), candidates), model(history, candidates), atol=1e-5, rtol=1e-5)
    level = dataclasses.replace(history, ages=torch.ones_like(history.ages))
    swapped = dataclasses.replace(level, items=level.items.clone(), feedback=level.feedback.clone())
    for part in (swapped.items, swapped.feedback):
        part[0, :2] = part[0, :2].flip(0)
    branch = model.long
    assert isinstance(branch, MIRRNBranch)
    state, other = model.encode(level), model.encode(swapped)
    one, two = (branch.attend(s, asked(model, state, candidates)) for s in (state, other))
    torch.testing.assert_close(one, two, atol=0.02, rtol=0.02)  # places are a small part of an event
    assert branch.place.weight.grad is None
    one.sum().backward()
    after = branch.place.weight.grad
    assert after is not None
    used = after.abs().sum(dim=1) > 0
    assert used.nonzero().max() <= int(math.log2(9))


def test_an_answer_without_events_is_silent() -> None:
    branch, history = _branch(), make_history([0, 4])
    with torch.no_grad():
        state = UserState(branch.encode(history, torch.randn(2, 4, BACKBONE.dim)))
        answers = branch.attend(state, ask(torch.randn(2, 3, BACKBONE.dim)))
    torch.testing.assert_close(answers[0], branch.fuse.merge.bias.expand(3, -1))
    assert not torch.allclose(answers[1, 0], answers[1, 1])

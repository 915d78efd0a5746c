"""SDIM: buckets against loops over events."""

from __future__ import annotations

import pytest
import torch
from kit import BACKBONE, ask, make_history, make_items
from torch import Tensor

from hisac_lab.models.contract import UserState
from hisac_lab.models.sdim import SDIMBranch, SDIMConfig
from hisac_lab.ops.hashing import sign_bits

GROUPS, BITS = 4, 2


def _branch(normalize: bool) -> SDIMBranch:
    return SDIMBranch(SDIMConfig(groups=GROUPS, bits=BITS, normalize=normalize), BACKBONE, make_items())


def _sums(branch: SDIMBranch, events: Tensor, mask: Tensor, query: Tensor) -> list[Tensor]:
    """Per group the sum of the events whose bits there are the query's."""
    own, theirs = sign_bits(query, branch.planes), sign_bits(events, branch.planes)
    found = []
    for group in range(GROUPS):
        part = slice(group * BITS, (group + 1) * BITS)
        total = torch.zeros(BACKBONE.dim)
        for place in range(len(events)):
            if mask[place] and torch.equal(own[part], theirs[place, part]):
                total = total + events[place]
        found.append(total)
    return found


@pytest.mark.parametrize("normalize", [False, True])
def test_a_bucket_holds_the_colliding_events(normalize: bool) -> None:
    branch, history = _branch(normalize), make_history([12, 3, 0])
    events, queries = torch.randn(3, 12, BACKBONE.dim), torch.randn(3, 5, BACKBONE.dim)
    answers = branch.attend(UserState(branch.encode(history, events)), ask(queries))
    for row in range(3):
        for column in range(5):
            sums = _sums(branch, events[row], history.mask[row], queries[row, column])
            if normalize:
                sums = [one / one.norm().clamp(min=1e-12) for one in sums]
            torch.testing.assert_close(answers[row, column], torch.stack(sums).mean(dim=0), atol=1e-5, rtol=1e-4)


def test_groups_are_unit_length_and_averaged() -> None:
    """One event, met in some groups and not in others: the answer's length is the share of groups it is met in."""
    branch, history = _branch(normalize=True), make_history([1])
    event = torch.randn(1, 1, BACKBONE.dim) * 7
    state = UserState(branch.encode(history, event))
    queries = torch.cat([event, -event, torch.randn(1, 6, BACKBONE.dim)], dim=1)
    lengths = branch.attend(state, ask(queries)).norm(dim=-1)[0]
    shares = (branch.buckets(queries) == branch.buckets(event)).float().mean(dim=-1)[0]
    torch.testing.assert_close(lengths, shares)
    assert shares[0] == 1
    assert shares[1] == 0


def test_hash_tables_do_not_grow_with_the_history() -> None:
    branch = _branch(normalize=True)
    sizes = {
        branch.encode(make_history([length]), torch.randn(1, length, BACKBONE.dim))["tables"].shape
        for length in (3, 70)
    }
    assert sizes == {(1, GROUPS, 1 << BITS, BACKBONE.dim)}

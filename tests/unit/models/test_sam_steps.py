"""SAM's passes read events one after the other: what needs n of them is found by n passes and not by fewer."""

from __future__ import annotations

import pytest
import torch
from kit import make_items
from torch import Tensor, nn

from hisac_lab.config.model import BackboneConfig
from hisac_lab.models.contract import UserState
from hisac_lab.models.sam import DualQueryAttention, SAMBranch, SAMConfig

DIM = 8
LIKED = DIM - 1
"""The coordinate that a click on a liked subtopic has; the others are the subtopics."""


def _branch(passes: int, memory: str = "iterating") -> SAMBranch:
    config = SAMConfig.model_validate({"passes": passes, "memory": memory, "positions": 8})
    return SAMBranch(config, BackboneConfig(dim=DIM), make_items()).eval()


@torch.no_grad()
def _constructed(passes: int, memory: str = "iterating") -> SAMBranch:
    """Every pass opens on events that share a subtopic with its query; the memory keeps what the last pass found."""
    branch = _branch(passes, memory)
    for unit in branch.passes:
        assert isinstance(unit, DualQueryAttention)
        unit.weight.zero_()
        unit.weight[3, :, :LIKED] = 40.0  # query * event
        unit.bias.fill_(-20.0)
        unit.out.fill_(40.0 / len(unit.out))
        unit.out_bias.fill_(-20.0)
    cell = branch.memory
    assert cell is not None
    for weights in cell.parameters():
        weights.zero_()
    cell.weight_ih[2 * DIM :] = 20 * torch.eye(DIM)
    cell.bias_ih[DIM : 2 * DIM] = -40.0  # nothing of the memory before
    return branch


def _event(*places: int) -> Tensor:
    return nn.functional.one_hot(torch.tensor(places), DIM).sum(dim=0).float()


def _read(branch: SAMBranch, events: list[Tensor]) -> tuple[Tensor, Tensor]:
    """The last memory of candidate 0, and the sum that the last pass reads."""
    state = UserState(
        {"long_events": torch.stack(events)[None], "long_mask": torch.ones(1, len(events), dtype=torch.bool)}
    )
    gates, memories = branch.read(state, _event(0)[None, None])
    return memories[-1][0, 0], gates[-1][0, 0] @ torch.stack(events)


def _history(steps: int, liked: bool) -> list[Tensor]:
    """Guides from subtopic 0 to 1, 1 to 2 and so on, `steps` events with the click on the last or on another one."""
    guides = [_event(place, place + 1) for place in range(steps - 1)]
    return [*guides, _event(5, 6), _event(steps - 1 if liked else 6, LIKED)]


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("passes", [1, 2, 3])
def test_a_chain_of_events_needs_as_many_passes(steps: int, passes: int) -> None:
    found = [_read(_constructed(passes), _history(steps, liked))[0][LIKED].item() for liked in (True, False)]
    assert found[1] == pytest.approx(0, abs=1e-3)
    assert found[0] == pytest.approx(float(passes >= steps), abs=1e-3)


def test_passes_that_all_ask_with_the_candidate_take_one_step() -> None:
    """The released code's reading: the guide is found three times, and never what it names."""
    for liked in (True, False):
        memory, _ = _read(_constructed(3, "fixed"), _history(2, liked))
        assert memory[LIKED].item() == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize(
    ("passes", "memory", "additive"), [(1, "iterating", True), (3, "fixed", True), (2, "iterating", False)]
)
def test_what_asks_with_the_candidate_alone_cannot_pair_events(passes: int, memory: str, additive: bool) -> None:
    """Whatever the weights: its sums over four histories, by guide and by click, add up alike on both diagonals."""
    for seed in range(5):
        torch.manual_seed(seed)
        branch = _branch(passes, memory)
        for unit in branch.passes:
            assert isinstance(unit, DualQueryAttention)
            nn.init.normal_(unit.weight)
            nn.init.zeros_(unit.out_bias)
        sums = [_read(branch, [_event(0, guide), _event(click, LIKED)])[1] for guide in (1, 2) for click in (1, 2)]
        gap = (sums[0] + sums[3] - sums[1] - sums[2]).abs().max().item()
        assert (gap < 1e-5) == additive

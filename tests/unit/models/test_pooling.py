"""Mean pooling: the mean of what is there, the same for every candidate."""

from __future__ import annotations

import torch
from kit import BACKBONE, ask, make_history, make_items

from hisac_lab.models.contract import UserState
from hisac_lab.models.pooling import MeanBranch, MeanConfig


def test_the_mean_is_that_of_real_events() -> None:
    branch, history = MeanBranch(MeanConfig(), BACKBONE, make_items()), make_history([5, 2, 0])
    events = torch.randn(3, 5, BACKBONE.dim)
    mean = branch.encode(history, events)["mean"]
    torch.testing.assert_close(mean[0], events[0].mean(dim=0))
    torch.testing.assert_close(mean[1], events[1, 3:].mean(dim=0))
    assert not mean[2].any()


def test_pooling_answers_every_candidate_alike() -> None:
    branch, history = MeanBranch(MeanConfig(), BACKBONE, make_items()), make_history([5])
    state = UserState(branch.encode(history, torch.randn(1, 5, BACKBONE.dim)))
    answers = branch.attend(state, ask(torch.randn(1, 3, BACKBONE.dim)))
    assert torch.equal(answers, state["mean"][:, None].expand(1, 3, -1))

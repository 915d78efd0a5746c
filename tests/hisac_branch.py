"""A small HiSAC branch in the paper's reading, and histories of all lengths to ask it about."""

from __future__ import annotations

from typing import Any

import torch
from kit import BACKBONE, WITHOUT_ID, make_history, make_items

from hisac_lab.models.contract import History
from hisac_lab.models.hisac import PAPER, HiSACBranch, HiSACConfig

SPACE = make_items()
LENGTHS = [12, 1, 7, 0, 12]


def make_branch(**changes: Any) -> HiSACBranch:
    """Six agents on two levels that all events vote for, and what differs from that."""
    torch.manual_seed(0)
    settings = PAPER.model_dump() | {"agents": 6, "depth": 2, "votes_from": "all"} | changes
    return HiSACBranch(HiSACConfig.model_validate(settings), BACKBONE, SPACE)


def some_histories() -> History:
    """Five histories; two events have no semantic ID."""
    history = make_history(LENGTHS)
    history.items[0, 5], history.items[2, -1] = WITHOUT_ID
    return history

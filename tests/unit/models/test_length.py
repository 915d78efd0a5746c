"""The length of the sequence that a long branch reads: `length` of every model that reads events."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from kit import BACKBONE, EVERY, ITEMS, as_backbone, make_history, make_items

from hisac_lab.config.model import SequenceConfig
from hisac_lab.models.backbone import Ranker
from hisac_lab.models.catalog import build
from hisac_lab.models.din import DINConfig
from hisac_lab.models.hisac import HiSACConfig
from hisac_lab.models.path_votes import VotesConfig
from hisac_lab.testing import samples

SPACE = make_items()
SEQUENCES = [
    name
    for name, config in EVERY.items()
    if isinstance(config, SequenceConfig) and build(config, BACKBONE, SPACE, 0).long is not None
]
HISTORY = make_history([14, 3, 0, 7, 1])
CANDIDATES = torch.randint(0, ITEMS, (5, 6), generator=torch.Generator().manual_seed(5))


def _lively(name: str, length: int | None) -> Ranker:
    return samples.lively(EVERY[name].model_copy(update={"length": length}), SPACE)


@pytest.mark.parametrize("name", SEQUENCES)
def test_a_length_lets_the_newest_events_alone_through(name: str) -> None:
    """The state is that of the cut history, but for what every model is told: the window, and how many events."""
    whole, cut = _lively(name, None), _lively(name, 6)
    expected = whole.encode(HISTORY.last(6)).tensors
    for key, part in cut.encode(HISTORY).tensors.items():
        if key != "context":
            torch.testing.assert_close(part, expected[key], atol=1e-5, rtol=1e-5)
    assert torch.equal(cut.encode(HISTORY)["context"], whole.encode(HISTORY)["context"])
    assert not torch.equal(cut(HISTORY, CANDIDATES)[0], whole(HISTORY, CANDIDATES)[0])
    assert torch.equal(_lively(name, 14)(HISTORY, CANDIDATES), whole(HISTORY, CANDIDATES))
    beforehand = dataclasses.replace(HISTORY, agents=cut.agents(HISTORY))
    assert torch.equal(cut(beforehand, CANDIDATES), cut(HISTORY, CANDIDATES))


@pytest.mark.parametrize("name", SEQUENCES)
@pytest.mark.parametrize("grad", [True, False])
def test_a_length_below_the_window_leaves_the_short_branch_its_window(name: str, grad: bool) -> None:
    whole, brief = _lively(name, None), _lively(name, 2)
    with torch.set_grad_enabled(grad):
        window = brief.encode(HISTORY)["short_events"]
        assert window.shape[1] == BACKBONE.short_window
        torch.testing.assert_close(window, whole.encode(HISTORY)["short_events"])
        older = torch.where(torch.arange(14) < 9, (HISTORY.items + 1) % ITEMS, HISTORY.items)
        changed = dataclasses.replace(HISTORY, items=older)
        torch.testing.assert_close(brief(changed, CANDIDATES), brief(HISTORY, CANDIDATES), atol=1e-5, rtol=1e-5)


def test_features_are_standardized_by_what_the_branch_is_shown() -> None:
    model = _lively("votes-straight-into-the-tower", 6)
    branch = as_backbone(model).long
    assert branch is not None
    assert torch.equal(branch.shown(HISTORY).items, HISTORY.items[:, -6:])


def test_a_length_that_nothing_reads_is_refused() -> None:
    with pytest.raises(ValueError, match="no long branch"):
        DINConfig(whole_history=False, length=50)
    with pytest.raises(ValueError, match="beside counts"):
        HiSACConfig(counts=VotesConfig(length=50))

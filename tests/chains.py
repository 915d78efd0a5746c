"""A planted task for SAM: whether the end of a candidate's chain of events was clicked.

A history has two chains of distinct subjects and one click, on the last subject of one of them. A guide joins two
neighbors of a chain; an event is the sum of its two subjects, a click that of a subject and a mark of its own. All
subjects are candidates, and the label says whether the chain of the candidate ends in the click. Both chains look alike
but for what follows one event after another: a sum in which each event is weighed by itself says little of a chain of
two guides. Users are fresh at every step.
"""

from __future__ import annotations

import torch
from kit import ask, make_items
from torch import Tensor, nn

from hisac_lab.config.model import BackboneConfig
from hisac_lab.models.contract import UserState
from hisac_lab.models.sam import SAMBranch, SAMConfig
from hisac_lab.ops.auc import auc

SUBJECTS = 12
DIM = SUBJECTS + 1
USERS, RATE, FALLS_TO, LARGEST_STEP = 64, 0.012, 0.1, 1.0


def users(count: int, guides: int, random: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Histories (R, L, D), candidates (R, 2, guides + 1, D) from the start of each chain, labels (R, 2)."""
    each = guides + 1
    order = torch.rand(count, SUBJECTS, generator=random).argsort(dim=1, stable=True)[:, : 2 * each]
    hot = nn.functional.one_hot(order, DIM).float().view(count, 2, each, DIM)
    clicked = torch.randint(0, 2, (count,), generator=random)
    mark = nn.functional.one_hot(torch.tensor(SUBJECTS), DIM)
    click = hot[torch.arange(count), clicked, -1] + mark
    events = torch.cat([(hot[:, :, :-1] + hot[:, :, 1:]).flatten(1, 2), click[:, None]], dim=1)
    return events, hot, nn.functional.one_hot(clicked, 2).float()


class Clicked(nn.Module):
    """SAM without features of places, and a network of one hidden layer on its output and the candidate."""

    def __init__(self, config: SAMConfig) -> None:
        super().__init__()
        self.branch = SAMBranch(config, BackboneConfig(dim=DIM), make_items())
        self.tower = nn.Sequential(nn.Linear(self.branch.extra_width + DIM, 48), nn.ReLU(), nn.Linear(48, 1))

    def forward(self, events: Tensor, candidates: Tensor) -> Tensor:
        """Logits, (R, 2, guides + 1)."""
        v = candidates.flatten(1, 2)
        state = UserState({"long_events": events, "long_mask": torch.ones(events.shape[:2], dtype=torch.bool)})
        found = torch.cat([self.branch.extra(state, ask(v)), v], dim=-1)
        logits: Tensor = self.tower(found).view(candidates.shape[:3])
        return logits


def trained_auc(guides: int, passes: int, steps: int, memory: str = "iterating") -> list[float]:
    """AUC on new users of candidates so many guides away from the click: 0, 1, ..., `guides`; one seed."""
    settings = {"passes": passes, "memory": memory, "weight_features": 0, "norm": "none", "into": "tower"}
    torch.manual_seed(0)
    model = Clicked(SAMConfig.model_validate(settings))
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, fused=True)
    random = torch.Generator().manual_seed(1)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = RATE * (1 - (1 - FALLS_TO) * step / steps)
        events, candidates, labels = users(USERS, guides, random)
        logits = model(events, candidates)
        wanted = labels[..., None].expand_as(logits)
        loss = nn.functional.binary_cross_entropy_with_logits(logits, wanted)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), LARGEST_STEP)
        optimizer.step()
    events, candidates, labels = users(1500, guides, torch.Generator().manual_seed(2))
    with torch.no_grad():
        logits = model(events, candidates)
    far = range(guides, -1, -1)
    return [float(auc(labels.flatten().numpy(), logits[..., place].flatten().numpy())) for place in far]

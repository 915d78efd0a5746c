"""Who may ship: each model's gates, its part in the run, and which one is put forward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hisac_lab.ops.choice import highest
from hisac_lab.registry.gates import Gate, check_gates
from hisac_lab.report.facts import Facts
from hisac_lab.report.words import excludes_zero, is_sure

CHAMPION = "champion"


@dataclass(frozen=True)
class Standing:
    """One model in front of the gates.

    Attributes:
        name: Of the model.
        gates: What each gate says; empty before the stage `register` has run.
        part: champion: it is in production; challenger: put forward, of the best validation AUC; control: it is not
            meant to ship; contender: any other.
    """

    name: str
    gates: tuple[Gate, ...]
    part: Literal["champion", "challenger", "control", "contender"]

    @property
    def failed(self) -> list[Gate]:
        """Gates that do not hold."""
        return [gate for gate in self.gates if not gate.holds]

    @property
    def may_ship(self) -> bool:
        """Whether it was asked, every gate holds, and it is meant to ship."""
        return bool(self.gates) and not self.failed and self.part in ("challenger", "contender")


def standings(facts: Facts) -> list[Standing]:
    """Every model, in the order of the settings."""
    evidence = facts.evidence
    champion = next((evidence.get(name) for name in facts.scores.models if _is_champion(facts, name)), None)
    forward = {name: found for name, found in evidence.items() if found.may_challenge and not _is_champion(facts, name)}
    best = highest(forward, lambda name: forward[name].valid_auc, str) if forward else None
    return [
        Standing(
            name,
            tuple(check_gates(evidence[name], champion, facts.promotion)) if name in evidence else (),
            "champion"
            if _is_champion(facts, name)
            else "challenger"
            if name == best
            else "contender"
            if name in forward or not evidence
            else "control",
        )
        for name in facts.scores.models
    ]


def rival(facts: Facts) -> str:
    """What the gates compare with: the champion where it is on the board, else popularity."""
    return CHAMPION if any(_is_champion(facts, name) for name in facts.scores.models) else "popularity"


def contenders(facts: Facts) -> list[str]:
    """Models that the question is about, in the order of the settings: no reference, control or champion."""
    rivals, reference = set(facts.rivals), facts.evaluated.reference
    return [
        name for name in facts.scores.models if name in rivals and name != reference and not _is_champion(facts, name)
    ]


def sure(facts: Facts, name: str) -> bool:
    """Whether a model's AUC surely differs from the reference's: by its corrected p-value, else by its interval."""
    metric = facts.scores.models[name].auc
    gap = facts.gaps.get((name, facts.evaluated.reference))
    if gap is None:
        return excludes_zero(metric.difference_interval)
    return is_sure(*gap, 1 - facts.evaluated.confidence)


def _is_champion(facts: Facts, name: str) -> bool:
    return bool(facts.scores.models[name].settings.get("kind") == CHAMPION)

"""Kinds of evidence: what each may say, and whether a fitted world and the instrument have the right to judge."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hisac_lab.abtest.hindsight import World
from hisac_lab.abtest.likeness import apart
from hisac_lab.abtest.records import AA, SAMPLE_RATIO, Check, Draw, Hindsight, Instrument
from hisac_lab.abtest.statistics import BROKEN, least
from hisac_lab.base.artifacts import Array
from hisac_lab.config.abtest import ABTestConfig, EvidenceKind, Family
from hisac_lab.evaluation.metrics import calibration, gauc
from hisac_lab.evaluation.records import Scores
from hisac_lab.ops.auc import auc
from hisac_lab.ops.choice import rounded

CAVEATS: dict[EvidenceKind, str] = {
    "truth": (
        "These lifts are true in the simulated world, up to the draw of users, pools and trained seeds: clicks have "
        "its own probabilities. They cannot show what real people do, nor how tastes change with what is shown: each "
        "user is asked at one moment."
    ),
    "replay": (
        "These lifts are those of clicks on logged exposures, weighted by how much more often a policy would have "
        "shown them. They hold for single items chosen from pools of items that the log could show. They "
        "cannot show what items do to each other on one slate, what comes of a policy in the long run, nor anything "
        "of items and users that the logging policy never brought together."
    ),
    "fitted": (
        "These lifts are those of worlds fitted with hindsight on logged exposures. They judge only models that they "
        "know more than, on exposures that they did not see. They cannot show how real people react to slates that no "
        "logging policy showed them, what they like that no factor and no count tells, nor how tastes change with "
        "what is shown."
    ),
}
SUPPORTED = 0.9
"""Share of the pools' items that the world has to know from exposures."""
CALIBRATED = 0.05
"""Expected calibration error that a world may have."""
STATISTICS = {
    "users": "the shares that users click",
    "sequence": "the shares of users' consecutive clicks with a code in common",
}


def looked_at(slate: int) -> Array:
    """Chance that each place is looked at, where the log does not tell: 1 / log2(place + 2), as NDCG weighs it."""
    chance: Array = 1 / np.log2(np.arange(slate) + 2)
    return chance


def refits_of(family: Family, config: ABTestConfig) -> int:
    """How many fits on resampled users say what a world's own luck adds to the error."""
    return config.world_refits if family == "factors" else config.world_tree_refits


def supports(share: float) -> Check:
    """Whether worlds know the pools, by the share of their items with exposures enough."""
    says = f"the log knows {share:.1%} of the pools' items from exposures, {SUPPORTED:.0%} are needed"
    return Check(name="support", holds=rounded(share) >= SUPPORTED, says=says)


def right_to_judge(
    world: World, nodes: Array, scores: Scores, config: ABTestConfig
) -> tuple[tuple[Check, ...], Hindsight]:
    """Whether a fitted world knows more than every model, on the same test exposures, and clicks as people do.

    Args:
        world: With logits of the test exposures by fits that did not see them.
        nodes: Code of each item at each level of its semantic ID, -1 without one; (items, L).
        scores: Of the models.
        config: The section `abtest`.
    """
    exposures = world.exposures
    label, who = exposures.label[exposures.judged], exposures.who[exposures.judged]
    users = np.unique(who, return_inverse=True)[1]
    count = int(users.max()) + 1
    inside = float(gauc(label, world.judged, users, count).mean(np.ones((1, count)))[0])
    error = calibration(label, world.judged).error
    code = nodes[exposures.item[exposures.judged], 0] if nodes.shape[1] else None
    gaps = apart(label, 1 / (1 + np.exp(-world.judged)), users, code, config.seed)
    facts = Hindsight(
        family=world.family,
        exposures=len(exposures.label),
        judged=len(label),
        auc=round(auc(label, world.judged), 6),
        gauc=None if np.isnan(inside) else round(inside, 6),
        calibration_error=error,
        apart={name: round(gap, 6) for name, (gap, _) in gaps.items()},
        size=world.size,
        refits=refits_of(world.family, config),
        judges=False,
    )
    name = world.family
    checks = [_ahead(name, "knows", "AUC", "auc", facts.auc, scores, config.world_lead)]
    if facts.gauc is not None and all(model.metrics.get("gauc") for model in scores.models.values()):
        checks.append(_ahead(name, "ranks", "user-wise AUC", "gauc", facts.gauc, scores, config.world_lead))
    says = f"the calibration error of the world of {name} is {error:.4f}, the limit is {CALIBRATED}"
    checks.append(Check(name=f"{name}: calibration", holds=rounded(error) <= CALIBRATED, says=says))
    checks += [_alike(name, of, *gap, config.world_apart) for of, gap in gaps.items()]
    return tuple(checks), facts


def _ahead(world: str, name: str, what: str, metric: str, value: float, scores: Scores, lead: float) -> Check:
    """Whether the world is ahead of the best model by the lead."""
    values = {model: entry.value for model, found in scores.models.items() if (entry := found.metrics[metric])}
    best = max(values, key=lambda model: (rounded(values[model]), model))
    says = (
        f"the {what} of the world of {world} on test exposures that it did not see is {value:.4f}, the best model's "
        f"({best}) {values[best]:.4f}: it has to be {lead:.4f} ahead"
    )
    return Check(name=f"{world}: {name}", holds=rounded(value) >= rounded(values[best] + lead), says=says)


def _alike(world: str, name: str, gap: float, own: float, limit: float) -> Check:
    """Whether the world's clicks are as near to the log's as the limit says, or as one draw of them is to all."""
    bound = max(limit, own)
    says = (
        f"{STATISTICS[name]} in the world of {world} and in the log are {gap:.4f} apart, the limit is {bound:.4f}, "
        + ("as set" if bound == limit else "as far as one of the world's draws is from all")
    )
    return Check(name=f"{world}: {name}", holds=rounded(gap) <= rounded(bound), says=says)


def instrument_checks(aa: Instrument, draws: Mapping[str, Draw]) -> tuple[Check, ...]:
    """Whether tests of the control against itself find nothing, and users fell into halves."""
    says = (
        f"p-values of {aa.tests} tests of the control against itself: {aa.rates['0.05']:.1%} below 0.05, "
        f"uniform with p {aa.ks_p:.4f}, the limit is {BROKEN}"
    )
    checks = [Check(name=AA, holds=rounded(aa.ks_p) >= BROKEN, says=says)]
    if draws:
        worst, p_value, corrected = least({name: draw.sample_ratio_p for name, draw in draws.items()})
        says = (
            f"the least sample-ratio p-value is {p_value:.4g} ({worst}), times {len(draws)} by Bonferroni's correction "
            f"{corrected:.4f}, the limit is {BROKEN}"
        )
        checks.append(Check(name=SAMPLE_RATIO, holds=rounded(corrected) >= BROKEN, says=says))
    return tuple(checks)

"""Section `abtest`: the simulated A/B test."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hisac_lab.config.base import Section

POPULARITY = "popularity"
"""The policy that shows what had most positives, whoever asks."""
EvidenceKind = Literal["truth", "replay", "fitted"]
"""A simulated world's own click probabilities, logged exposures with their propensities, or a world fitted on a log."""


class ABTestConfig(Section):
    """The simulated A/B test."""

    control: str = Field(
        POPULARITY,
        description="the policy of the control arm: a model of the board (promote names the champion), or popularity, "
        "which needs no model: most positives so far",
    )
    evidence: EvidenceKind | Literal["auto"] = Field(
        "auto",
        description="truth: the simulated world's own click probabilities; replay: clicks on logged exposures, whose "
        "propensities the log has, or which are at random; fitted: a world fitted with hindsight; auto: truth in the "
        "simulated world, else fitted",
    )
    visits: int = Field(5, ge=2, description="slates each user is shown")
    days: int = Field(
        1,
        ge=1,
        le=100,
        description="above 1, in the simulated world alone: the test also runs day by day, a slate a day, and what was "
        "shown and clicked is part of the days after",
    )
    novelty: float = Field(
        0.0,
        ge=0,
        le=5,
        description="in a test of several days: what a policy other than the control adds to the logit of each click "
        "on the first day because it is new; it halves each day",
    )
    carry_over: bool = Field(
        True,
        description="in a test of several days: what was shown and clicked is part of the days after; false: each day "
        "begins as the first",
    )
    pool: int = Field(100, ge=2, description="items a policy chooses a slate from")
    slate: int = Field(10, ge=1, description="items on a slate")
    strata: int = Field(
        4,
        ge=2,
        le=20,
        description="groups of users by length of history, of about equal size: lifts are told in each, and a "
        "simulated test is also read post-stratified by them",
    )
    policy: Literal["top", "softmax"] = Field(
        "top",
        description="what is shown of a pool: top: the items with the highest scores; softmax: items drawn one after "
        "the other, whose chances are kept with every slate; popularity's logits are logs of 1 + positives",
    )
    temperature: float = Field(1.0, ge=0.01, le=100, description="softmax only: what scores, logits, are divided by")
    margin: float = Field(0.005, gt=0, lt=1, description="lifts within it, either way, are as good as none")
    world_dim: int = Field(16, ge=1, description="factors of the fitted world")
    world_penalties: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (4.0, 8.0, 16.0), min_length=1, description="L2 penalties on its factors; exposures before the test choose one"
    )
    world_refits: int = Field(10, ge=2, description="fits of the world on resampled users, for its part of the error")
    world_lead: float = Field(
        0.005, ge=0, le=1, description="AUC and user-wise AUC by which it must be ahead of every model to judge them"
    )
    replay_requests: int = Field(20, ge=1, description="logged requests of each user that are replayed, at most")
    replay_least: int = Field(
        100, ge=2, description="effective sample size of a policy below which logged exposures give no verdict"
    )
    replay_clip: float = Field(
        10.0, gt=0, description="limit of clipped weights, in multiples of the mean weight; verdicts use unclipped ones"
    )
    users: int = Field(20000, ge=100, description="users of a simulated test, both arms together")
    aa_tests: int = Field(100, ge=20, description="simulated tests of the control against itself")
    split_salt: str = Field("hisac-lab", description="salt of the user hash; a new experiment takes a new one")
    seed: int = Field(0, ge=0, description="seed of pools, fits and clicks")

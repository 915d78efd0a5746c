"""Section `abtest`: the simulated A/B test."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from hisac_lab.config.base import Section

POPULARITY = "popularity"
"""The policy that shows what had most positives, whoever asks."""
EvidenceKind = Literal["truth", "replay", "fitted"]
"""A simulated world's own click probabilities, logged exposures with their propensities, or a world fitted on a log."""

Family = Literal["factors", "trees"]
"""Of a fitted world: a factor model, or boosted trees on counts; both see what comes after the moment."""


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
    worlds: tuple[Family, ...] = Field(
        ("factors", "trees"),
        min_length=1,
        description="families of fitted worlds: factors, or boosted trees on counts (extra trees); those with the "
        "right to judge do, and a treatment on which they contradict each other has no verdict",
    )
    world_dim: int = Field(16, ge=1, description="factors of the world of factors")
    world_penalties: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (4.0, 8.0, 16.0), min_length=1, description="L2 penalties on its factors; exposures before the test choose one"
    )
    world_trees: int = Field(80, ge=1, le=10_000, description="trees of the world of trees")
    world_refits: int = Field(
        10, ge=2, description="fits of the world of factors on resampled users, for its part of the error"
    )
    world_tree_refits: int = Field(3, ge=2, description="the same of the world of trees, whose fits take longer")
    world_lead: float = Field(
        0.005, ge=0, le=1, description="AUC and user-wise AUC by which it must be ahead of every model to judge them"
    )
    world_apart: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Kolmogorov-Smirnov distance that a world's clicks on test exposures may have from the log's, in "
        "the shares that users click and in those of consecutive clicks with a code in common",
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

    @field_validator("worlds")
    @classmethod
    def _once(cls, worlds: tuple[Family, ...]) -> tuple[Family, ...]:
        if len(set(worlds)) < len(worlds):
            raise ValueError("a family is named twice: name each once")
        return worlds

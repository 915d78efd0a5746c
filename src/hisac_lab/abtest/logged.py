"""The test on logged exposures: each model against the control, in clicks that came on what was really shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from hisac_lab.abtest.estimate import Estimate, estimate
from hisac_lab.abtest.evidence import CAVEATS, instrument_checks
from hisac_lab.abtest.offpolicy import JUDGE, Rounds, halves, values, weights_hold
from hisac_lab.abtest.policies import scores_of
from hisac_lab.abtest.records import ABTests, Check, Lift, NothingToJudge, Replayed
from hisac_lab.abtest.replay import Slates
from hisac_lab.abtest.verdicts import beside_the_lift, verdicts
from hisac_lab.base.artifacts import Array, load_array
from hisac_lab.base.progress import track
from hisac_lab.config.abtest import ABTestConfig
from hisac_lab.config.model import ExperimentConfig
from hisac_lab.events.positives import popularity
from hisac_lab.events.store import EventStore
from hisac_lab.inference.runtime import Runtime
from hisac_lab.ops.choice import rounded


@dataclass(frozen=True)
class Replay:
    """One policy on the logged exposures, all its trained runs.

    Attributes:
        clicks: What each user adds to the clicks of a slate, by estimator; (S, T, 1).
        rounds: With the weights of all runs' mean.
        reranked: Discounted clicks of real slates in its order, mean over runs; (T,).
        drawn: Whether its runs are of seeds that could have been others.
    """

    clicks: dict[str, Array]
    rounds: Rounds
    reranked: Array
    drawn: bool


@dataclass(frozen=True)
class LoggedTests:
    """What policies are asked, and how they are compared.

    Attributes:
        config: The section `abtest`.
        experiment: Which models and seeds there are.
        slates: Logged requests.
        liked: Chance of a click on all that is asked about by the click model; (R, L + M).
        store: The events.
        runtime: Device and number format.
        confidence: Level of the intervals.
        learns: Of each model, whether its seeds could have been others.
        codebook: Output of the stage `codebook`; None: semantic IDs are not used.
        instances: Output of the stage `instances`, for models that read it.
    """

    config: ABTestConfig
    experiment: ExperimentConfig
    slates: Slates
    liked: Array
    store: EventStore
    runtime: Runtime
    confidence: float
    learns: Mapping[str, bool]
    codebook: Path | None
    instances: Path | None

    def compare(self, runs: Mapping[str, Sequence[Path]]) -> ABTests:
        """Every treatment against the control.

        Args:
            runs: Folders of the trained runs of each model.

        Raises:
            NothingToJudge: By the logged exposures nobody would click on what the control shows.
        """
        config = self.config
        names = [config.control, *(name for name in self.experiment.models if name != config.control)]
        arms = {name: self.replay(name, runs.get(name, [])) for name in track(names, len(names), "abtest", "models")}
        weighed = (self._supported(arms), weights_hold({name: arm.rounds for name, arm in arms.items()}))
        control = arms.pop(config.control)
        if float(control.clicks[JUDGE].mean()) <= 0:
            what = f"by the logged exposures nobody would click on what the control {config.control} shows"
            raise NothingToJudge(self.store.path, what, "give a longer test period", "test")
        found = {name: self._estimate(control, arm, JUDGE) for name, arm in arms.items()}
        aa = halves(control.clicks[JUDGE].mean(axis=(0, 2)), config.aa_tests, f"{config.split_salt}/aa")
        checks = (*weighed, *instrument_checks(aa, {}))
        reranked = {name: {"reranked": arm.reranked} for name, arm in arms.items()}
        read = beside_the_lift(reranked, {"reranked": control.reranked}, self.confidence)
        beside = {name: {"metrics": read[name], "replay": self._replayed(control, arm)} for name, arm in arms.items()}
        return ABTests(
            control=config.control,
            evidence="replay",
            checks=checks,
            tests=verdicts(found, beside, checks, config.margin, self.confidence),
            aa=aa,
            seeds=dict.fromkeys(self.experiment.models, self.experiment.seeds),
            margin=config.margin,
            caveat=CAVEATS["replay"],
        )

    def replay(self, name: str, runs: Sequence[Path]) -> Replay:
        """One policy: all trained runs of a model, popularity where there are none."""
        slates, people = self.slates, self.slates.people
        asked = slates.asked
        scores = [scores_of(run, self.store, people, asked, self.runtime, self.instances) for run in runs]
        scores = scores or [popularity(self.store, asked, people.time[:, None])]
        rounds = [slates.rounds(one, self.liked, self._nodes) for one in scores]
        each = [values(one, self.config.replay_clip) for one in rounds]
        clicks = {kind: np.stack([one[kind] for one in each])[:, :, None] for kind in each[0]}
        whole = replace(rounds[0], weight=np.mean([one.weight for one in rounds], axis=0))
        reranked = np.mean([slates.reranked(one) for one in scores], axis=0)
        return Replay(clicks, whole, reranked, bool(runs) and self.learns[name])

    @cached_property
    def _nodes(self) -> Array | None:
        """First code of each item's semantic ID, -1 without one."""
        if self.codebook is None:
            return None
        return np.asarray(load_array(self.codebook, "item_nodes"))[:, 0]

    def _supported(self, arms: Mapping[str, Replay]) -> Check:
        """Whether the exposures say enough of every policy."""
        effective = {name: rounded(arm.rounds.effective) for name, arm in arms.items()}
        worst = min(effective, key=lambda name: (effective[name], name))
        least = self.config.replay_least
        says = (
            f"the logged exposures have an effective sample size of {effective[worst]:.1f} for {worst}, "
            f"{least} is the least"
        )
        return Check(name="support", holds=effective[worst] >= least, says=says)

    def _estimate(self, control: Replay, arm: Replay, kind: str) -> Estimate:
        drawn = control.drawn, arm.drawn
        return estimate(control.clicks[kind], arm.clicks[kind], [], self.confidence, drawn)

    def _replayed(self, control: Replay, arm: Replay) -> Replayed:
        """The lift by every estimator."""
        lifts: dict[str, Lift] = {}
        for kind, clicks in arm.clicks.items():
            if control.clicks[kind].mean() > 0 and clicks.mean() > 0:
                lifts[kind] = self._estimate(control, arm, kind).lift
        return Replayed(
            exposures=len(arm.rounds.reward),
            effective=round(arm.rounds.effective, 1),
            effective_control=round(control.rounds.effective, 1),
            clipped=round(arm.rounds.clipped(self.config.replay_clip), 6),
            lifts=lifts,
        )

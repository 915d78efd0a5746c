"""The stage `abtest`: each model against the control, with known click probabilities or on logged exposures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hisac_lab.abtest import truth
from hisac_lab.abtest.daily import Policy, cumulative
from hisac_lab.abtest.estimate import Estimate, estimate, expected_clicks, lift_of
from hisac_lab.abtest.evidence import CAVEATS, instrument_checks
from hisac_lab.abtest.ground import Ground, fitted, known
from hisac_lab.abtest.logged import LoggedTests
from hisac_lab.abtest.metrics import Catalog
from hisac_lab.abtest.people import RARELY, Log, Population, asked_about, habits
from hisac_lab.abtest.policies import drawn_places, foreseen, most_popular, propensities, scores_of, slates
from hisac_lab.abtest.records import ABTest, ABTested, ABTests, Check, Hindsight, NothingToJudge, Setup
from hisac_lab.abtest.replay import Slates, click_model, liked_by
from hisac_lab.abtest.shown import ShownSlates, as_logged, save_slates
from hisac_lab.abtest.simulated import Crowd, shown_chances
from hisac_lab.abtest.verdicts import agreed, beside_the_lift, by_slice, untested, verdicts
from hisac_lab.base.artifacts import Array, digest_of, load_array
from hisac_lab.base.errors import SETTINGS, UserError
from hisac_lab.base.progress import track
from hisac_lab.config.abtest import ABTestConfig, EvidenceKind
from hisac_lab.config.compute import ComputeConfig
from hisac_lab.config.model import ExperimentConfig
from hisac_lab.evaluation.records import Evaluated, Scores
from hisac_lab.events.positives import popularity
from hisac_lab.events.store import EventStore
from hisac_lab.inference.runtime import Runtime
from hisac_lab.models.catalog import learns
from hisac_lab.ops.bins import quantile_bins

SIMULATED = "world"
"""The data set whose truth is known."""


@dataclass(frozen=True)
class Arm:
    """One policy: all trained runs of a model, or popularity.

    Attributes:
        places: What they show, by place in the pool; (S, T, visits, slate).
        propensity: Chance of each, given what stands above it; 1 where it could not be another; (S, T, visits, slate).
        before: The same before the test, of the control; no visits of others.
        clicks: Expected clicks of each slate; (S, T, visits).
        daily: Expected clicks on each day of the test of several days, means over runs; (T, days). None: there is none.
        drawn: Whether its runs are of seeds that could have been others.
    """

    places: Array
    propensity: Array
    before: Array
    clicks: Array
    daily: Array | None
    drawn: bool


def abtest(
    config: ABTestConfig,
    experiment: ExperimentConfig,
    compute: ComputeConfig,
    *,
    prepared: Path,
    trained: Path,
    evaluated: Path,
    out: Path,
    acquired: Path | None = None,
    codebook: Path | None = None,
    instances: Path | None = None,
) -> None:
    """Compares each model, by all its trained runs, with the control.

    Args:
        config: The section `abtest`.
        experiment: Which models there are.
        compute: The section `compute`.
        prepared: Output of the stage `prepare`.
        trained: Folder with one directory per training run.
        evaluated: Output of the stage `evaluate`: what the models know, and the level of all intervals.
        out: An empty directory.
        acquired: Output of the stage `acquire`: of a simulated world, the truth. None: a world is fitted.
        codebook: Output of the stage `codebook`, for the diversity of slates; None: it is not measured.
        instances: Output of the stage `instances`, for models that read it: real users' instances before the test.

    Raises:
        UserError: The log cannot give the evidence that is asked for, or an input is broken.
    """
    runtime = Runtime.start(compute)
    store = EventStore.open(prepared)
    evaluation, scores = Evaluated.open(evaluated), Scores.open(evaluated)
    simulated = acquired if store.manifest.dataset == SIMULATED else None
    kind = _kind(config, simulated)
    log = Log.of(store)
    runs = {name: [trained / f"{name}-{seed}" for seed in experiment.seeds] for name in experiment.models}
    people, pool, without_met = 0, config.pool, kind != "replay" and log.repeated < RARELY
    worlds: tuple[Hindsight, ...] = ()
    try:
        if kind == "replay":
            slates = Slates.of(store, config, None if simulated is None else truth.rebuild(simulated))
            liked = liked_by(click_model(log, config), slates)
            chance = {name: learns(model.settings) for name, model in scores.models.items()}
            given = (slates, liked, store, runtime, evaluation.confidence, chance, codebook, instances)
            found, people = LoggedTests(config, experiment, *given).compare(runs), slates.users
        else:
            everybody, pools, later = asked_about(store, log, config, without_met)
            if simulated is not None and kind == "truth":
                ground = known(simulated, store, everybody, pools, later, config)
            else:
                ground = fitted(log, everybody, pools, config, scores, codebook)
            policies = Policies(store, everybody, pools, config, runtime, scores, instances)
            names = [config.control, *(name for name in experiment.models if name != config.control)]
            arms = {
                name: policies.arm(name, runs.get(name, []), ground)
                for name in track(names, len(names), "abtest", "models")
            }
            expected = policies.foreseen([each[0] for each in runs.values()], arms[config.control], ground)
            lengths = quantile_bins(everybody.end - store.offsets[everybody.user], config.strata)
            asked = (ground, arms, evaluation.confidence, everybody, pools, log, expected, lengths, codebook)
            tests = Tests(config, experiment, *asked)
            found, people, pool, worlds = tests.compare(), len(everybody.user), pools.shape[2], ground.worlds
            if config.policy == "softmax":
                save_slates(out, tests.slates(store.user_ids[everybody.user]), store.item_table["item"].to_numpy())
    except NothingToJudge as nothing:
        found = untested(config, experiment, kind, nothing)
    found.save(out)
    fingerprint = {"evaluation": evaluation.fingerprint, "abtest": config.model_dump(mode="json")}
    ABTested(
        control=config.control,
        fingerprint=evaluation.fingerprint,
        test_fingerprint=digest_of(fingerprint),
        setup=Setup(real_users=people, pool=pool, repeated=round(log.repeated, 6), without_met=without_met),
        worlds=worlds,
        confidence=evaluation.confidence,
    ).save(out)


def _kind(config: ABTestConfig, simulated: Path | None) -> EvidenceKind:
    """The evidence that is asked for.

    Raises:
        UserError: The log cannot give it.
    """
    kind = config.evidence
    if kind == "auto":
        kind = "fitted" if simulated is None else "truth"
    if kind == "truth" and simulated is None:
        what = "only the simulated world knows its click probabilities"
        raise UserError(SETTINGS, what, "set it to auto, replay or fitted", "abtest.evidence")
    if config.days > 1 and kind != "truth":
        what = f"{config.days} days need a simulated world: no log says what showing an item changes"
        raise UserError(SETTINGS, what, "set it to 1", "abtest.days")
    if config.policy != "top" and kind == "replay":
        what = "replay reads off logged exposures what policies are worth that show the highest scores"
        raise UserError(SETTINGS, what, "set it to top", "abtest.policy")
    return kind


@dataclass(frozen=True)
class Policies:
    """What policies are asked.

    Attributes:
        store: The events.
        people: T users and their moments.
        pools: What they choose from; (T, 2 * visits, pool).
        config: The section `abtest`.
        runtime: Device and number format.
        scores: Of the models.
        instances: Output of the stage `instances`, for models that read it.
    """

    store: EventStore
    people: Population
    pools: Array
    config: ABTestConfig
    runtime: Runtime
    scores: Scores
    instances: Path | None

    def arm(self, name: str, runs: Sequence[Path], ground: Ground) -> Arm:
        """All trained runs of one model, popularity where there are none; the control also before the test."""
        visits, asked = self.config.visits, self.pools
        if new := name != self.config.control:
            asked = asked[:, :visits]
        each: Sequence[Path | None] = runs or [None]
        shown = [self._shown(run, self.store, self.people, asked) for run in each]
        places, chances = (np.stack(part) for part in zip(*shown, strict=True))
        now, before = places[:, :, :visits], places[:, :, visits:]
        days = None if ground.live is None else [ground.live.run(self._policy(run), new) for run in each]
        daily = None if days is None else np.mean(days, axis=0)
        drawn = bool(runs) and learns(self.scores.models[name].settings)
        clicks = _clicks(ground.chances[:, :visits], now, ground)
        return Arm(now, chances[:, :, :visits], before, clicks, daily, drawn)

    def foreseen(self, runs: Sequence[Path], control: Arm, ground: Ground) -> Array:
        """Clicks of the control's slates as models expect them; (T,)."""
        pools = self.pools[:, : self.config.visits]
        shown = np.stack([np.take_along_axis(pools, run, axis=2) for run in control.places], axis=1)
        return foreseen(runs, self.store, self.people, shown, ground.examined, self.runtime, self.instances)

    def _policy(self, run: Path | None) -> Policy:
        """What one trained run, or popularity, shows by the histories it is given."""
        return lambda store, people, pools: self._shown(run, store, people, pools)[0]

    def _shown(self, run: Path | None, store: EventStore, people: Population, pools: Array) -> tuple[Array, Array]:
        """Places of the slates of one trained run, or popularity, and their chances; two (T, visits, slate)."""
        config, given = self.config, (self.runtime, self.instances)
        if config.policy == "top":
            asked = (store, people, pools, config.slate)
            places = most_popular(*asked) if run is None else slates(run, *asked, *given)
            return places, np.ones(places.shape)
        if run is None:
            scores = np.log1p(popularity(store, pools, people.time[:, None, None]))
        else:
            scores = scores_of(run, store, people, pools.reshape(len(pools), -1), *given).reshape(pools.shape)
        luck = config.seed, 9, int(people.time[0]) % 2**63  # another one each day; no seed is negative
        places = drawn_places(scores, config.slate, config.temperature, luck)
        return places, propensities(scores, places, config.temperature)


def _clicks(chances: Array, places: Array, ground: Ground) -> Array:
    return np.stack([expected_clicks(chances, run, ground.examined) for run in places])


@dataclass(frozen=True)
class Tests:
    """All arms, and how they are compared.

    Attributes:
        config: The section `abtest`.
        experiment: Which models and seeds there are.
        ground: What the tests stand on.
        arms: By model, the control among them.
        confidence: Level of the intervals.
        people: T users.
        pools: What the arms chose from; (T, 2 * visits, pool).
        log: All exposures.
        expected: Clicks of the control's slates, as the models expect them; (T,).
        lengths: Who has a history of which length, before its cut; (T,) bool each.
        codebook: Output of the stage `codebook`; None: diversity is not measured.
    """

    config: ABTestConfig
    experiment: ExperimentConfig
    ground: Ground
    arms: Mapping[str, Arm]
    confidence: float
    people: Population
    pools: Array
    log: Log
    expected: Array
    lengths: Mapping[str, Array]
    codebook: Path | None

    def compare(self) -> ABTests:
        """Every treatment against the control; p-values are corrected for their number."""
        config = self.config
        names = [name for name in self.experiment.models if name != config.control]
        slices = by_slice({name: self._slices(self.arms[name]) for name in names}, self.confidence)
        chances = {name: self._chances(arm) for name, arm in self.arms.items()}
        crowd = self._crowd()
        draws = {
            name: crowd.test(chances[config.control], chances[name], f"{config.split_salt}/{name}") for name in names
        }
        aa = crowd.against_itself(chances[config.control], config.aa_tests, f"{config.split_salt}/aa")
        checks = (*self.ground.checks, *instrument_checks(aa, draws))
        read = self._metrics()
        metrics = beside_the_lift({name: read[name] for name in names}, read[config.control], self.confidence)
        beside = {
            name: {
                "metrics": metrics[name],
                "slices": slices[name],
                "draw": draws[name],
                **self._days(self.arms[name]),
            }
            for name in names
        }
        return ABTests(
            control=config.control,
            evidence=self.ground.kind,
            checks=checks,
            tests=self._judged(names, beside, checks),
            aa=aa,
            seeds=dict.fromkeys(self.experiment.models, self.experiment.seeds),
            margin=config.margin,
            caveat=CAVEATS[self.ground.kind],
        )

    def _judged(
        self, names: Sequence[str], beside: Mapping[str, Mapping[str, Any]], checks: Sequence[Check]
    ) -> dict[str, ABTest]:
        """The tests with their verdicts; where worlds of several families judge, beside those of each alone."""
        margin, level = self.config.margin, self.confidence
        alone = self._estimates(names, {})
        others = {family: self._within(ground)._estimates(names, {}) for family, ground in self.ground.others.items()}
        elsewhere = {name: [of[name].lift.value for of in others.values()] for name in names}
        tests = verdicts(self._estimates(names, elsewhere) if others else alone, beside, checks, margin, level)
        judges = [world.family for world in self.ground.worlds if world.judges]
        each = {
            family: verdicts(of, beside, checks, margin, level)
            for family, of in zip(judges, (alone, *others.values()), strict=False)
        }
        return agreed(tests, each) if each else tests

    def _within(self, ground: Ground) -> Tests:
        """The same arms in another world."""
        now = ground.chances[:, : self.config.visits]
        arms = {name: replace(arm, clicks=_clicks(now, arm.places, ground)) for name, arm in self.arms.items()}
        return replace(self, ground=ground, arms=arms)

    def _estimates(self, names: Sequence[str], elsewhere: Mapping[str, Sequence[float]]) -> dict[str, Estimate]:
        """Lift of each treatment; `elsewhere` are those in other worlds."""
        return {name: self._estimate(self.arms[name], elsewhere.get(name, ())) for name in names}

    def _estimate(self, arm: Arm, elsewhere: Sequence[float] = (), who: Array | slice = slice(None)) -> Estimate:
        """The lift, of all users or of some; (T,) bool."""
        control = self.arms[self.config.control]
        base, other = control.clicks[:, who], arm.clicks[:, who]
        refitted = [
            lift_of(*(_clicks(chances[who], one.places[:, who], self.ground) for one in (control, arm)))
            for chances in self.ground.refitted
        ]
        return estimate(base, other, refitted, self.confidence, (control.drawn, arm.drawn), elsewhere)

    def _slices(self, arm: Arm) -> dict[str, Estimate]:
        """The lift by the length of histories, where two users have such and click on what the control shows."""
        clicks = self.arms[self.config.control].clicks
        told = {label: who for label, who in self.lengths.items() if who.sum() > 1 and clicks[:, who].any()}
        return {label: self._estimate(arm, (), who) for label, who in told.items()}

    def _days(self, arm: Arm) -> dict[str, Any]:
        """The field `days`, where the test has several."""
        control = self.arms[self.config.control].daily
        if control is None or arm.daily is None:
            return {}
        return {"days": cumulative(control, arm.daily, self.confidence)}

    def _crowd(self) -> Crowd:
        past = self.ground.chances[:, self.config.visits :]
        before = shown_chances(past, self.arms[self.config.control].before, self.ground.examined)
        known = np.c_[habits(self.log.user, self.log.time, self.log.label, self.people), self.expected]
        strata = np.argmax(list(self.lengths.values()), axis=0)
        return Crowd(self.config.users, self.confidence, before, self.config.seed, known, strata)

    def slates(self, users: Array) -> dict[str, list[ShownSlates]]:
        """What every run of each arm has shown, as it would be logged; ids of the users, (T,)."""
        pools, seed = self.pools[:, : self.config.visits], self.config.seed
        return {
            name: as_logged(users, pools, arm.places, arm.propensity, self._chances(arm), (seed, 10, *name.encode()))
            for name, arm in self.arms.items()
        }

    def _chances(self, arm: Arm) -> Array:
        return shown_chances(self.ground.chances[:, : self.config.visits], arm.places, self.ground.examined)

    def _metrics(self) -> dict[str, dict[str, Array]]:
        """Of every arm, values of each user by metric; (T,)."""
        nodes = None if self.codebook is None else np.asarray(load_array(self.codebook, "item_nodes"))
        catalog, pools = Catalog.of(self.log, nodes), self.pools[:, : self.config.visits]
        return {
            name: catalog.read(
                np.stack([np.take_along_axis(pools, run, axis=2) for run in arm.places]),
                self._chances(arm).reshape(arm.places.shape),
                self.people.requests,
            )
            for name, arm in self.arms.items()
        }

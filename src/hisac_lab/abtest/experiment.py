"""The stage `abtest`: each model against the control policy, in a world with known click probabilities."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hisac_lab.abtest.records import ABTest, ABTested, ABTests, Rates, Users, WorldFit
from hisac_lab.abtest.statistics import assign, cuped, relative_lift, sample_ratio, verdict
from hisac_lab.abtest.world import Population, World, fit_world, population
from hisac_lab.base.artifacts import Array, digest_of
from hisac_lab.base.errors import SETTINGS, UserError
from hisac_lab.base.progress import track
from hisac_lab.config.abtest import ABTestConfig
from hisac_lab.config.compute import ComputeConfig
from hisac_lab.config.model import ExperimentConfig
from hisac_lab.evaluation.records import Evaluated, Scores
from hisac_lab.events.batches import Requests
from hisac_lab.events.store import EventStore
from hisac_lab.inference.bundle import load_model
from hisac_lab.inference.loader import Loader, score
from hisac_lab.inference.runtime import Runtime

CHUNK = 20_000  # simulated users at once: memory does not grow with their number
CAVEAT = (
    "A simulated test shows which policy the fitted world prefers, and its interval covers the draw of users and "
    "clicks in that world, not the world itself; it cannot show how real people would react to slates that no "
    "logging policy ever showed them, nor how their tastes would change with what they are shown."
)


def abtest(
    config: ABTestConfig,
    experiment: ExperimentConfig,
    compute: ComputeConfig,
    *,
    prepared: Path,
    trained: Path,
    evaluated: Path,
    out: Path,
    instances: Path | None = None,
) -> None:
    """Runs one test per model against the control, and an A/A test beside them.

    Args:
        config: The section `abtest`.
        experiment: Which models there are.
        compute: The section `compute`.
        prepared: Output of the stage `prepare`.
        trained: Folder with one directory per training run.
        evaluated: Output of the stage `evaluate`; it names each model's seed (best on validation) and the level of all
            intervals.
        out: An empty directory.
        instances: Output of the stage `instances`, for models that read it: real users' instances before the test.

    Raises:
        UserError: No user can be in the test.
    """
    runtime = Runtime.start(compute)
    store = EventStore.open(prepared)
    people = population(store.samples("test"))
    if len(people.user) < 2:
        raise UserError(prepared, "no two test users have exposures at two times", "give a longer test period", "test")
    items = store.manifest.items
    world = fit_world(people, items, config.world_dim, config.world_penalty, config.seed)
    pools = _pools(store, people, config)
    evaluation = Evaluated.open(evaluated)
    seeds = {name: scores.best_seed for name, scores in Scores.open(evaluated).models.items()}
    slates: dict[str, Array] = {}
    for name in track(experiment.models, len(experiment.models), "abtest", "policies"):
        run = trained / f"{name}-{seeds[name]}"
        slates[name] = _slates(run, store, people, pools, config.slate, runtime, instances)
    crowd = Crowd(world, config, evaluation.confidence)
    tests = {
        name: crowd.test(slates[config.control], slates[name], f"{config.split_salt}/{name}")
        for name in experiment.models
        if name != config.control
    }
    aa = crowd.test(slates[config.control], slates[config.control], f"{config.split_salt}/aa")
    ABTests(control=config.control, tests=tests, aa=aa, seeds=seeds, caveat=CAVEAT).save(out)
    fingerprint = {"evaluation": evaluation.fingerprint, "abtest": config.model_dump(mode="json")}
    ABTested(
        control=config.control,
        fingerprint=evaluation.fingerprint,
        test_fingerprint=digest_of(fingerprint),
        world=WorldFit(
            real_users=len(people.user),
            exposures=len(people.label),
            holdout_auc=world.holdout_auc,
            dim=config.world_dim,
        ),
        confidence=evaluation.confidence,
    ).save(out)


def _pools(store: EventStore, people: Population, config: ABTestConfig) -> Array:
    """Items a policy may choose from: (T, 2 * visits, pool); the second half serves the time before the test.

    Drawn, without repetition, from the items that had appeared in the training period.
    """
    alive = np.unique(store.samples("train")["item"])
    size = min(config.pool, len(alive))
    if size < config.slate:
        raise UserError(SETTINGS, f"{config.slate} is more than the {size} items", "lower it", "abtest.slate")
    random = np.random.default_rng([config.seed, 1])
    draws = random.random((len(people.user) * 2 * config.visits, len(alive)), dtype=np.float32)
    chosen = np.argpartition(draws, size - 1, axis=1)[:, :size]
    pools: Array = alive[np.sort(chosen, axis=1)].reshape(len(people.user), 2 * config.visits, size)
    return pools


def _slates(
    run: Path,
    store: EventStore,
    people: Population,
    pools: Array,
    slate: int,
    runtime: Runtime,
    instances: Path | None = None,
) -> Array:
    """The policy of a model: the items it scores highest, in order; (T, visits, slate)."""
    model, _ = load_model(run, instances=instances)
    model.to(runtime.device)
    users, visits, size = pools.shape
    start = np.maximum(store.offsets[people.user], people.end - store.limit)
    flat = pools.reshape(users, visits * size).astype(np.int64)
    full = np.ones(flat.shape, bool)
    labels, sample = full.astype(np.float32), np.zeros_like(flat)
    requests = Requests(store, start, people.end, people.time, flat, labels, full, sample, people.user)
    scores = score(model, Loader.of(model, requests, runtime, instances)).reshape(users, visits, size)
    best = np.argsort(-scores, axis=2, kind="stable")[:, :, :slate]
    chosen: Array = np.take_along_axis(pools, best, axis=2)
    return chosen


class Crowd:
    """Simulated users: each a real one with a taste of their own nearby.

    Args:
        world: Click probabilities.
        config: The section `abtest`.
        confidence: Level of the intervals.
    """

    def __init__(self, world: World, config: ABTestConfig, confidence: float) -> None:
        self.world, self.config, self.confidence = world, config, confidence
        self.names = [f"user-{number}" for number in range(config.users)]
        random = np.random.default_rng([config.seed, 2])
        self.template = random.integers(len(world.taste), size=config.users)
        self.spread = world.taste.std(axis=0) * config.taste_noise
        self.examined = 1 / np.log2(np.arange(config.slate) + 2)

    def probabilities(self, slates: Array, template: Array, noise: Array) -> Array:
        """True click probability of every exposure: looked at, by position, and liked.

        Args:
            slates: Items shown to each real user; (T, visits, slate).
            template: The real user behind each simulated one; (n,).
            noise: What is added to that user's taste; (n, d).

        Returns:
            (n, visits * slate).
        """
        shown = slates[template]
        logits = self.world.logits(template, shown.reshape(len(shown), -1), noise)
        probability: Array = np.tile(self.examined, shown.shape[1]) / (1 + np.exp(-logits))
        return probability

    def test(self, control: Array, treatment: Array, salt: str) -> ABTest:
        """One test: split by hash, draw clicks, read the result; beside it what the world knows to be true.

        Args:
            control: Slates of the control policy; (T, 2 * visits, slate), the second half for the time before the test.
            treatment: Slates of the other policy.
            salt: Salt of the split.
        """
        visits, users = self.config.visits, self.config.users
        treated = assign(self.names, salt)
        random = np.random.default_rng([self.config.seed, 3])
        ctr, earlier, sums = np.zeros(users), np.zeros(users), np.zeros(2)
        for at in range(0, users, CHUNK):
            block = slice(at, at + CHUNK)
            template, arm = self.template[block], treated[block]
            noise = random.normal(size=(len(template), len(self.spread))) * self.spread
            past = self.probabilities(control[:, visits:], template, noise)
            base = self.probabilities(control[:, :visits], template, noise)
            other = self.probabilities(treatment[:, :visits], template, noise)
            shown = np.where(arm[:, None], other, base)
            earlier[block] = (random.random(past.shape) < past).mean(axis=1)
            ctr[block] = (random.random(shown.shape) < shown).mean(axis=1)
            sums += base.sum(), other.sum()
        adjusted, removed = cuped(ctr, earlier)
        plain = relative_lift(ctr[treated], ctr[~treated], self.confidence)
        sharp = relative_lift(adjusted[treated], adjusted[~treated], self.confidence)
        return ABTest(
            users=Users(treatment=int(treated.sum()), control=int((~treated).sum())),
            ctr=Rates(
                treatment=round(float(ctr[treated].mean()), 6),
                control=round(float(ctr[~treated].mean()), 6),
            ),
            lift=plain,
            lift_cuped=sharp,
            cuped_variance_removed=removed,
            sample_ratio_p=sample_ratio(int(treated.sum()), int((~treated).sum())),
            true_lift=round(float(sums[1] / sums[0] - 1), 6),
            verdict=verdict(sharp),
        )

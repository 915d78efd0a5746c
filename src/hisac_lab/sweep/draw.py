"""Draws points that nobody has tried, from a sampler, a sequence or a grid."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optuna
from scipy.stats import qmc

from hisac_lab.config.sweep import Point, Space, SweepConfig, written
from hisac_lab.sweep.space import at_quantiles, grid, is_finite, labels, suggest

STARTUP = 4  # trials drawn at random before the sampler learns from what it was told
POPULATION = 8  # of a generation of NSGA-II
ATTEMPTS = 16  # draws of a sampler before a point is taken that nobody has tried


@dataclass(frozen=True)
class Resolved:
    """What a point means for its model.

    Attributes:
        key: Digest of all that a training of it depends on; equal for points that are the same model.
        cut: What the codebook made less of: asked for and got, by name.
        settings: What a training takes.
        reason: Why it cannot be trained; None: it can.
    """

    key: str
    cut: dict[str, tuple[int, int]] = field(default_factory=dict)
    settings: Any = None
    reason: str | None = None


@dataclass(frozen=True)
class Asked:
    """A trial before it is run; `trial` is Optuna's."""

    number: int
    trial: optuna.Trial
    point: Point
    resolved: Resolved
    fixed: bool


class Asker:
    """Draws points that nobody has tried.

    Args:
        config: The section `sweep`.
        space: Of the model.
        model: Its name.
        resolve: What a point means.
        study: Optuna's; None: one of its own.
        seen: Keys of points that were tried before.
        skip: Points of a sequence that were drawn before.
    """

    def __init__(
        self,
        config: SweepConfig,
        space: Space,
        model: str,
        resolve: Callable[[Point], Resolved],
        study: optuna.Study | None = None,
        seen: Iterable[str] = (),
        skip: int = 0,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.config, self.space, self.resolve = config, space, resolve
        self.study = study or optuna.create_study(directions=["maximize", "minimize"])
        self.seen = set(seen)
        self.fixed = list(self.config.fixed.get(model, ()))
        self.stream = iter(grid(self.space)) if self.config.sampler == "grid" else None
        self.sobol = qmc.Sobol(len(self.space), scramble=True, rng=self.config.seed)
        if skip:
            self.sobol.fast_forward(skip)

    def draw(self, number: int) -> Asked | None:
        """A trial at a new point; None: there is none."""
        while self.fixed:
            if asked := self.take(number, self.fixed.pop(0), fixed=True):
                return asked
        if self.stream is not None:
            for point in self.stream:
                if asked := self.take(number, point):
                    return asked
            return None
        for attempt in range(ATTEMPTS):
            if asked := self.take(number, self._sampled(number, attempt)):
                return asked
        return self._left_over(number)

    def _sampled(self, number: int, attempt: int) -> Point | optuna.Trial:
        if self.config.sampler == "sobol":
            return at_quantiles(self.space, self._next_of_sobol())
        conditional = any(dimension.when for dimension in self.space.values())
        seed = int(np.random.SeedSequence([self.config.seed, number, attempt]).generate_state(1)[0])
        self.study.sampler = _sampler(self.config.sampler, seed, conditional)
        return self.study.ask()

    def _next_of_sobol(self) -> list[float]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a number of points that is no power of two
            shares: list[float] = self.sobol.random(1)[0].tolist()
        return shares

    def _left_over(self, number: int) -> Asked | None:
        """Where a sampler keeps coming back: any point that is left."""
        random = np.random.default_rng([self.config.seed, number])
        if not is_finite(self.space):
            points = (at_quantiles(self.space, random.random(len(self.space)).tolist()) for _ in range(ATTEMPTS**2))
            return next((asked for point in points if (asked := self.take(number, point))), None)
        every = list(grid(self.space))
        return next(
            (asked for at in random.permutation(len(every)).tolist() if (asked := self.take(number, every[at]))), None
        )

    def take(self, number: int, drawn: Point | optuna.Trial, fixed: bool = False) -> Asked | None:
        """The trial at a point, unless it was tried."""
        if isinstance(drawn, optuna.Trial):
            trial, point = drawn, suggest(self.space, drawn)
            resolved = self.resolve(point)
        else:
            resolved = self.resolve(drawn)
            if resolved.key in self.seen:
                return None
            self.study.enqueue_trial(labels(self.space, drawn))
            trial = self.study.ask()
            point = suggest(self.space, trial)
            if written(point) != written(drawn):
                raise RuntimeError(f"Optuna took {point} for {drawn}")
        if resolved.key in self.seen:
            self.study.tell(trial, state=optuna.trial.TrialState.FAIL)
            return None
        self.seen.add(resolved.key)
        return Asked(number, trial, point, resolved, fixed)

    def tell(self, asked: Asked, objectives: tuple[float, float] | None) -> None:
        """Tells the study what a trial is worth; None: it has failed."""
        if objectives is None:
            self.study.tell(asked.trial, state=optuna.trial.TrialState.FAIL)
        else:
            self.study.tell(asked.trial, list(objectives))


def _sampler(name: str, seed: int, conditional: bool) -> optuna.samplers.BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if name == "nsga2":
            return optuna.samplers.NSGAIISampler(seed=seed, population_size=POPULATION)
        return optuna.samplers.TPESampler(seed=seed, multivariate=True, group=conditional, n_startup_trials=STARTUP)

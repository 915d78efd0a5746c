"""Ask and tell in rounds: the same trials whether run straight, resumed after a kill, or in parallel.

A round asks for a fixed number of trials before any of them is told, each from a sampler seeded by (study seed, trial
number), and tells them in number order. So nothing depends on which worker ended first. A resumed study is asked the
same questions again; answers it already gave are read from a journal.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from hisac_lab.config.sweep import SweepConfig
from hisac_lab.ops.choice import rounded

STARTUP = 4  # trials drawn at random before the sampler learns from what it was told
DIGITS = 3  # decimals of an AUC that the sampler, the front and the rule look at

Settings = dict[str, int | float]


@dataclass(frozen=True)
class TrialScores:
    """What a trial is worth.

    Attributes:
        aucs: Validation AUC, then the same on each resample of the users; (1 + B,).
        cost: Multiply-adds per candidate.
    """

    aucs: tuple[float, ...]
    cost: int

    @property
    def objectives(self) -> tuple[float, int]:
        """AUC (to be high), rounded, and cost (to be low): all that the study is told."""
        return rounded(self.aucs[0], DIGITS), self.cost


@dataclass(frozen=True)
class TrialResult:
    """One trial.

    Attributes:
        number: Its place in the study.
        settings: agents, depth, breadth, temperature.
        scores: What it is worth.
        on_front: Whether no other trial is at least as good in both objectives and better in one.
    """

    number: int
    settings: Settings
    scores: TrialScores
    on_front: bool


class Journal:
    """Answers already given, one JSON line each; a line cut off by a kill, or of an earlier form, is ignored.

    Args:
        path: The file; None keeps answers in memory only.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.answers: dict[str, TrialScores] = {}
        if path and path.exists():
            text = path.read_text()
            if text and not text.endswith("\n"):
                with path.open("a") as file:
                    file.write("\n")  # the next answer starts a line of its own
            for line in text.splitlines():
                try:
                    entry = json.loads(line)
                    self.answers[entry["settings"]] = TrialScores(tuple(entry["aucs"]), entry["cost"])
                except (ValueError, KeyError):
                    continue

    def scores_of(self, settings: Settings) -> TrialScores | None:
        """The answer for these settings, if it was given."""
        return self.answers.get(json.dumps(settings, sort_keys=True))

    def note(self, settings: Settings, scores: TrialScores) -> None:
        """Adds an answer."""
        key = json.dumps(settings, sort_keys=True)
        self.answers[key] = scores
        if self.path:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as file:
                file.write(json.dumps({"settings": key, "aucs": scores.aucs, "cost": scores.cost}) + "\n")


def run_study(
    config: SweepConfig,
    evaluate: Callable[[list[Settings], Callable[[Settings, TrialScores], None]], None],
    journal: Journal,
    done: Callable[[int], Any] = lambda number: None,
) -> list[TrialResult]:
    """Runs the study to its end.

    Args:
        config: The section `sweep`.
        evaluate: Gets settings not answered before, all different, and calls back with the scores of each.
        journal: Where answers are kept.
        done: Called with the number of trials told so far, after each round.

    Returns:
        All trials in number order.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=_sampler(config.seed, 0))
    told: list[tuple[Settings, TrialScores]] = []
    for first in range(0, config.trials, config.round_size):
        asked = []
        for number in range(first, first + config.round_size):
            study.sampler = _sampler(config.seed, number)
            trial = study.ask()
            asked.append((trial, _settings(config, trial)))
        new: dict[str, Settings] = {}
        for _, settings in asked:
            if journal.scores_of(settings) is None:
                new[json.dumps(settings, sort_keys=True)] = settings
        if new:
            evaluate(list(new.values()), journal.note)
        for trial, settings in asked:
            scores = journal.scores_of(settings)
            if scores is None:
                raise RuntimeError(f"no answer for {settings}")
            study.tell(trial, list(scores.objectives))
            told.append((settings, scores))
        done(first + config.round_size)
    points = [scores.objectives for _, scores in told]
    return [
        TrialResult(number, settings, scores, not any(_dominates(other, points[number]) for other in points))
        for number, (settings, scores) in enumerate(told)
    ]


def _sampler(seed: int, number: int) -> optuna.samplers.BaseSampler:
    trial_seed = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(seed=trial_seed, multivariate=True, n_startup_trials=STARTUP)


def _settings(config: SweepConfig, trial: optuna.Trial) -> Settings:
    return {
        "agents": trial.suggest_categorical("agents", list(config.agents)),
        "depth": trial.suggest_categorical("depth", list(config.depth)),
        "breadth": trial.suggest_categorical("breadth", list(config.breadth)),
        "temperature": trial.suggest_categorical("temperature", list(config.temperature)),
    }


def _dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] >= other[0] and one[1] <= other[1] and one != other

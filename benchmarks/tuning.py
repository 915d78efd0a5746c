"""Equal tuning budgets: the same settings tried for every model of a leaderboard, in the validation period.

What a board's file has under `tune` is the grid: for each of rate, schedule, batch, epochs and width (as in
`experiment.tuned`) the values to try. Trials are drawn from it once, and every model gets the same ones, the board's
own settings first. A trial is a training of the project's own with the first seed; its worth is its best AUC in the
validation period. Trials are kept by the digest of all that they depend on, so that a second start goes on.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from hisac_lab.base.artifacts import digest_of, sha256_tree, write_file, write_json
from hisac_lab.base.code import OURS
from hisac_lab.base.stages import Artifacts
from hisac_lab.cli.params import Params
from hisac_lab.config.train import TunedConfig
from hisac_lab.events.store import EventStore
from hisac_lab.inference.items import load_items
from hisac_lab.inference.loader import Loader
from hisac_lab.inference.runtime import Runtime
from hisac_lab.models.catalog import build
from hisac_lab.ops.choice import highest
from hisac_lab.training.loop import train
from hisac_lab.training.train import requests_to_learn

Tuned = dict[str, Any]
"""Settings of one trial; none: the board's own."""


@dataclass(frozen=True)
class Trials:
    """What was tried on a board.

    Attributes:
        trials: The settings, the same for every model; the first are the board's own.
        valid_auc: Of each model, the AUC in the validation period by trial.
    """

    trials: list[Tuned]
    valid_auc: dict[str, list[float]]

    @property
    def tuned(self) -> dict[str, Tuned]:
        """Of each model the trial with the highest AUC, as rounded; of equals the first."""
        places = range(len(self.trials))
        best = {name: highest(places, aucs.__getitem__, int) for name, aucs in self.valid_auc.items()}
        return {name: self.trials[place] for name, place in best.items() if self.trials[place]}

    @classmethod
    def read(cls, path: Path) -> Trials:
        """What `write` has written."""
        content = yaml.safe_load(path.read_text())
        return cls(content["trials"], content["valid_auc"])

    def write(self, path: Path, command: str) -> None:
        """A file of settings beside the board's own."""
        content = {"tuned": self.tuned, "trials": self.trials, "valid_auc": self.valid_auc}
        head = f"# Made by `{command}`: AUC in the validation period of every trial, and what it chooses.\n"
        write_file(path, head + yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=120))

    def rows(self) -> list[list[str]]:
        """A row for each model: the AUC of each trial, the chosen one marked."""
        rows = []
        for name, aucs in self.valid_auc.items():
            chosen = self.tuned.get(name, {})
            cells = [
                f"**{auc:.4f}**" if trial == chosen else f"{auc:.4f}"
                for trial, auc in zip(self.trials, aucs, strict=True)
            ]
            rows.append([name, *cells])
        return rows


def draw(grid: dict[str, list[Any]], number: int, seed: int = 0) -> list[Tuned]:
    """The board's own settings, and the rest of `number` trials drawn from the grid, each at most once.

    Args:
        grid: Values of each setting.
        number: Of trials.
        seed: Of the draw.
    """
    every = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    order = np.random.default_rng(seed).permutation(len(every))
    return [{}, *(every[place] for place in order[: number - 1])]


def try_one(folder: Path, settings: dict[str, Any], model: str, trial: Tuned) -> float:
    """AUC in the validation period of one trial, from what is kept or from a training.

    Args:
        folder: Of the board, its stages run up to those that training reads.
        settings: Of the board.
        model: Its name.
        trial: What differs.
    """
    made, params = Artifacts(folder / "artifacts"), Params.model_validate_json(json.dumps(settings))
    by_hand = params.experiment.tuned.get(model, TunedConfig())
    tuned = TunedConfig.model_validate_json(json.dumps(trial))
    config, section = params.models[model], tuned.over(by_hand.over(params.train))
    backbone = tuned.over(by_hand.over(params.backbone))
    inputs = [sha256_tree(path) for path in (made.prepare, made.embed, made.codebook, made.instances) if path.exists()]
    parts = (config, backbone, section, params.compute)
    code = OURS.digest("hisac_lab.training.loop", type(config).__module__)
    key = digest_of([[part.model_dump(mode="json") for part in parts], inputs, code])
    kept = folder / "tune" / f"{model}-{key}.json"
    if kept.exists():
        return float(json.loads(kept.read_text())["valid_auc"])
    runtime = Runtime.start(params.compute)
    items = load_items(prepared=made.prepare, embedded=made.embed, codebook=made.codebook)
    store, seed = EventStore.open(made.prepare), params.experiment.seeds[0]
    built = build(config, backbone, items, seed)
    requests = requests_to_learn(store, section, seed)
    train_loader, valid_loader = (Loader.of(built, part, runtime, made.instances) for part in requests)
    what = f"tune {model} " + (", ".join(f"{name} {value}" for name, value in trial.items()) or "as the board has it")
    progress = train(built, train_loader, valid_loader, section, seed, what, kept.with_suffix(""))
    write_json(kept, {"valid_auc": round(progress.best_auc, 6), "trial": trial})
    return round(progress.best_auc, 6)


def tune(folder: Path, settings: dict[str, Any], grid: dict[str, list[Any]], number: int, workers: int) -> Trials:
    """Tries the same settings for every model of the board.

    Args:
        folder: Of the board.
        settings: Of the board, with nothing tuned but the labels that its controls learn from.
        grid: Values to try.
        number: Trials of each model.
        workers: Processes at once; the result does not depend on it.
    """
    trials, models = draw(grid, number), settings["experiment"]["models"]
    pairs = list(itertools.product(models, trials))
    if workers == 1:
        aucs = [try_one(folder, settings, model, trial) for model, trial in pairs]
    else:
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            jobs = [pool.submit(try_one, folder, settings, model, trial) for model, trial in pairs]
            aucs = [job.result() for job in jobs]
    return Trials(trials, {name: aucs[at * len(trials) : (at + 1) * len(trials)] for at, name in enumerate(models)})

"""Reads the artifacts of a finished run into one frozen structure."""

from __future__ import annotations

from pathlib import Path

from hisac_lab.abtest.records import ABTested, ABTests
from hisac_lab.base.artifacts import sha256_tree
from hisac_lab.base.errors import UserError
from hisac_lab.base.records import Output
from hisac_lab.base.stages import SHOWN, Artifacts
from hisac_lab.codebook.counting import Election
from hisac_lab.codebook.records import CodebookFacts
from hisac_lab.config.promotion import PromotionConfig
from hisac_lab.evaluation.records import Evaluated, Readings, Scores
from hisac_lab.events.feedback import VotesFrom
from hisac_lab.events.records import Prepared
from hisac_lab.inference.records import CARD, CURVE, Claim, Point, Trained
from hisac_lab.registry.records import Evidence, Registered
from hisac_lab.report.facts import Facts, Run, Sweep, ranked
from hisac_lab.report.token_collect import CodebookReader
from hisac_lab.sources.records import Acquired
from hisac_lab.sweep.records import ABLATION, Ablated, Best, Swept, Trial
from hisac_lab.tokens.records import Embedded, Tokenized

USUAL_AGENTS = 32
"""Agents of the example, where no model with agents was swept."""


def collect(artifacts: Artifacts, promotion: PromotionConfig) -> Facts:
    """Reads everything the report shows; `register` alone may be missing, and with it gates and fidelity cards.

    Args:
        artifacts: Outputs of the stages.
        promotion: Settings of the gates.

    Raises:
        UserError: A stage has not run, or its output is not what this version writes.
    """
    book = CodebookFacts.open(artifacts.codebook)
    sweeps = _sweeps(artifacts)
    reader = CodebookReader(prepared=artifacts.prepare, embedded=artifacts.embed, codebook=artifacts.codebook)
    scores, readings = Scores.open(artifacts.evaluate), Readings.open(artifacts.evaluate)
    runs = {
        f"train {name}, seed {seed}": artifacts.run(name, seed)
        for name, model in sorted(scores.models.items())
        for seed in sorted(model.seeds)
    }
    outputs = _outputs(artifacts, runs, [sweep.swept.model for sweep in sweeps])
    return Facts(
        acquired=Acquired.open(artifacts.acquire),
        prepared=Prepared.open(artifacts.prepare),
        embedded=Embedded.open(artifacts.embed),
        tokenized=Tokenized.open(artifacts.tokenize),
        book=book,
        tiles=reader.tiles(),
        portrait=reader.portrait(*_election(sweeps), readings, _told(readings, ranked(scores))),
        sweeps=sweeps,
        runs=tuple(_run(path) for path in runs.values()),
        evaluated=Evaluated.open(artifacts.evaluate),
        scores=scores,
        abtested=ABTested.open(artifacts.abtest),
        tests=ABTests.open(artifacts.abtest),
        cards=_cards(artifacts, sorted(scores.models)),
        digests={name: sha256_tree(path) if path.exists() else None for name, path in outputs.items()},
        arithmetic={name: Output.open(path).arithmetic for name, path in outputs.items() if path.exists()},
        evidence=_evidence(artifacts, list(scores.models)),
        promotion=promotion,
        pipeline=Registered.open(artifacts.register).pipeline if artifacts.register.exists() else "",
    )


def _run(path: Path) -> Run:
    return Run.of(Trained.open(path).facts() | {"curve": Point.read_lines(path / CURVE)}, path)


def _cards(artifacts: Artifacts, models: list[str]) -> dict[str, tuple[Claim, ...]]:
    paths = {name: artifacts.bundle(name) / CARD for name in models}
    return {name: Claim.read_list(path) for name, path in paths.items() if path.exists()}


def _evidence(artifacts: Artifacts, models: list[str]) -> dict[str, Evidence]:
    if not artifacts.register.exists():
        return {}
    return {name: Evidence.open(artifacts.bundle(name)) for name in models if artifacts.bundle(name).exists()}


def _sweeps(artifacts: Artifacts) -> tuple[Sweep, ...]:
    """The sweep of each model.

    Raises:
        UserError: There is none.
    """
    folders = artifacts.sweeps()
    if not folders:
        raise UserError(artifacts.sweep, "holds no sweep", "run the stage that makes it")
    return tuple(_swept(place, path) for place, path in enumerate(folders, 1))


def _swept(place: int, path: Path) -> Sweep:
    """One sweep, and its table of ablations where it is one."""
    rows = Ablated.read_list(path / ABLATION) if (path / ABLATION).exists() else ()
    return Sweep(place, Swept.open(path), Trial.read_table(path), Best.open(path), rows)


def _told(readings: Readings, ranking: list[str]) -> list[str]:
    """The best model that has agents and the best that keeps votes of nodes; they may be one."""
    read = [(name, candidates) for name in ranking if (candidates := readings.models.get(name))]
    having = {
        "agents": [name for name, candidates in read if any(one.agents for one in candidates)],
        "votes": [name for name, candidates in read if any(one.votes for one in candidates)],
    }
    return list(dict.fromkeys(names[0] for names in having.values() if names))


def _outputs(artifacts: Artifacts, runs: dict[str, Path], swept: list[str]) -> dict[str, Path]:
    """The output of each stage, sweep and training run, in the order of the graph."""
    several = {"train": runs, "sweep": {f"sweep {name}": artifacts.swept(name) for name in swept}}
    paths: dict[str, Path] = {}
    for stage in SHOWN:
        paths |= several.get(stage) or {stage: artifacts.at(stage)}
    return paths


def _election(sweeps: tuple[Sweep, ...]) -> tuple[Election, VotesFrom]:
    """How the first swept model with agents elects them, and which events vote; else 32 nodes of the first level."""
    for sweep in sweeps:
        budgets, settings = sweep.swept.budgets, sweep.best.settings
        if budgets:
            wanted = settings["agents"] if settings["fill"] else None
            return Election(tuple(budgets), settings["vote"], wanted, settings["keep_votes"]), settings["votes_from"]
    return Election((USUAL_AGENTS,), "tree"), "positives"

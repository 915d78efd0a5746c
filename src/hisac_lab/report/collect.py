"""Reads the artifacts of a finished run into one frozen structure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hisac_lab.abtest.records import ABTested, ABTests
from hisac_lab.base.artifacts import sha256_tree
from hisac_lab.base.records import Output
from hisac_lab.base.stages import SHOWN, Artifacts
from hisac_lab.codebook.counting import Election
from hisac_lab.codebook.records import CodebookFacts
from hisac_lab.evaluation.records import Evaluated, Scores
from hisac_lab.events.feedback import VotesFrom
from hisac_lab.events.records import Prepared
from hisac_lab.inference.records import CARD, CURVE, Claim, Point, Trained
from hisac_lab.report.facts import Facts, Run
from hisac_lab.report.token_collect import CodebookReader
from hisac_lab.sources.records import Acquired
from hisac_lab.sweep.records import Best, Swept, Trial
from hisac_lab.tokens.records import Embedded, Tokenized


def collect(artifacts: Artifacts) -> Facts:
    """Reads everything the report shows; `register` alone may be missing, and with it the fidelity cards.

    Raises:
        UserError: A stage has not run, or its output is not what this version writes.
    """
    book = CodebookFacts.open(artifacts.codebook)
    swept = Swept.open(artifacts.sweep)
    reader = CodebookReader(prepared=artifacts.prepare, embedded=artifacts.embed, codebook=artifacts.codebook)
    scores = Scores.open(artifacts.evaluate)
    runs = {
        f"train {name}, seed {seed}": artifacts.run(name, seed)
        for name, model in sorted(scores.models.items())
        for seed in sorted(model.seeds)
    }
    outputs = _outputs(artifacts, runs)
    return Facts(
        acquired=Acquired.open(artifacts.acquire),
        prepared=Prepared.open(artifacts.prepare),
        embedded=Embedded.open(artifacts.embed),
        tokenized=Tokenized.open(artifacts.tokenize),
        book=book,
        tiles=reader.tiles(),
        portrait=reader.portrait(*_election(swept, Best.open(artifacts.sweep).settings)),
        swept=swept,
        trials=Trial.read_table(artifacts.sweep),
        runs=tuple(_run(path) for path in runs.values()),
        evaluated=Evaluated.open(artifacts.evaluate),
        scores=scores,
        abtested=ABTested.open(artifacts.abtest),
        tests=ABTests.open(artifacts.abtest),
        cards=_cards(artifacts, sorted(scores.models)),
        digests={name: sha256_tree(path) if path.exists() else None for name, path in outputs.items()},
        arithmetic={name: Output.open(path).arithmetic for name, path in outputs.items() if path.exists()},
    )


def _run(path: Path) -> Run:
    return Run.of(Trained.open(path).facts() | {"curve": Point.read_lines(path / CURVE)}, path)


def _cards(artifacts: Artifacts, models: list[str]) -> dict[str, tuple[Claim, ...]]:
    paths = {name: artifacts.bundle(name) / CARD for name in models}
    return {name: Claim.read_list(path) for name, path in paths.items() if path.exists()}


def _outputs(artifacts: Artifacts, runs: dict[str, Path]) -> dict[str, Path]:
    """The output of each stage and training run, in the order of the graph."""
    paths: dict[str, Path] = {}
    for stage in SHOWN:
        paths |= runs if stage == "train" else {stage: artifacts.at(stage)}
    return paths


def _election(swept: Swept, settings: dict[str, Any]) -> tuple[Election, VotesFrom]:
    """How the swept model elects agents, and which events vote."""
    wanted = settings["agents"] if settings["fill"] else None
    election = Election(tuple(swept.budgets), settings["vote"], wanted, settings["keep_votes"])
    return election, settings["votes_from"]

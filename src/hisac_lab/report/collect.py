"""Reads the artefacts of a finished run into one frozen structure."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from hisac_lab.base.artifacts import MANIFEST, read_json, read_manifest, sha256_tree
from hisac_lab.base.errors import UserError, explain_os_error
from hisac_lab.report import facts, token_facts
from hisac_lab.report.facts import Facts, Trial
from hisac_lab.report.record import Record
from hisac_lab.report.token_collect import CodebookReader

MEND = "run the stage that makes it again"

AnyRecord = TypeVar("AnyRecord", bound=Record)


@dataclass(frozen=True)
class Inputs:
    """Outputs of the stages: one directory each.

    Attributes:
        train: Folder with one directory per training run, `MODEL-SEED`.
        register: The one that may be missing; fidelity cards come from it, `MODEL/card.json`.
    """

    acquire: Path
    prepare: Path
    embed: Path
    tokenize: Path
    codebook: Path
    sweep: Path
    instances: Path
    train: Path
    evaluate: Path
    abtest: Path
    register: Path


def collect(inputs: Inputs) -> Facts:
    """Reads everything the report shows.

    Raises:
        UserError: A stage has not run, or its output is not what this version writes.
    """
    book = _manifest(token_facts.Book, inputs.codebook)
    swept = _manifest(facts.Swept, inputs.sweep)
    reader = CodebookReader(inputs.prepare, inputs.embed, inputs.codebook)
    scores = _parse(facts.Scores, inputs.evaluate / "metrics.json")
    runs = {
        (name, int(seed)): inputs.train / f"{name}-{seed}"
        for name, model in sorted(scores.models.items())
        for seed in sorted(model.seeds, key=int)
    }
    made = _made(inputs, runs)
    return Facts(
        acquired=_manifest(facts.Acquired, inputs.acquire),
        prepared=_manifest(facts.Prepared, inputs.prepare),
        embedded=_manifest(token_facts.Embedded, inputs.embed),
        tokenized=_manifest(token_facts.Tokenized, inputs.tokenize),
        book=book,
        tiles=reader.tiles(),
        portrait=reader.portrait(swept.budgets),
        swept=swept,
        trials=_trials(inputs.sweep / "trials.csv"),
        runs=tuple(_run(path) for path in runs.values()),
        evaluated=_manifest(facts.Evaluated, inputs.evaluate),
        scores=scores,
        abtested=_manifest(facts.ABTested, inputs.abtest),
        tests=_parse(facts.Tests, inputs.abtest / "abtest.json"),
        cards=_cards(inputs.register, sorted(scores.models)),
        digests={name: sha256_tree(path) if path.exists() else None for name, path in made.items()},
        arithmetic={name: _manifest(facts.Made, path).arithmetic for name, path in made.items() if path.exists()},
    )


def _record(kind: type[AnyRecord], content: Any, where: Path) -> AnyRecord:
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(step) for step in first["loc"])
        raise UserError(where, first["msg"].lower(), MEND, field or None) from error


def _manifest(kind: type[AnyRecord], directory: Path) -> AnyRecord:
    return _record(kind, read_manifest(directory), directory / MANIFEST)


def _parse(kind: type[AnyRecord], path: Path) -> AnyRecord:
    return _record(kind, read_json(path), path)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise explain_os_error(error, path) from error


def _run(path: Path) -> facts.Run:
    manifest = read_manifest(path)
    try:
        curve = [json.loads(line) for line in _lines(path / "curve.jsonl")]
    except ValueError as error:
        raise UserError(path / "curve.jsonl", f"is not JSON lines ({error})", MEND) from error
    return _record(facts.Run, manifest | {"curve": curve}, path / MANIFEST)


def _trials(path: Path) -> tuple[Trial, ...]:
    """trials.csv; every column that is no score is a setting."""
    trials = []
    for row in csv.DictReader(_lines(path)):
        try:
            number, auc, standard_error, cost, on_front = (
                row.pop(name) for name in ("number", "auc", "standard_error", "cost", "on_front")
            )
        except KeyError as error:
            raise UserError(path, "is missing", MEND, str(error.args[0])) from error
        trials.append(Trial(int(number), row, float(auc), float(standard_error), float(cost), on_front == "True"))
    return tuple(trials)


def _cards(register: Path, models: list[str]) -> dict[str, tuple[facts.CardLine, ...]]:
    paths = {name: register / name / "card.json" for name in models}
    return {
        name: tuple(_record(facts.CardLine, line, path) for line in read_json(path))
        for name, path in paths.items()
        if path.exists()
    }


def _made(inputs: Inputs, runs: dict[tuple[str, int], Path]) -> dict[str, Path]:
    """Output of each stage and training run, in the order of the graph."""
    stages = ("acquire", "prepare", "embed", "tokenize", "codebook", "sweep", "instances")
    paths: dict[str, Path] = {name: getattr(inputs, name) for name in stages}
    paths |= {f"train {name}, seed {seed}": path for (name, seed), path in runs.items()}
    return paths | {"evaluate": inputs.evaluate, "abtest": inputs.abtest, "register": inputs.register}

"""Reads the artefacts of a finished run into one frozen structure."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from pydantic import ValidationError

from hisac_lab.base.artifacts import MANIFEST, load_array, read_json, read_manifest, sha256_tree
from hisac_lab.base.errors import UserError, explain_os_error
from hisac_lab.report import facts
from hisac_lab.report.facts import Facts, Group, Record, Trial

GROUPS, TITLES = 6, 5
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
    train: Path
    evaluate: Path
    abtest: Path
    register: Path


def collect(inputs: Inputs) -> Facts:
    """Reads everything the report shows.

    Raises:
        UserError: A stage has not run, or its output is not what this version writes.
    """
    book = _manifest(facts.Book, inputs.codebook)
    scores = _parse(facts.Scores, inputs.evaluate / "metrics.json")
    runs = {
        (name, int(seed)): inputs.train / f"{name}-{seed}"
        for name, model in sorted(scores.models.items())
        for seed in sorted(model.seeds, key=int)
    }
    return Facts(
        acquired=_manifest(facts.Acquired, inputs.acquire),
        prepared=_manifest(facts.Prepared, inputs.prepare),
        embedded=_manifest(facts.Embedded, inputs.embed),
        tokenized=_manifest(facts.Tokenized, inputs.tokenize),
        book=book,
        groups=_groups(inputs),
        swept=_manifest(facts.Swept, inputs.sweep),
        trials=_trials(inputs.sweep / "trials.csv"),
        runs=tuple(_run(path) for path in runs.values()),
        evaluated=_manifest(facts.Evaluated, inputs.evaluate),
        scores=scores,
        abtested=_manifest(facts.ABTested, inputs.abtest),
        tests=_parse(facts.Tests, inputs.abtest / "abtest.json"),
        cards=_cards(inputs.register, sorted(scores.models)),
        digests=_digests(inputs, runs),
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
            number, auc, cost, on_front = (row.pop(name) for name in ("number", "auc", "cost", "on_front"))
        except KeyError as error:
            raise UserError(path, "is missing", MEND, str(error.args[0])) from error
        trials.append(Trial(int(number), row, float(auc), float(cost), on_front == "True"))
    return tuple(trials)


def _groups(inputs: Inputs) -> tuple[Group, ...]:
    """The first-level nodes with most items, each with the titles nearest to its vector."""
    table = inputs.prepare / "items.parquet"
    try:
        items = pd.read_parquet(table)
    except OSError as error:
        raise explain_os_error(error, table) from error
    titles = items["title" if "title" in items else "text"].astype(str)
    nodes = np.asarray(load_array(inputs.codebook, "item_nodes"))[:, 0]
    vectors = load_array(inputs.codebook, "vectors_0")
    embeddings = load_array(inputs.embed, "embeddings")
    counts = np.bincount(nodes[nodes >= 0], minlength=len(vectors))
    groups = []
    for node in np.argsort(-counts, kind="stable")[:GROUPS].tolist():
        members = np.flatnonzero(nodes == node)
        distance = ((embeddings[members] - vectors[node]) ** 2).sum(axis=1)
        nearest = members[np.argsort(distance, kind="stable")[:TITLES]]
        groups.append(Group(node, len(members), tuple(titles.iloc[nearest])))
    return tuple(groups)


def _cards(register: Path, models: list[str]) -> dict[str, tuple[facts.CardLine, ...]]:
    paths = {name: register / name / "card.json" for name in models}
    return {
        name: tuple(_record(facts.CardLine, line, path) for line in read_json(path))
        for name, path in paths.items()
        if path.exists()
    }


def _digests(inputs: Inputs, runs: dict[tuple[str, int], Path]) -> dict[str, str | None]:
    stages = ("acquire", "prepare", "embed", "tokenize", "codebook", "sweep")
    paths: dict[str, Path] = {name: getattr(inputs, name) for name in stages}
    paths |= {f"train {name}, seed {seed}": path for (name, seed), path in runs.items()}
    paths |= {"evaluate": inputs.evaluate, "abtest": inputs.abtest, "register": inputs.register}
    return {name: sha256_tree(path) if path.exists() else None for name, path in paths.items()}

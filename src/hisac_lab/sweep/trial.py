"""One trial: what its point means on the codebook at hand, its training, its quality and its cost."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from hisac_lab.base.artifacts import Array, digest_of, stage_output
from hisac_lab.base.errors import SETTINGS, UserError
from hisac_lab.codebook.build import build_codebook
from hisac_lab.codebook.records import CodebookFacts
from hisac_lab.codebook.votes import split_budget
from hisac_lab.config.compute import ComputeConfig
from hisac_lab.config.model import ModelConfig
from hisac_lab.config.sweep import Point
from hisac_lab.config.tokens import TokenizeConfig
from hisac_lab.evaluation.cost import count
from hisac_lab.evaluation.metrics import draw_users
from hisac_lab.evaluation.records import ServingCost
from hisac_lab.events.batches import Requests, epoch_order
from hisac_lab.events.store import EventStore
from hisac_lab.inference.items import load_items
from hisac_lab.inference.loader import Loader, score
from hisac_lab.inference.runtime import Runtime
from hisac_lab.models.catalog import build
from hisac_lab.models.fitted import Fitted
from hisac_lab.models.hisac import HiSACConfig
from hisac_lab.ops.auc import weighted_auc
from hisac_lab.ops.ranks import dense_rank
from hisac_lab.sweep.draw import Resolved
from hisac_lab.sweep.records import Outcome
from hisac_lab.sweep.space import Base
from hisac_lab.sweep.study import Job
from hisac_lab.tokens.tokenize import tokenize
from hisac_lab.training.loop import train

RESAMPLES = 200  # of the users of the validation period, the same for every trial


@dataclass(frozen=True)
class TrialTask:
    """What every trial shares, in a form that travels to a worker process.

    Attributes:
        base: Settings that points change; `train` has the sweep's number of epochs.
        compute: The section `compute`.
        share: Share of the training requests, the latest.
        seed: Of the resamples of the users.
        prepared: Output of the stage `prepare`.
        embedded: Output of the stage `embed`.
        codebook: Output of the stage `codebook`.
        work: What survives a kill: codebooks of trials, checkpoints where there is pruning.
        max_state_bytes: Gate on the bytes of user state; None: any.
        max_request_macs: Gate on the multiply-adds of a whole request; None: any.
    """

    base: Base
    compute: ComputeConfig
    share: float
    seed: int
    prepared: Path
    embedded: Path
    codebook: Path
    work: Path
    max_state_bytes: float | None = None
    max_request_macs: float | None = None


@dataclass(frozen=True)
class Trained:
    """What a training takes: settings, and the codebook they are trained on."""

    base: Base
    codebook: Path


def resolve(task: TrialTask, point: Point) -> Resolved:
    """What a point means: its settings as a whole, the agents that the codebook has, the codebook itself.

    A codebook with other settings than the graph's is made here, by the stages' own functions, and kept by digest.
    """
    try:
        base = task.base.at(point)
        codebook = codebook_of(task, base.tokenize)
        facts = CodebookFacts.open(codebook)
        model, cut = fitted(base.model, facts.nodes)
    except UserError as error:
        return Resolved(digest_of(point), reason=_said(error))
    base = replace(base, model=model)
    parts = [part.model_dump(mode="json") for part in (base.backbone, base.train)]
    key = digest_of([facts.digest, *parts, identity(model, facts.nodes)])
    return Resolved(key, cut, Trained(base, codebook))


def codebook_of(task: TrialTask, config: TokenizeConfig) -> Path:
    """The graph's codebook, or one of these settings.

    Raises:
        UserError: The embeddings cannot carry it, or its quality gate closes.
    """
    if config == task.base.tokenize:
        return task.codebook
    home = task.work / "codebooks" / digest_of(config.model_dump(mode="json"))
    if not (home / "tokenize").exists():
        with stage_output(home / "tokenize") as out:
            tokenize(config, prepared=task.prepared, embedded=task.embedded, out=out)
    if not (home / "codebook").exists():
        with stage_output(home / "codebook") as out:
            build_codebook(tokenized=home / "tokenize", out=out)
    return home / "codebook"


def fitted(model: ModelConfig, nodes: list[int]) -> tuple[ModelConfig, dict[str, tuple[int, int]]]:
    """A model with no more agents than its depth has leaves, and what was cut.

    Raises:
        UserError: It is deeper than the codebook.
    """
    if not isinstance(model, HiSACConfig):
        return model, {}
    depth = model.depth or len(nodes)
    if depth > len(nodes):
        what = f"depth {depth} is deeper than the codebook's {len(nodes)}"
        raise UserError(SETTINGS, what, "lower it", "sweep.space")
    leaves = nodes[depth - 1]
    if model.budgets is not None or model.agents <= leaves:
        return model, {}
    return model.model_copy(update={"agents": leaves}), {"agents": (model.agents, leaves)}


def identity(model: ModelConfig, nodes: list[int]) -> dict[str, Any]:
    """Settings as far as they make a difference: equal for two that are one model.

    Where the leaves with most votes of all are taken, as at depth 1, a tree's budgets tell no more than how many these
    are; what another switch leaves unread tells nothing.
    """
    settings = model.model_dump(mode="json")
    if not isinstance(model, HiSACConfig):
        return settings
    depth = model.depth or len(nodes)
    budgets = model.budgets or split_budget(model.agents, depth, model.breadth)
    places = model.wanted if model.fill else math.prod(budgets)
    if model.every_leaf:
        places = nodes[depth - 1]
    flat = model.vote == "flat" or depth == 1 or model.every_leaf
    unread = {
        "breadth": True,
        "budgets": flat,
        "fill": flat,
        "every_leaf": True,
        "keep_votes": model.every_leaf,
        "temperature": model.routing == "hard",
        "softmax_over": model.routing == "hard",
        "weight_temperature": model.weight == "none",
        "half_lives": not model.facts and not model.sums,
    }
    vote = "flat" if flat else "tree"
    return (
        settings
        | {"depth": depth, "agents": places, "vote": vote, "budgets": list(budgets)}
        | {name: None for name, idle in unread.items() if idle}
    )


def run_trial(task: TrialTask, job: Job) -> Outcome:
    """Runs one training; whatever it ends with, the study goes on.

    Raises:
        OSError: The disk is at fault, not the trial.
        UserError: The same, explained.
    """
    begin, started = time.process_time(), datetime.now(UTC)
    try:
        outcome = _run(task, job)
    except UserError as error:
        if isinstance(error.__cause__, OSError):
            raise
        outcome = Outcome(state="failed", reason=_said(error))
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 - the reason is recorded, other trials may do better
        outcome = Outcome(state="failed", reason=" ".join(f"{type(error).__name__}: {error}".split()))
    return outcome.model_copy(
        update={
            "cpu_seconds": round(time.process_time() - begin, 3),
            "started": started.isoformat(timespec="milliseconds"),
            "ended": datetime.now(UTC).isoformat(timespec="milliseconds"),
        }
    )


def _said(error: UserError) -> str:
    return f"{error.field}: {error.what}" if error.field else error.what


def _run(task: TrialTask, job: Job) -> Outcome:
    """Validation AUC of one training, also on resampled users, and its cost.

    The resamples are those of all trials of this study, so that the error of a difference can be paired.
    """
    asked: Trained = job.resolved.settings
    base, config = asked.base, asked.base.train
    runtime = Runtime.start(task.compute)
    items = load_items(prepared=task.prepared, embedded=task.embedded, codebook=asked.codebook)
    store = EventStore.open(task.prepared)
    model = build(base.model, base.backbone, items, job.seed)
    since = begin_of_latest(store.samples("train"), task.share)
    requests = Requests.to_learn(store, "train", config.max_candidates, model.tasks, since)
    valid = Requests.of(store, store.samples("valid"), config.max_candidates)
    loader, valid_loader = Loader.of(model, requests, runtime), Loader.of(model, valid, runtime)
    cost = None if isinstance(model, Fitted) else count(model.to(runtime.device), valid_loader)
    if cost is not None and (reason := _over(task, cost)):
        return Outcome(state="over", reason=reason, cost=cost)
    work, last = None, None
    if job.resumes:
        per_epoch = len(epoch_order(requests.lengths, config.batch_requests, job.seed, 0))
        work = task.work / "checkpoints" / f"{job.resolved.key}-{job.seed}"
        config = config.model_copy(update={"checkpoint_every": per_epoch})
        last = None if job.epochs is None else job.epochs * per_epoch - 1
    what = f"sweep {job.name}" + (f", seed {job.seed}" if job.seed != task.seed else "")
    progress = train(model, loader, valid_loader, config, job.seed, what, work, on_step=lambda step, loss: step == last)
    cost = cost or count(model, valid_loader)
    if job.epochs is not None:
        return Outcome(state="complete", aucs=(round(progress.best_auc, 6),), cost=cost)
    logits = score(model, valid_loader.counted(model))[valid.mask]
    user = dense_rank(np.repeat(valid.user, valid.mask.sum(axis=1)))
    weights = draw_users(int(user.max()) + 1, RESAMPLES, task.seed)
    aucs = weighted_auc(valid.labels[valid.mask], logits, weights, user)
    return Outcome(state="complete", aucs=tuple(round(float(auc), 6) for auc in aucs), cost=cost)


def begin_of_latest(samples: Array, share: float) -> int:
    """When the last share of the samples begins, seconds; samples of one time stay together."""
    return int(np.sort(samples["time"])[int(len(samples) * (1 - share))])


def _over(task: TrialTask, cost: ServingCost) -> str | None:
    """Why a trial does not pass the gates."""
    for what, value, gate, key in (
        ("bytes of user state", cost.state_bytes, task.max_state_bytes, "max_state_bytes"),
        ("multiply-adds of a request", cost.request_macs, task.max_request_macs, "max_request_macs"),
    ):
        if gate is not None and value > gate:
            return f"{value:,.0f} {what} are above sweep.{key} {gate:,.0f}"
    return None

"""What the golden losses are made of: the models' own golden settings, requests and items drawn here."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from kit import CPU

from hisac_lab.codebook.build import grow
from hisac_lab.codebook.flat import FlatBook
from hisac_lab.config.model import BackboneConfig, ModelConfig
from hisac_lab.config.train import TrainConfig
from hisac_lab.events.batches import Requests
from hisac_lab.events.feedback import Levels
from hisac_lab.events.instances import InstanceQuery, InstanceStore, InstanceView
from hisac_lab.events.records import EXPOSURES, POSITIVES, ContextFacts, Prepared
from hisac_lab.events.series import ItemSeries
from hisac_lab.events.store import EventStore
from hisac_lab.inference.loader import Loader
from hisac_lab.inference.sides import CandidateContext, Side, StoredInstances
from hisac_lab.models import catalog
from hisac_lab.models.backbone import Ranker
from hisac_lab.models.catalog import build
from hisac_lab.models.contract import ItemSpace
from hisac_lab.tokens.quantizer import ResidualQuantizer
from hisac_lab.training.loop import train

STEPS = 20
BACKBONE = BackboneConfig(
    dim=16, short_window=10, attention_hidden=16, tower=(32, 16), dropout=0.1, features=("length",)
)
TRAIN = TrainConfig(
    epochs=2,
    batch_requests=64,
    max_candidates=4,
    learning_rate=0.002,
    embedding_learning_rate=0.05,
    weight_decay=0.0001,
    checks_per_epoch=2,
    checkpoint_every=100,
)
MODELS: dict[str, ModelConfig] = {
    name: config for kind in catalog.BUILT_IN.values() for name, config in kind.golden.items()
}
FEEDBACK = "_with_feedback"
MODELS |= {f"{name}{FEEDBACK}": MODELS[name] for name in ("din_50", "sim_soft", "hisac", "votes_exposures")}
CONTEXT = "_with_context"
MODELS |= {f"{name}{CONTEXT}": MODELS[name] for name in ("hisac",)}
"""Golden settings by name; the last ones again, on histories whose events carry feedback of five levels, and told the
context of candidates beside."""
LEVELS = Levels(begins=[1.0, 2.0, 3.0, 4.0, 5.0], positive=4)
FACTS = ContextFacts(half_lives=(1.0, 7.0, 30.0), series=(POSITIVES, EXPOSURES), share=0.4)
FEATURES = ("length", "recency", "pace", "rate", "item_recency", "popularity", "item_rate", "pair")


def make_items(random: np.random.Generator) -> ItemSpace:
    """Ninety items in six genres of three kinds: fields, noisy vectors, and IDs of genre, kind and a drawn code.

    The genres are a flat codebook too.
    """
    number = np.arange(90)
    codes = np.stack([number % 6, number // 6 % 3, random.integers(0, 3, 90)], axis=1)
    codes[::29] = -1
    centers = (random.normal(size=(size, 12)) * weight for size, weight in ((6, 1.0), (3, 0.5), (3, 0.3)))
    words = tuple(center.astype(np.float32) for center in centers)
    known = codes[:, 0] >= 0
    vectors = sum(word[codes[:, level]] for level, word in enumerate(words)) + random.normal(0, 0.2, (90, 12))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True) * known[:, None]).astype(np.float32)
    fields = np.stack([number % 6, random.integers(0, 4, 90)], axis=1)
    book = grow(codes, ResidualQuantizer(words), flat={"flat_6": FlatBook(words[0], codes[:, 0].astype(np.int64))})
    return ItemSpace(torch.from_numpy(vectors), torch.from_numpy(fields), (6, 4), book)


def make_requests(random: np.random.Generator, users: int, requests: int) -> Requests:
    """Users who like one genre, with histories of up to 80 events; four candidates a request."""
    lengths = random.integers(5, 80, users)
    liked = random.integers(0, 6, users)
    owner = np.repeat(np.arange(users), lengths)
    stray = random.random(len(owner)) < 0.4
    items = np.where(stray, random.integers(0, 90, len(owner)), liked[owner] + 6 * random.integers(0, 15, len(owner)))
    offsets = np.r_[0, np.cumsum(lengths)]
    times = 10**9 + np.concatenate([np.sort(random.integers(0, 10**7, length)) for length in lengths])
    unknown = Prepared.model_construct()  # type: ignore[call-arg]
    store = EventStore(Path("nowhere"), unknown, items.astype(np.int32), times, offsets)
    user = np.repeat(np.arange(users), requests)
    end = offsets[user] + random.integers(0, lengths[user] + 1)
    time = np.where(end > offsets[user], times[np.maximum(end - 1, 0)], 10**9) + random.integers(1, 10**5, len(end))
    candidates = random.integers(0, 90, (len(end), 4))
    labels = (random.random(candidates.shape) < np.where(candidates % 6 == liked[user][:, None], 0.8, 0.2)).astype("f4")
    return Requests(store, offsets[user], end, time, candidates, labels, candidates >= 0, candidates, user)


def make_instances(requests: Requests) -> StoredInstances:
    """Each training request once as an instance, its vector drawn, its label a day late."""
    order, random = np.argsort(requests.time, kind="stable"), np.random.default_rng(0)
    vectors = np.tanh(random.normal(size=(len(order), 16))).astype(np.float32)
    users, times, labels = requests.user[order], requests.time[order], requests.labels[order, 0].astype(int)
    store = InstanceStore.of(users, times, requests.candidates[order, 0], labels, times + 86_400, vectors)
    return StoredInstances(InstanceView(store, InstanceQuery(8, 16)))


def add_feedback(requests: Requests, random: np.random.Generator) -> Requests:
    """The same requests; each event of their histories has one of five levels of feedback, or an unknown one."""
    feedback = random.integers(0, 6, len(requests.store.items)).astype(np.uint8)
    return dataclasses.replace(requests, store=dataclasses.replace(requests.store, feedback=feedback))


def make_context(model: Ranker, requests: Requests) -> CandidateContext:
    """What the events of all histories say of the candidates."""
    store, count = requests.store, model.catalog
    assert store.feedback is not None
    liked = LEVELS.positive <= store.feedback
    chosen = {POSITIVES: (store.items[liked], store.times[liked]), EXPOSURES: (store.items, store.times)}
    series = {name: ItemSeries.of(*events, count, FACTS.half_lives) for name, events in chosen.items()}
    return CandidateContext(model.context_columns, series)


def train_briefly(name: str, steps: int = STEPS) -> tuple[list[float], Ranker]:
    """Trains the model of this name; gives the loss of each step, and the model.

    Args:
        name: One of `MODELS`.
        steps: How many.
    """
    random = np.random.default_rng(0)
    items, requests, valid = make_items(random), make_requests(random, 40, 16), make_requests(random, 10, 4)
    told = name.endswith(CONTEXT)
    if told or name.endswith(FEEDBACK):
        items = dataclasses.replace(items, feedback=LEVELS)
        requests, valid = add_feedback(requests, random), add_feedback(valid, random)
    losses: list[float] = []

    def record(step: int, loss: float) -> bool:
        losses.append(loss)
        return len(losses) == steps

    sides: tuple[Side, ...] = ()
    if MODELS[name].needs_instances:
        sides, valid = (make_instances(requests),), dataclasses.replace(valid, user=valid.user * 0)
    backbone = BACKBONE
    if told:
        items = dataclasses.replace(items, context=FACTS)
        backbone = BACKBONE.model_copy(update={"features": FEATURES})
    model = build(MODELS[name], backbone, items, seed=0)
    context = [make_context(model, part) if told else None for part in (requests, valid)]
    train_loader, valid_loader = (
        Loader(part, CPU, sides, one) for part, one in zip((requests, valid), context, strict=True)
    )
    train(model, train_loader, valid_loader, TRAIN, 0, "golden", on_step=record)
    return losses, model

"""What is shown: from each pool the items that a trained model scores highest, or the most popular ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import special

from hisac_lab.abtest.people import Population
from hisac_lab.base.artifacts import Array
from hisac_lab.base.errors import UserError
from hisac_lab.events.batches import Requests
from hisac_lab.events.positives import popularity
from hisac_lab.events.store import EventStore
from hisac_lab.inference.bundle import load_model
from hisac_lab.inference.loader import Loader, score
from hisac_lab.inference.runtime import Runtime


def slates(
    run: Path,
    store: EventStore,
    people: Population,
    pools: Array,
    slate: int,
    runtime: Runtime,
    instances: Path | None = None,
) -> Array:
    """The policy of one training run: places in each pool of the items it scores highest, in order.

    Args:
        run: Folder of the training run.
        store: The events.
        people: T users and their moments.
        pools: (T, visits, pool).
        slate: Items to show.
        runtime: Device and number format.
        instances: Output of the stage `instances`, for models that read it.

    Returns:
        (T, visits, slate).

    Raises:
        UserError: A score is not a number.
    """
    scores = scores_of(run, store, people, pools.reshape(len(pools), -1), runtime, instances)
    return best_places(scores.reshape(pools.shape), slate)


def scores_of(
    run: Path, store: EventStore, people: Population, items: Array, runtime: Runtime, instances: Path | None = None
) -> Array:
    """Scores of one training run.

    Args:
        run: Folder of the training run.
        store: The events.
        people: T users and their moments.
        items: What they are asked about; (T, k).
        runtime: Device and number format.
        instances: Output of the stage `instances`, for models that read it.

    Returns:
        (T, k).

    Raises:
        UserError: A score is not a number.
    """
    model, _ = load_model(run, instances=instances)
    model.to(runtime.device)
    start = np.maximum(store.offsets[people.user], people.end - store.limit)
    flat = items.astype(np.int64)
    full = np.ones(flat.shape, bool)
    labels, sample = full.astype(np.float32), np.zeros_like(flat)
    columns = (flat, labels, full, sample, people.user, people.request)
    requests = Requests(store, start, people.end, people.time, *columns)
    scores = score(model, Loader.of(model, requests, runtime, instances))
    if not np.isfinite(scores).all():
        broken = int((~np.isfinite(scores)).sum())
        raise UserError(run, f"{broken:,} of {scores.size:,} scores are not numbers", "train it again, at a lower rate")
    return scores


def foreseen(
    runs: Sequence[Path],
    store: EventStore,
    people: Population,
    shown: Array,
    examined: Array,
    runtime: Runtime,
    instances: Path | None = None,
) -> Array:
    """Clicks that models expect of slates: what CUPED may know of a user, for it is the same in both arms.

    Args:
        runs: Folders of training runs.
        store: The events.
        people: T users and their moments.
        shown: Items on the control's slates; (T, ..., slate).
        examined: Chance that each place is looked at; (slate,).
        runtime: Device and number format.
        instances: Output of the stage `instances`, for models that read it.

    Returns:
        Of a slate, mean over models and slates; (T,).
    """
    items = shown.reshape(len(shown), -1)
    scores = [scores_of(run, store, people, items, runtime, instances).astype(float) for run in runs]
    liked = np.mean([special.expit(each) for each in scores], axis=0).reshape(shown.shape)
    clicks: Array = (liked * examined).sum(axis=-1).reshape(len(shown), -1).mean(axis=1)
    return clicks


def most_popular(store: EventStore, people: Population, pools: Array, slate: int) -> Array:
    """The policy that knows no user: places in each pool of the items with most positives before the moment, in order.

    Args:
        store: The events.
        people: T users and their moments.
        pools: (T, visits, pool).
        slate: Items to show.

    Returns:
        (T, visits, slate).
    """
    return best_places(popularity(store, pools, people.time[:, None, None]), slate)


def drawn_places(scores: Array, slate: int, temperature: float, seed: tuple[int, ...]) -> Array:
    """Places drawn one after the other by softmax over what is left (by Gumbel top-k; Kool et al., ICML 2019).

    Policies that are asked about the same pools with one seed meet the same luck; so does the first of several pools.

    Args:
        scores: Logits; (T, visits, pool).
        slate: Items to show.
        temperature: What scores are divided by.
        seed: Of the luck.

    Returns:
        (T, visits, slate).
    """
    users, visits, pool = scores.shape
    luck = np.random.default_rng(seed).gumbel(size=(visits, users, pool)).transpose(1, 0, 2)
    return best_places(np.round(scores / temperature + luck, 6), slate)


def propensities(scores: Array, places: Array, temperature: float) -> Array:
    """Chance of every item on slates of a softmax policy, given what stands above it.

    Args:
        scores: Logits; (T, visits, pool).
        places: Of the slates; (T, visits, slate).
        temperature: What scores are divided by.

    Returns:
        (T, visits, slate).
    """
    left, found = np.ones(scores.shape, bool), np.empty(places.shape)
    for place in range(places.shape[2]):
        at = places[:, :, place, None]
        chance = np.exp(log_chances(scores, left, temperature))
        found[:, :, place] = np.take_along_axis(chance, at, axis=2)[:, :, 0]
        np.put_along_axis(left, at, False, axis=2)
    return found


def log_chances(scores: Array, left: Array, temperature: float) -> Array:
    """Logs of the softmax over what is left of a pool; two (T, visits, pool) to the same."""
    logits = np.where(left, scores / temperature, -np.inf)
    chances: Array = logits - special.logsumexp(logits, axis=2, keepdims=True)
    return chances


def best_places(scores: Array, slate: int) -> Array:
    """Places of the highest scores, in order; of equals the earlier; (T, visits, pool) to (T, visits, slate)."""
    places: Array = np.argsort(-scores, axis=2, kind="stable")[:, :, :slate]
    return places

"""Slates as a softmax policy has shown them, with the chance of each item: what another policy is worth by them.

Items of a slate are drawn one after the other, each by a softmax over what is left of the pool. So the chance of every
item, given what stands above it, is known, and its clicks can be weighted to those of any other softmax policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hisac_lab.abtest.offpolicy import Rounds
from hisac_lab.abtest.policies import log_chances
from hisac_lab.base.artifacts import Array, write_file
from hisac_lab.base.errors import UserError

FILE = "slates.parquet"


@dataclass(frozen=True)
class ShownSlates:
    """What one policy has shown T users, and what they clicked.

    Attributes:
        user: The users' own ids; (T,).
        pools: Items that it chose from; (T, visits, pool).
        places: Of the slate in the pool, from the top; (T, visits, slate).
        propensity: Chance of each, given what stands above it; (T, visits, slate).
        click: 0 or 1; (T, visits, slate).
    """

    user: Array
    pools: Array
    places: Array
    propensity: Array
    click: Array

    def rounds(self, scores: Array, temperature: float, liked: Array, examined: Array) -> Rounds:
        """What another softmax policy makes of every item that was shown.

        The weight of a place is the product of the ratios of chances down to it (per-decision importance sampling;
        Precup, Sutton and Singh, ICML 2000), so that means over the rounds are clicks of that policy's whole slates;
        with a click model they are those of the cascade doubly robust estimator (Kiyohara et al., WSDM 2022).

        Args:
            scores: Of the other policy, logits of the pools' items; (T, visits, pool).
            temperature: Of the other policy.
            liked: Chance of a click on each item of the pools, where it is looked at, by the click model;
                (T, visits, pool).
            examined: Chance that each place is looked at; (slate,).
        """
        size = self.places.shape[2]
        weight, direct = np.empty(self.places.shape), np.empty(self.places.shape)
        left, before = np.ones(self.pools.shape, bool), np.ones(self.places.shape[:2])
        for place in range(size):
            at = self.places[:, :, place, None]
            chance = np.exp(log_chances(scores, left, temperature))
            direct[:, :, place] = before * (chance * liked).sum(axis=2)
            ratio = np.take_along_axis(chance, at, axis=2)[:, :, 0] / self.propensity[:, :, place]
            weight[:, :, place] = before = before * ratio
            np.put_along_axis(left, at, False, axis=2)
        seen = np.broadcast_to(examined, self.places.shape)
        user = np.arange(len(self.user)).repeat(self.places[0].size)
        mine = np.take_along_axis(liked, self.places, axis=2)
        parts = (self.click / seen, size * weight * seen, size * seen, mine, size * direct * seen)
        return Rounds(user, *(part.ravel() for part in parts))


def as_logged(
    user: Array, pools: Array, places: Array, propensity: Array, chances: Array, seed: tuple[int, ...]
) -> list[ShownSlates]:
    """Slates of every run of a policy, with drawn clicks.

    Args:
        user: The users' own ids; (T,).
        pools: Items; (T, visits, pool).
        places: Of the slates in the pools; (S, T, visits, slate).
        propensity: Chance of each, given what stands above it; (S, T, visits, slate).
        chances: Of a click on each; as many in the same order.
        seed: Of the clicks.
    """
    clicks = np.random.default_rng(seed).random(places.shape) < chances.reshape(places.shape)
    return [ShownSlates(user, pools, *run) for run in zip(places, propensity, clicks.astype(np.int8), strict=True)]


def save_slates(out: Path, shown: dict[str, list[ShownSlates]], items: Array) -> None:
    """Writes `slates.parquet`, a row per slate: policy, run, user, visit, and lists of the pool and of the places.

    Args:
        out: A directory.
        shown: By policy, of each of its runs.
        items: The items' own ids, by number.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for policy, run, one in ((policy, run, one) for policy, runs in shown.items() for run, one in enumerate(runs)):
        for row, user in enumerate(one.user.tolist()):
            for visit in range(one.pools.shape[1]):
                at = row, visit
                rows.append(
                    {
                        "policy": policy,
                        "run": run,
                        "user": user,
                        "visit": visit,
                        "pool": items[one.pools[at]].tolist(),
                        "shown": one.places[at].tolist(),
                        "propensity": one.propensity[at].astype(np.float32).tolist(),
                        "click": one.click[at].tolist(),
                    }
                )
    write_file(out / FILE, pd.DataFrame(rows).to_parquet(index=False))


def open_slates(out: Path, policy: str, run: int) -> ShownSlates:
    """What one run of a policy has shown; pools hold the items' own ids.

    Args:
        out: Output of the stage `abtest`.
        policy: A model of the board, or popularity.
        run: Number of its trained run, from 0.

    Raises:
        UserError: No slates were kept, or none of this run.
    """
    import pandas as pd

    if not (out / FILE).exists():
        raise UserError(out / FILE, "is not there", "set abtest.policy to softmax and run the graph")
    frame = pd.read_parquet(out / FILE, filters=[("policy", "==", policy), ("run", "==", run)])
    if frame.empty:
        raise UserError(out / FILE, f"holds no slate of run {run} of {policy}", "name a policy of the board", "policy")
    visits = int(frame["visit"].max()) + 1

    def grid(column: str) -> Array:
        values = np.stack(frame[column].to_list())
        return values.reshape(-1, visits, values.shape[1])

    columns = (grid(column) for column in ("pool", "shown", "propensity", "click"))
    return ShownSlates(frame["user"].to_numpy()[::visits], *columns)

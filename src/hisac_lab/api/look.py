"""What a user's whole history votes for under a HiSAC model's settings, for the front door and the command line."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hisac_lab.base.artifacts import Array
from hisac_lab.codebook.counting import FRESH, Election, recency_weights
from hisac_lab.codebook.portrait import Portrait, portray
from hisac_lab.codebook.tree import Codebook
from hisac_lab.config.model import BackboneConfig
from hisac_lab.events.store import EventStore
from hisac_lab.models.hisac import HiSACConfig


@dataclass(frozen=True)
class Votes:
    """One user's votes.

    Attributes:
        book: The codebook, cut to the depth in use.
        election: How agents are chosen.
        portrait: Agents and pruned nodes.
        times: Of the events that vote, seconds; (n,) int64.
        unit: What one fresh vote counts: above 1 where older ones count less.
        silent: Events of the history that do not vote, known to be negative.
    """

    book: Codebook
    election: Election
    portrait: Portrait
    times: Array
    unit: int
    silent: int


def votes_of(config: HiSACConfig, backbone: BackboneConfig, book: Codebook, store: EventStore, user: int) -> Votes:
    """Lets the history of the user with this number vote, its newest events up to the limit of the store.

    Args:
        config: Settings of the model; its depth fits the codebook.
        backbone: The section `backbone`: whether feedback is told.
        book: The codebook.
        store: The histories.
        user: Number of the user.
    """
    book = book.cut(config.depth or book.depth)
    election = config.election(book)
    places, silent = store.voters(user, config.votes_from if backbone.feedback else "all")
    times = np.asarray(store.times[places])
    weights = None
    if config.vote_half_life is not None and len(times):
        weights = recency_weights(times[-1] - times, config.vote_half_life * 86_400)
    portrait = portray(book, np.asarray(store.items[places]), election, weights)
    return Votes(book, election, portrait, times, 1 if weights is None else FRESH, silent)

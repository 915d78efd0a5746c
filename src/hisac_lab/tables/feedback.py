"""Words that tell how a user took an item: which are better than which."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

EVENT_NAMES = (
    "event eventtype eventname action actiontype behavior behaviour behaviortype behaviourtype interaction "
    "interactiontype activity activitytype feedbacktype type kind"
).split()
FEW = 20  # distinct words of an event type or of a vote
STEPS = (
    "no n false dislike disliked down downvote downvoted negative bad disagree against nay hate reject rejected skip "
    "skipped hide hidden block report unlike unfavorite unfollow unsubscribe removefromcart remove refund return "
    "returned poor low",
    "abstain abstained neutral maybe unsure undecided average medium mixed fair meh",
    "impression impress exposure expose exposed show shown display pv view viewed pageview itemview productview browse "
    "open detail detailview",
    "click clicked visit select play played listen listened watch watched read",
    "cart addtocart basket addtobasket checkout",
    "fav favorite favourite save saved wishlist addtowishlist bookmark share shared follow followed",
    "yes y true like liked up upvote upvoted positive good agree for aye love loved accept accepted high excellent "
    "purchase purchased buy bought order ordered transaction payment pay paid subscribe subscribed conversion rent "
    "install installed complete completed",
)
"""Words by how much they say for an item, least first."""
RANKS = {word: rank for rank, words in enumerate(STEPS) for word in words.split()}


def rank(words: Iterable[str]) -> dict[str, float]:
    """Gives each word a number, 0 for the least, 1 for the next, ...; unknown words count least.

    Returns:
        The words, least first; nothing where the known ones say no difference.
    """
    known = {word: RANKS.get(plain(word), -1) for word in words if word.strip()}
    if len({place for place in known.values() if place >= 0}) < 2:
        return {}
    places = sorted({max(place, min(one for one in known.values() if one >= 0)) for place in known.values()})
    numbers = {word: float(places.index(max(place, places[0]))) for word, place in known.items()}
    return dict(sorted(numbers.items(), key=lambda entry: (entry[1], entry[0])))


def unknown(words: Iterable[str]) -> list[str]:
    """The words whose place nobody knows."""
    return sorted(word for word in words if plain(word) not in RANKS)


def told(numbers: dict[str, float]) -> str:
    """What a ranking means, in words."""
    top = max(numbers.values())
    positives = [repr(word) for word, number in numbers.items() if number == top]
    others = [repr(word) for word, number in numbers.items() if number < top]
    unsure = unknown(numbers)
    doubt = f"; nobody knows {listed([repr(word) for word in unsure])}, put lowest" if unsure else ""
    return (
        f"is read by its words: {listed(positives)} positive, {listed(others)} real negative{doubt}; this is a guess "
        "to be confirmed"
    )


def listed(words: Sequence[str], shown: int = 6) -> str:
    """Some words in a line."""
    more = f" and {len(words) - shown} more" if len(words) > shown else ""
    return ", ".join(words[:shown]) + more


def plain(word: str) -> str:
    """A word without what is no letter."""
    return re.sub(r"[^a-z]", "", word.lower())

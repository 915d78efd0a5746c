"""One user's page: events, votes and agents are those of the store and the codebook."""

from __future__ import annotations

from finished import Built

from hisac_lab.base.stages import Artifacts
from hisac_lab.config.promotion import PromotionConfig
from hisac_lab.report.collect import collect
from hisac_lab.report.facts import Event


def test_events_stand_newest_first_with_what_their_vote_went_to(inputs: Artifacts) -> None:
    """One agent: of the votes 2, 2 for node 1 and 1 for node 0, and item 3 has no semantic ID."""
    portrait = collect(inputs, PromotionConfig()).portrait
    assert portrait.user == "bert"
    titles = ["One", "Four", "Two", "<b>Bold</b> & co | `tick", "Two"]
    assert [event.title for event in portrait.events] == titles
    assert [event.path for event in portrait.events] == ["0", "–", "1", "1", "1"]
    assert [event.vote for event in portrait.events] == ["pruned", "none", "agent", "agent", "agent"]
    assert portrait.events[0] == Event("1970-01-01", "One", "0", "pruned")


def test_kept_and_pruned_votes_are_told(built: Built) -> None:
    assert "**Agents of user bert:** Of 4 votes 3 are with 1 agent, 1 are pruned." in built[1]
    assert "| 1970-01-01 | One | 0 | pruned |" in built[1]

"""One user's page: events, votes and agents are those of the store and the codebook."""

from __future__ import annotations

from pathlib import Path

from finished import READINGS, Built, build, edit

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


def test_what_each_candidate_read_is_told_with_its_answer(built: Built) -> None:
    assert "2 candidates read one and the same agent most. &lt;b&gt;Bold&lt;/b&gt; &amp; co" in built[1]
    assert "100 % of what it reads is from Two." in built[1]
    assert "| Two | positive | 0.70 | Two 90 % |" in built[1]
    assert "1 of 2 candidates stand on a node with votes." in built[1]
    assert "| Two | positive | 0.70 | 3 2 d |" in built[1]
    assert "before the first request there, on 1970-01-02" in built[1]
    assert "Two (positive, 0.70)" in built[3]["read"]


def test_a_board_without_agents_and_votes_tells_of_no_candidate(inputs: Artifacts, tmp_path: Path) -> None:
    edit(inputs.evaluate / "readings.json", models={})
    _, twin, _, figures = build(inputs, tmp_path)
    assert "What candidates read" not in twin
    assert "read" not in figures


def test_the_best_model_with_agents_and_the_best_with_votes_are_told(inputs: Artifacts) -> None:
    agents, votes = READINGS["models"]["new"][1], READINGS["models"]["new"][0] | {"agents": []}
    edit(inputs.evaluate / "readings.json", models={"base": [agents, agents], "new": [votes, votes]})
    assert list(collect(inputs, PromotionConfig()).portrait.asked) == ["base", "new"]
    edit(inputs.evaluate / "readings.json", models={"base": [agents, votes], "new": [votes, agents]})
    assert list(collect(inputs, PromotionConfig()).portrait.asked) == ["new"]


def test_the_history_ends_where_the_request_begins(inputs: Artifacts) -> None:
    edit(inputs.evaluate / "readings.json", end=4)
    portrait = collect(inputs, PromotionConfig()).portrait
    assert (portrait.behaviors, portrait.voting) == (3, 3)
    assert portrait.events[0].title == "Two"

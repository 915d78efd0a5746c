"""Fidelity card of the votes at a candidate's own nodes."""

from __future__ import annotations

from hisac_lab.models.contract import CardLine

CARD = (
    CardLine(
        "votes are plain counts at the nodes of the codebook",
        "stated",
        "docs/papers/hisac.md#hierarchical-voting",
        "test_a_candidate_is_told_the_votes_of_its_own_path",
    ),
    CardLine(
        "a candidate sees those of its own path and the age of the newest: a control of ours",
        "inferred",
        "docs/papers/baselines.md#votes",
        "test_votes_alone_answer_from_the_path_alone",
    ),
    CardLine(
        "votes are counted once more for each half-life, fading (setting `half_lives`, none by default)",
        "inferred",
        "docs/papers/baselines.md#votes",
        "test_facts_are_those_of_counting_event_by_event",
    ),
    CardLine(
        "the state takes a new event by one product and one sum, without the history",
        "inferred",
        "docs/papers/baselines.md#votes",
        "test_folding_events_one_by_one_is_counting_them_at_once",
    ),
    CardLine(
        "the votes for the candidate itself go along (switch `own_item`)",
        "inferred",
        "docs/papers/baselines.md#votes",
        "test_a_candidate_is_told_the_votes_for_itself",
    ),
    CardLine(
        "they are standardized on the training set and reach the tower past the gate (switch `into`)",
        "inferred",
        "docs/papers/baselines.md#votes",
        "test_features_of_the_training_set_have_mean_zero_and_spread_one",
    ),
    CardLine(
        "events whose feedback is known to be negative do not vote (setting `votes_from`)",
        "inferred",
        "docs/papers/baselines.md#votes",
        "test_what_was_disliked_does_not_vote",
    ),
    CardLine(
        "they are counted apart, in the same way (switch `exposures`)",
        "inferred",
        "docs/papers/baselines.md#votes",
        "test_exposures_are_counted_as_votes_of_their_own",
    ),
    CardLine(
        "they are counted in flat k-means codebooks too (setting `books`)",
        "inferred",
        "docs/papers/baselines.md#votes",
        "test_votes_in_a_flat_book_are_those_of_its_nodes",
    ),
    CardLine(
        "a vote and a candidate are shared out to the nearest nodes by a softmax (setting `nearest`)",
        "inferred",
        "docs/papers/baselines.md#votes",
        "test_shared_votes_are_sums_of_products_of_shares",
    ),
    CardLine(
        "nodes change places among items, a control (switch `ids`)",
        "inferred",
        "docs/papers/baselines.md#votes",
        "test_shuffled_votes_are_those_of_other_items",
    ),
    CardLine(
        "agents, routing, attention",
        "left out",
        "docs/papers/hisac.md#soft-routing-attention",
    ),
)

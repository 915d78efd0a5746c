"""HiSAC's fidelity card: what of the reconstruction is stated, inferred and left out."""

from __future__ import annotations

from hisac_lab.models.contract import SOFT_COUNTS, CardLine

CARD = (
    CardLine(
        "an inner node's votes are the sum over its children, a leaf's its behaviors",
        "stated",
        "docs/papers/hisac.md#hierarchical-voting",
        "test_votes_of_children_sum_to_parent",
    ),
    CardLine(
        "the top k children stay under each kept parent, with a k per level; `vote: flat` ranks all leaves",
        "stated",
        "docs/papers/hisac.md#hierarchical-voting",
        "test_vote_agrees_with_reference",
    ),
    CardLine(
        "each behavior counts one vote",
        "stated",
        "docs/papers/hisac.md#hierarchical-voting",
        "test_vote_agrees_with_reference",
    ),
    CardLine(
        "a vote halves with age (switch `vote_half_life`, off by default)",
        "inferred",
        "docs/papers/hisac.md#additions-of-ours",
        "test_old_behaviors_can_count_less",
    ),
    CardLine(
        "ties go to the most recent child, then to the lower code",
        "inferred",
        "docs/papers/hisac.md#hierarchical-voting",
        "test_ties_go_to_the_most_recent_then_the_lower_code",
    ),
    CardLine(
        "the agents are the kept leaves, at most the product of the levels' k",
        "stated",
        "docs/papers/hisac.md#agents",
        "test_agents_are_observed_leaves_and_at_most_the_product_of_budgets",
    ),
    CardLine(
        "an agent is the sum of its path's codewords",
        "stated",
        "docs/papers/hisac.md#agents",
        "test_agent_is_the_sum_of_its_codewords",
    ),
    CardLine(
        "codewords live where the frozen vectors of items live, shared by all parents",
        "inferred",
        "docs/papers/hisac.md#codebook",
        "test_a_nodes_vector_is_the_sum_of_the_codewords_on_its_path",
    ),
    CardLine(
        "routing is a temperature softmax over squared distances of frozen vectors",
        "stated",
        "docs/papers/hisac.md#soft-routing-attention",
        "test_routing_matches_the_formula",
    ),
    CardLine(
        "the softmax runs over behaviors, per agent (switch `softmax_over`)",
        "inferred",
        "docs/papers/hisac.md#soft-routing-attention",
        "test_routing_rows_sum_to_one",
    ),
    CardLine(
        "all behaviors take part, also those whose ID is pruned",
        "stated",
        "docs/papers/hisac.md#soft-routing-attention",
        "test_pruned_behaviors_still_count",
    ),
    CardLine(
        "no gradient reaches embeddings, codewords or routing",
        "stated",
        "docs/papers/hisac.md#soft-routing-attention",
        "test_frozen_parts_get_no_gradient",
    ),
    CardLine(
        "values are learnable ranking embeddings with time decay",
        "stated",
        "docs/papers/hisac.md#values",
        "test_old_events_decay",
    ),
    CardLine(
        "decay is exponential in days, a power of days, or none (switch `decay`)",
        "inferred",
        "docs/papers/hisac.md#values",
        "test_values_fade_by_the_law_that_is_set",
    ),
    CardLine(
        "values also hold a projection of the frozen vector",
        "inferred",
        "docs/papers/hisac.md#where-our-reconstruction-differs",
        "test_an_item_is_the_sum_of_its_id_fields_and_projected_embedding",
    ),
    CardLine(
        "an agent's weight is the softmax of its log votes",
        "inferred",
        "docs/papers/hisac.md#agents",
        "test_weights_are_shares_of_the_kept_votes_and_sum_to_one",
    ),
    CardLine(
        "the log weight is a bias on the attention score (switch `weight`)",
        "inferred",
        "docs/papers/hisac.md#target-attention",
        "test_vote_weight_is_a_bias",
    ),
    CardLine(
        "multi-head attention reads the agents and nothing else of the long history",
        "stated",
        "docs/papers/hisac.md#target-attention",
        "test_candidates_see_the_history_through_agents_only",
    ),
    CardLine(
        "the candidate is the query of that attention",
        "inferred",
        "docs/papers/hisac.md#target-attention",
        "test_candidates_see_the_history_through_agents_only",
    ),
    CardLine(
        "a transformer block reads the agents first (switch `reader`): it stands for the paper's host models",
        "inferred",
        "docs/papers/hisac.md#target-attention",
        "test_agents_can_stand_in_front_of_a_transformer_block",
    ),
    CardLine(
        "ablation: every observed leaf is an agent (switch `every_leaf`)",
        "stated",
        "docs/papers/hisac.md#agents",
        "test_without_hierarchical_voting_every_observed_leaf_is_an_agent",
    ),
    CardLine(
        "ablation: each behavior goes to its own leaf's agent (switch `routing`)",
        "stated",
        "docs/papers/hisac.md#soft-routing-attention",
        "test_hard_routing_is_the_mean_over_an_agents_own_leaf",
    ),
    CardLine(
        "control: semantic IDs change places among items (switch `ids`)",
        "inferred",
        "docs/papers/hisac.md#additions-of-ours",
        "test_shuffled_ids_route_by_the_embeddings_of_other_items",
    ),
    CardLine(
        "equal items are routed once, with the same numbers (switch `route_by`)",
        "inferred",
        "docs/papers/hisac.md#additions-of-ours",
        "test_routing_each_item_once_gives_the_same_numbers",
    ),
    CardLine(
        "whole leaves are routed at once, approximately (switch `route_by`)",
        "inferred",
        "docs/papers/hisac.md#additions-of-ours",
        "test_routing_by_leaf_is_exact_where_items_lie_on_their_leaf",
    ),
    CardLine(
        "a candidate asks agents by the distance of frozen vectors over a temperature per head (switch `score`)",
        "inferred",
        "docs/papers/hisac.md#additions-of-ours",
        "test_a_frozen_score_is_the_distance_over_a_temperature_per_head",
    ),
    CardLine(
        "values also tell counts at several half-lives and the age of the newest (switch `facts`)",
        "inferred",
        "docs/papers/hisac.md#additions-of-ours",
        "test_facts_are_those_of_the_behaviors_an_agent_has",
    ),
    CardLine(
        "votes of pruned leaves go to the nearest agent (switch `pruned`)",
        "inferred",
        "docs/papers/hisac.md#additions-of-ours",
        "test_votes_of_pruned_leaves_go_to_the_nearest_agent",
    ),
    CardLine(
        "counts around the candidate reach the tower undivided (switch `sums`, off by default)",
        "inferred",
        "docs/papers/hisac.md#additions-of-ours",
        "test_sums_are_counts_weighed_by_distance",
    ),
    CardLine(
        "the fewest agents that hold a share of the votes (switch `keep_votes`, off by default)",
        "inferred",
        "docs/papers/hisac.md#additions-of-ours",
        "test_agents_are_the_fewest_that_hold_a_share",
    ),
    CardLine(
        "the log of a count on the score is exact where behaviors of a leaf share their key",
        "inferred",
        "docs/papers/hisac.md#additions-of-ours",
        "test_attention_over_agents_is_attention_over_behaviors_with_their_keys",
    ),
    CardLine(
        "the votes of each node on the candidate's own path reach the tower (switch `path_votes`, off by default)",
        "inferred",
        "docs/papers/hisac.md#additions-of-ours",
        "test_a_candidate_is_told_the_votes_of_its_own_path",
    ),
    SOFT_COUNTS,
    CardLine(
        "the counts of the kind votes stand beside the agents (setting `counts`, none by default)",
        "inferred",
        "docs/papers/hisac.md#additions-of-ours",
        "test_counts_beside_the_agents_are_those_of_votes_alone",
    ),
    CardLine(
        "Adam for dense parameters, Adagrad for tables; ours adds weight decay",
        "stated",
        "docs/papers/hisac.md#training-and-serving",
        "test_tables_go_to_adagrad_and_all_else_to_adam_each_once",
    ),
    CardLine(
        "the multimodal encoder; static word vectors or co-occurrence take its place",
        "left out",
        "docs/papers/hisac.md#semantic-ids",
    ),
    CardLine(
        "PatchRec, ELASTIC and LONGER as host models",
        "left out",
        "docs/papers/hisac.md#target-attention",
    ),
)

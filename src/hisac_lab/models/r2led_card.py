"""R2LED's fidelity card: what of the reconstruction is stated, inferred and left out."""

from __future__ import annotations

from hisac_lab.models.contract import CardLine

CARD = (
    CardLine(
        "several routes search the history in parallel",
        "stated",
        "docs/papers/r2led.md#stated-facts",
        "test_each_route_searches_for_itself",
    ),
    CardLine(
        "the routes are target, recent and global, as in MIRRN (switch `routes`)",
        "inferred",
        "docs/papers/r2led.md#routes",
        "test_each_route_searches_for_itself",
    ),
    CardLine(
        "a collaborative and a semantic view choose the events",
        "stated",
        "docs/papers/r2led.md#stated-facts",
        "test_mixes_of_the_views",
    ),
    CardLine(
        "the collaborative view counts equal bits of hashed item vectors, of the id table alone (switch "
        "`collaborative`)",
        "inferred",
        "docs/papers/r2led.md#mixed-retrieval",
        "test_the_collaborative_view_knows_ids_alone",
    ),
    CardLine(
        "the semantic view counts shared prefixes of IDs; in the recent and global routes, the share of their events "
        "that has the prefix, since a code means something below its parent only",
        "inferred",
        "docs/papers/r2led.md#mixed-retrieval",
        "test_views_score_as_in_the_note",
    ),
    CardLine(
        "views mix by weighted score, union or cascade (switch `mix`)",
        "inferred",
        "docs/papers/r2led.md#mixed-retrieval",
        "test_mixes_of_the_views",
    ),
    CardLine(
        "a gate weighs the levels of an event's ID",
        "stated",
        "docs/papers/r2led.md#refinement",
        "test_the_gate_weighs_levels",
    ),
    CardLine(
        "event and candidate are the gate's input",
        "inferred",
        "docs/papers/r2led.md#refinement",
        "test_the_gate_weighs_levels",
    ),
    CardLine(
        "a table has a row per prefix, not per code (switch `tables`)",
        "inferred",
        "docs/papers/r2led.md#refinement",
        "test_a_prefix_has_a_vector_of_its_own",
    ),
    CardLine(
        "target-aware cross-attention over the routes' answers",
        "stated",
        "docs/papers/r2led.md#refinement",
        "test_routes_meet_in_attention",
    ),
    CardLine(
        "its query joins both views of the candidate",
        "inferred",
        "docs/papers/r2led.md#refinement",
        "test_routes_meet_in_attention",
    ),
    CardLine(
        "control: semantic IDs change places among items (switch `ids`)",
        "inferred",
        "docs/papers/r2led.md#controls",
        "test_shuffled_ids_belong_to_other_items",
    ),
    CardLine(
        "chosen events are embedded again, the others get no gradient",
        "inferred",
        "docs/papers/r2led.md#lazy-gradients",
        "test_lazy_gradients_equal_eager_ones",
    ),
    CardLine(
        "the tower sees the candidate's semantic vector (switch `target_id`)",
        "inferred",
        "docs/papers/r2led.md#refinement",
        "test_a_user_without_history_is_told_the_candidates_id",
    ),
    CardLine(
        "an auxiliary loss on the answer, an alignment loss of the two spaces",
        "left out",
        "docs/papers/r2led.md#not-built",
    ),
)

"""What a run may not be used for, from its data and its protocol."""

from __future__ import annotations

from hisac_lab.report.facts import Facts
from hisac_lab.report.words import integer, percent

ULTRA_LONG = 1000
"""Events from which a history is called ultra-long here."""
FEW_USERS, FEW_SEEDS = 1000, 3


def limits(facts: Facts) -> list[str]:
    """Claims that this run cannot carry, a sentence each."""
    prepared, evaluated = facts.prepared, facts.evaluated
    test, said = prepared.splits["test"], list[str]()
    if test.history_p99 < ULTRA_LONG:
        said.append(
            f"Claims about ultra-long histories: half of the test samples have at most {integer(test.history_p50)} "
            "events "
            f"before them, and one in a hundred more than {integer(test.history_p99)}."
        )
    if evaluated.negatives != "real exposures":
        said.append(f"Claims about what people would click of what they are shown: labels are {evaluated.negatives}.")
    if facts.scores.oracles:
        said.append("Claims about people: the log is simulated.")
    if facts.tests.tests and facts.tests.evidence == "fitted":
        said.append("A forecast of a live lift: the A/B test is simulated in worlds fitted on this log.")
    if facts.tests.reason:
        said.append("Any A/B verdict: there is none.")
    seeds = min(len(model.seeds) for model in facts.scores.models.values())
    if seeds < FEW_SEEDS:
        said.append(
            f"Small differences: models have {seeds} trained seed{'s' * (seeds > 1)}, and luck of training is large."
        )
    if evaluated.test_users < FEW_USERS:
        said.append(f"Effects in groups of users: there are {integer(evaluated.test_users)} test users in all.")
    profile = prepared.profile
    said.append(
        f"New users without history, of whom {integer(prepared.samples_without_history)} samples were left out; "
        f"{percent(profile.test_share_of_new_items)} of the test samples show items that training never saw."
    )
    return said

"""The section on fidelity: each model's card."""

from __future__ import annotations

from hisac_lab.report.document import Block, Cell, Fold, Note, Section, table
from hisac_lab.report.facts import Facts

NOTES = "docs/papers/"
STATUSES = {"stated": "good", "inferred": "mid", "left out": "plain"}


def fidelity(facts: Facts) -> Section:
    """Each model's card."""
    if not facts.cards:
        return Section("fidelity", "Fidelity", (Note("No fidelity cards yet: the stage `register` has not run."),))
    settings = {run.name: run.settings for run in facts.runs}
    blocks: list[Block] = [
        Note(
            "How each model relates to its paper, line by line: stated by the paper, inferred by us, or left out; "
            f"beside it the test that pins it. Sources are headings of the notes in `{NOTES}`."
        )
    ]
    for name, lines in sorted(facts.cards.items()):
        chosen = ", ".join(f"{key} {value}" for key, value in sorted(settings[name].items()) if value is not None)
        rows = [
            (
                line.claim,
                Cell(line.status, badge=STATUSES.get(line.status, "plain")),
                f"`{line.source.removeprefix(NOTES)}`",
                f"`{line.test}`" if line.test else "–",
            )
            for line in lines
        ]
        columns = ("claim", "status", "source", "test")
        counted = ", ".join(f"{sum(line.status == status for line in lines)} {status}" for status in STATUSES)
        card = table(f"Settings: {chosen}.", columns, rows, columns)
        blocks.append(Fold(f"{name}: {counted}", (card,)))
    return Section("fidelity", "Fidelity", tuple(blocks))

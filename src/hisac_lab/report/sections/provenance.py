"""The section on lineage: what was made from which bytes."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from itertools import pairwise

from hisac_lab.base.stages import SHOWN
from hisac_lab.report.document import Figure, Figures, Note, Row, Section, table
from hisac_lab.report.drawing import INK, MUTED
from hisac_lab.report.facts import Facts
from hisac_lab.report.words import confidence, integer, metric_names


def provenance(facts: Facts) -> Section:
    """What was made from which bytes."""
    digests = facts.digests
    runs = sum(name.startswith("train ") for name in digests)
    below = {name: _short(digests.get(name), 7) for name in SHOWN} | {"train": f"{runs} runs"}
    artifacts: list[Row] = [
        (name, f"`{_short(digest, 12)}`", facts.arithmetic.get(name, "–")) for name, digest in digests.items()
    ]
    return Section(
        "lineage",
        "Lineage",
        (
            Figures(
                (
                    Figure(
                        "the_graph",
                        _graph([*((name, below[name]) for name in SHOWN), ("report", "this page")]),
                        "The graph",
                        "Stages in the order they run, with the first digits of their outputs' SHA-256.",
                    ),
                )
            ),
            table(
                "Artifacts: SHA-256 over names and contents of each directory, first 12 digits, and the "
                "arithmetic that made it.",
                ("artifact", "SHA-256", "arithmetic"),
                artifacts,
                ("artifact", "SHA-256", "arithmetic"),
            ),
            Note(
                "In portable arithmetic these bytes do not depend on the machine, so this page names none. Which "
                "machine made each output, when and how fast: see `hisac-lab summary`, `logs/stages/` or MLflow."
            ),
            table(
                "Raw files.",
                ("file", "SHA-256"),
                [(name, f"`{digest}`") for name, digest in sorted(facts.acquired.files.items())],
                ("file", "SHA-256"),
            ),
            table(
                "Fingerprints and settings.",
                ("what", "value"),
                (
                    ("data protocol", f"`{facts.prepared.protocol}`"),
                    ("evaluation protocol", f"`{facts.evaluated.fingerprint}`"),
                    ("A/B test", f"`{facts.abtested.test_fingerprint}`"),
                    ("labels", facts.evaluated.negatives),
                    ("reference model", facts.evaluated.reference),
                    ("level of intervals", confidence(facts.evaluated.confidence)),
                    ("metrics", ", ".join(metric_names(facts).values())),
                    ("test samples", integer(facts.evaluated.test_samples)),
                    ("test users", integer(facts.evaluated.test_users)),
                ),
                ("what", "value"),
            ),
        ),
    )


def _short(digest: str | None, digits: int) -> str:
    return digest[:digits] if digest else "not run"


def _graph(stages: Iterable[tuple[str, str]], name: str = "lineage", per_row: int = 4) -> str:
    """The order of the stages as boxes on a winding path.

    Args:
        stages: Name and a short line below it.
        name: Prefix of ids on the page.
        per_row: Boxes in a row.
    """
    boxes = list(stages)
    wide, high, gap, drop = 99, 44, 28, 30
    rows = -(-len(boxes) // per_row)
    places = []
    for number in range(len(boxes)):
        row, column = divmod(number, per_row)
        column = column if row % 2 == 0 else per_row - 1 - column
        places.append((column * (wide + gap) + 1, row * (high + drop) + 1))
    elements = [
        f'<defs><marker id="{name}-tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        f'orient="auto"><path d="M0 0.5L8 4L0 7.5z" fill="{MUTED}"/></marker></defs>'
    ]
    for (x, y), (to_x, to_y) in pairwise(places):
        middle = high / 2
        if y == to_y:
            side = 1 if to_x > x else -1
            begin, end = (x + wide, to_x - 2) if side > 0 else (x, to_x + wide + 2)
            line = f"M{begin} {y + middle}H{end}"
        else:
            line = f"M{x + wide / 2} {y + high}V{to_y - 2}"
        elements.append(f'<path d="{line}" fill="none" stroke="{MUTED}" marker-end="url(#{name}-tip)"/>')
    for (x, y), (title, below) in zip(places, boxes, strict=True):
        elements.append(
            f'<rect x="{x}" y="{y}" width="{wide}" height="{high}" rx="5" fill="#f4f6f8" stroke="#c3cad3"/>'
            f'<text x="{x + wide / 2}" y="{y + 19}" text-anchor="middle" font-size="12.5" font-weight="600" '
            f'fill="{INK}">{escape(title)}</text>'
            f'<text x="{x + wide / 2}" y="{y + 35}" text-anchor="middle" font-size="10.5" class="code" '
            f'fill="{MUTED}">{escape(below)}</text>'
        )
    box = f"0 0 {per_row * (wide + gap) - gap + 2} {rows * (high + drop) - drop + 2}"
    alt = "Stages in the order they run: " + ", ".join(title for title, _ in boxes)
    return f'<svg viewBox="{box}" role="img" aria-label="{escape(alt)}">{"".join(elements)}</svg>'

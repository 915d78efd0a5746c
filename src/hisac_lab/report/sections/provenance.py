"""The section on lineage: what was made from which bytes."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from itertools import pairwise, product

from hisac_lab.base.stages import BESIDE, SHOWN, STAGES
from hisac_lab.report.document import Figure, Figures, Note, Row, Section, Table, table
from hisac_lab.report.drawing import GRAY, GRID, INK, MUTED, themed
from hisac_lab.report.facts import Facts
from hisac_lab.report.words import confidence, integer, metric_names, named

RANKS = [BESIDE if stage == BESIDE[0] else (stage,) for stage in (*STAGES, "report") if stage not in BESIDE[1:]]
"""Stages in the order of the graph, those that run side by side together; each waits for all of the rank before."""


def provenance(facts: Facts) -> Section:
    """What was made from which bytes."""
    digests = facts.digests
    runs = sum(name.startswith("train ") for name in digests)
    below = {name: _short(digests.get(name), 7) for name in SHOWN}
    below |= {"train": f"{runs} runs", "sweep": f"{len(facts.sweeps)} swept", "report": "this page"}
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
                        _graph(below),
                        "The graph",
                        f"{sum(map(len, RANKS))} stages stand between the log and this page; {named(BESIDE)} wait for "
                        "nothing of each other.",
                        "Arrows go from a stage to those that wait for it, without those that follow from others; "
                        "below a name the first digits of the output's SHA-256.",
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
            _protocols(facts),
        ),
    )


def _protocols(facts: Facts) -> Table:
    return table(
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
    )


def _short(digest: str | None, digits: int) -> str:
    return digest[:digits] if digest else "not run"


def _graph(below: Mapping[str, str], name: str = "lineage", per_row: int = 5) -> str:
    """The stages as boxes on a winding path, those that run side by side one above the other.

    Args:
        below: A short line below a stage's name.
        name: Prefix of ids on the page.
        per_row: Places in a row.
    """
    wide, high, gap, drop = 88, 42, 22, 16
    step = 2 * high + 2 * drop
    at: dict[str, tuple[int, float]] = {}
    for number, each in enumerate(RANKS):
        row, column = divmod(number, per_row)
        column = column if row % 2 == 0 else per_row - 1 - column
        top = row * step + (step - drop - len(each) * high - (len(each) - 1) * drop) / 2
        at |= {stage: (column * (wide + gap) + 1, top + place * (high + drop)) for place, stage in enumerate(each)}
    elements = [
        f'<defs><marker id="{name}-tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        f'orient="auto"><path d="M0 0.5L8 4L0 7.5z" fill="{MUTED}"/></marker></defs>'
    ]
    for above, below_it in pairwise(RANKS):
        for other, stage in product(above, below_it):
            (x, y), (to_x, to_y) = at[other], at[stage]
            side = 1 if to_x > x else -1
            begin, end = (x + wide, to_x - 2) if side > 0 else (x, to_x + wide + 2)
            line = (
                f"M{x + wide / 2:g} {y + high:g}V{to_y - 2:g}"
                if x == to_x
                else f"M{begin} {y + high / 2:g}L{end} {to_y + high / 2:g}"
            )
            elements.append(f'<path d="{line}" fill="none" stroke="{MUTED}" marker-end="url(#{name}-tip)"/>')
    for stage, (x, y) in at.items():
        said = below.get(stage, "")
        elements.append(
            f'<rect x="{x}" y="{y:g}" width="{wide}" height="{high}" rx="5" fill="{GRID}" stroke="{GRAY}"/>'
            f'<text x="{x + wide / 2:g}" y="{y + (18 if said else 26):g}" text-anchor="middle" font-size="12.5" '
            f'font-weight="600" fill="{INK}">{escape(stage)}</text>'
            f'<text x="{x + wide / 2:g}" y="{y + 34:g}" text-anchor="middle" font-size="10.5" class="code" '
            f'fill="{MUTED}">{escape(said)}</text>'
        )
    box = f"0 0 {per_row * (wide + gap) - gap + 2} {-(-len(RANKS) // per_row) * step - drop + 2}"
    alt = "Stages and what each waits for: " + ", ".join(at)
    return f'<svg viewBox="{box}" role="img" aria-label="{escape(alt)}">{themed("".join(elements))}</svg>'

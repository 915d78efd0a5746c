"""The table of a sweep whose trials all had the same seeds."""

from __future__ import annotations

from hisac_lab.ops.choice import rounded
from hisac_lab.report.document import Block, Cell, table
from hisac_lab.report.facts import Sweep
from hisac_lab.report.words import fixed, integer, signed
from hisac_lab.sweep.records import Ablated


def ablation(sweep: Sweep) -> list[Block]:
    """Every trial beside the reference; nothing where trials had different seeds."""
    rows = sweep.ablation
    if not rows:
        return []
    names = list(dict.fromkeys(name for row in rows for name in row.settings))
    differ = [name for name in names if len({row.settings.get(name) for row in rows}) > 1] or names
    apart = [row.number for row in rows if not row.reference and _is_apart(row)]
    told = f"Apart from it: {', '.join(f'trial {number}' for number in apart)}." if apart else "None is apart from it."
    reference = next(row for row in rows if row.reference)
    caption = (
        f"Ablations of {sweep.swept.model}, {reference.seeds} seeds each; differences to trial {reference.number}, "
        f"paired, intervals of 95 % over users and seeds, not corrected for their number. {told}"
    )
    head = ("trial", *differ, "validation AUC", "difference", "multiply-adds per request", "bytes of state")
    return [table(caption, head, [_cells(row, differ) for row in rows], ())]


def _cells(row: Ablated, names: list[str]) -> tuple[Cell | str, ...]:
    low, high = row.interval
    least, most = row.difference_interval
    difference = "reference" if row.reference else Cell(signed(row.difference), f"{signed(least)} to {signed(most)}")
    return (
        str(row.number),
        *(row.settings.get(name, "–") for name in names),
        Cell(fixed(row.auc), f"{fixed(low)} to {fixed(high)}"),
        difference,
        integer(row.request_macs),
        integer(row.state_bytes),
    )


def _is_apart(row: Ablated) -> bool:
    """Whether the interval of the difference leaves out zero, as shown."""
    low, high = map(rounded, row.difference_interval)
    return low > 0 or high < 0

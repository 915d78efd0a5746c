"""Charts as inline SVG: one style, the same bytes every time, ids that cannot collide on a page.

Text stays text and takes the page's font. Charts are drawn 460 units wide, so that they are shown about one to one in
two columns and stay readable on a phone.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Sequence
from html import escape
from itertools import pairwise
from typing import Any

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from hisac_lab.report.facts import Facts
from hisac_lab.report.words import signed_percent

WIDTH = 460
INK, MUTED, GREY, FAINT, ACCENT = "#1f2430", "#5d6675", "#9aa3af", "#d9dde3", "#44546a"
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#B8519B", "#8A6D00", "#3FA3DC", "#7A4B2A", "#000000")
"""Okabe and Ito's colours, the light ones darkened for lines on white."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
OTHERS = "others"
THOUSANDS = FuncFormatter(lambda value, _: f"{value:,.0f}")
SHARES = PercentFormatter(1, decimals=0, symbol=" %")
LIFTS = FuncFormatter(lambda value, _: signed_percent(value, 1))

STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 12,
    "text.color": INK,
    "axes.edgecolor": GREY,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 12,
    "axes.titlesize": 12,
    "axes.titlecolor": MUTED,
    "axes.titlelocation": "left",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#e8ebef",
    "grid.linewidth": 0.8,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 11.5,
    "ytick.labelsize": 11.5,
    "legend.frameon": False,
    "legend.fontsize": 11.5,
    "legend.handlelength": 1.6,
    "lines.linewidth": 1.6,
    "savefig.transparent": True,
    "figure.constrained_layout.h_pad": 0.06,
    "figure.constrained_layout.w_pad": 0.06,
}


def colours(facts: Facts) -> dict[str, str]:
    """One colour per model, the same in every chart and table.

    Where models are more than colours, the reference and the best ones have a colour of their own, all others are grey.
    """
    first = sorted(facts.ranking, key=lambda name: name != facts.evaluated.reference)[: len(PALETTE)]
    own = dict(zip(sorted(first), PALETTE, strict=False))
    return {name: own.get(name, GREY) for name in sorted(facts.ranking)}


def styles(facts: Facts) -> dict[str, dict[str, Any]]:
    """How each model is drawn: the marker is for eyes and printers that see no colours; grey ones lie below."""
    marks = iter(MARKERS)
    return {
        name: {"color": GREY, "marker": ".", "label": OTHERS, "zorder": 1.9}
        if colour == GREY
        else {"color": colour, "marker": next(marks), "label": name, "zorder": 2}
        for name, colour in colours(facts).items()
    }


def legend(figure: Figure, handles: Sequence[Artist] | None = None) -> None:
    """A legend above the axes: each label once, the others last."""
    found, labels = figure.axes[0].get_legend_handles_labels()
    named = dict(zip(labels, found, strict=True))
    shown = [named[label] for label in sorted(named, key=OTHERS.__eq__)] if handles is None else handles
    figure.legend(handles=shown, loc="outside upper left", ncols=3, columnspacing=1.4)


def note(axes: Axes, text: str, x: float, y: float, above: float = 4, side: str = "center") -> None:
    """Small text above a point: centred, or with its right or left end there."""
    axes.annotate(text, (x, y), (0, above), textcoords="offset points", ha=side, color=INK, fontsize=11.5)


def ticks(*axes: Axis, most: int = 5) -> None:
    """At most so many round ticks."""
    for axis in axes:
        axis.set_major_locator(MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]))


def draw(name: str, alt: str, height: float, paint: Callable[[Figure], None]) -> str:
    """Draws one chart.

    Args:
        name: Unique on the page; the prefix of its ids.
        alt: What a screen reader says.
        height: In units of which the width has 460.
        paint: Puts the data on an empty figure.

    Returns:
        An <svg> element without fixed size.
    """
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a user's matplotlibrc must not change an output
        settings: Any = STYLE | {"svg.hashsalt": name}
        matplotlib.rcParams.update(settings)
        figure = Figure(figsize=(WIDTH / 72, height / 72), layout="constrained")
        FigureCanvasSVG(figure)
        paint(figure)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return inline(buffer.getvalue(), name, alt)


def inline(svg: str, name: str, alt: str) -> str:
    """An SVG file as an element of a page: no prologue, no metadata, ids under `name`, unused ids dropped."""
    body = svg[svg.index(">", svg.index("<svg")) + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", body, flags=re.DOTALL)
    box = re.search(r'viewBox="([^"]+)"', svg)
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', body))

    def keep(match: re.Match[str]) -> str:
        return f' id="{name}-{match[1]}"' if match[1] in used else ""

    body = re.sub(r'\sid="([^"]+)"', keep, body)
    body = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", body)
    body = re.sub(r"\s*\n\s*", "\n", body)
    head = f'<svg viewBox="{box[1] if box else ""}" role="img" aria-label="{escape(alt)}">'
    return head + body.strip()


def lineage(stages: Iterable[tuple[str, str]], name: str = "lineage", per_row: int = 4) -> str:
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
    parts = [
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
        parts.append(f'<path d="{line}" fill="none" stroke="{MUTED}" marker-end="url(#{name}-tip)"/>')
    for (x, y), (title, below) in zip(places, boxes, strict=True):
        parts.append(
            f'<rect x="{x}" y="{y}" width="{wide}" height="{high}" rx="5" fill="#f4f6f8" stroke="#c3cad3"/>'
            f'<text x="{x + wide / 2}" y="{y + 19}" text-anchor="middle" font-size="12.5" font-weight="600" '
            f'fill="{INK}">{escape(title)}</text>'
            f'<text x="{x + wide / 2}" y="{y + 35}" text-anchor="middle" font-size="10.5" class="code" '
            f'fill="{MUTED}">{escape(below)}</text>'
        )
    box = f"0 0 {per_row * (wide + gap) - gap + 2} {rows * (high + drop) - drop + 2}"
    alt = "Stages in the order they run: " + ", ".join(title for title, _ in boxes)
    return f'<svg viewBox="{box}" role="img" aria-label="{escape(alt)}">{"".join(parts)}</svg>'

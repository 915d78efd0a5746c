"""Charts as inline SVG: one style, the same bytes every time, ids that cannot collide on a page.

Text stays text and takes the page's font. Charts are drawn 460 units wide, so that they are shown about one to one in
two columns and stay readable on a phone.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from hisac_lab.evaluation.records import Interval
from hisac_lab.report.facts import Facts
from hisac_lab.report.words import signed_percent

Sheet = Figure
"""What a chart is painted on; a figure of the document is a chart with its name and words."""
WIDTH = 460
INK, MUTED, GRAY, FAINT, ACCENT = "#1f2430", "#5d6675", "#9aa3af", "#d9dde3", "#44546a"
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#B8519B", "#8A6D00", "#3FA3DC", "#7A4B2A", "#000000")
"""Okabe and Ito's colors, the light ones darkened for lines on white."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
OTHERS = "others"
MOST_ROWS = 8
"""Rows of a forest chart beyond which they stand closer."""
THOUSANDS = FuncFormatter(lambda value, _: f"{value:,.0f}")
SHARES = PercentFormatter(1, decimals=0, symbol=" %")
LIFTS = FuncFormatter(lambda value, _: signed_percent(value, 1))

STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 12,
    "text.color": INK,
    "axes.edgecolor": GRAY,
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
    "xtick.color": GRAY,
    "ytick.color": GRAY,
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


def colors(facts: Facts) -> dict[str, str]:
    """One color per model, the same in every chart and table.

    Where models are more than colors, the reference and the best ones have a color of their own, all others are gray.
    """
    first = sorted(facts.ranking, key=lambda name: name != facts.evaluated.reference)[: len(PALETTE)]
    color = dict(zip(sorted(first), PALETTE, strict=False))
    return {name: color.get(name, GRAY) for name in sorted(facts.ranking)}


def styles(facts: Facts) -> dict[str, dict[str, Any]]:
    """How each model is drawn: the marker is for eyes and printers that see no colors; gray ones lie below."""
    marks = iter(MARKERS)
    return {
        name: {"color": GRAY, "marker": ".", "label": OTHERS, "zorder": 1.9}
        if color == GRAY
        else {"color": color, "marker": next(marks), "label": name, "zorder": 2}
        for name, color in colors(facts).items()
    }


def legend(sheet: Sheet, handles: Sequence[Artist] | None = None) -> None:
    """A legend above the axes: each label once, the others last."""
    artists, labels = sheet.axes[0].get_legend_handles_labels()
    named = dict(zip(labels, artists, strict=True))
    shown = [named[label] for label in sorted(named, key=OTHERS.__eq__)] if handles is None else handles
    sheet.legend(handles=shown, loc="outside upper left", ncols=3, columnspacing=1.4)


def note(axes: Axes, text: str, x: float, y: float, above: float = 4, side: str = "center") -> None:
    """Small text above a point: centered, or with its right or left end there."""
    axes.annotate(text, (x, y), (0, above), textcoords="offset points", ha=side, color=INK, fontsize=11.5)


def ticks(*axes: Axis, most: int = 5) -> None:
    """At most so many round ticks."""
    for axis in axes:
        axis.set_major_locator(MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]))


def draw(name: str, alt: str, height: float, paint: Callable[[Sheet], None]) -> str:
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
        sheet = Sheet(figsize=(WIDTH / 72, height / 72), layout="constrained")
        FigureCanvasSVG(sheet)
        paint(sheet)
        buffer = io.StringIO()
        sheet.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
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


def interval(axes: Axes, place: float, ends: Interval, style: dict[str, Any]) -> None:
    """An interval as an upright line, thin for one of the others."""
    thin = style["label"] == OTHERS
    axes.vlines(place, *ends, color=style["color"], zorder=style["zorder"], linewidth=0.8 if thin else 2)


@dataclass(frozen=True)
class Reading:
    """One row of a forest chart.

    Attributes:
        label: Its name.
        value: The estimate.
        interval: Its interval.
        color: Of dot and line.
    """

    label: str
    value: float
    interval: Interval
    color: str


def forest(
    name: str, alt: str, readings: Sequence[Reading], show: Callable[[float], str], null: float | None = None
) -> str:
    """Estimates with intervals, one below the other.

    Args:
        name: Prefix of ids.
        alt: For screen readers.
        readings: Top to bottom.
        show: Writes an estimate.
        null: Where a line marks "no difference"; None for no line.
    """

    def paint(sheet: Sheet) -> None:
        axes = sheet.subplots()
        axes.grid(axis="x")
        axes.grid(False, axis="y")
        if null is not None:
            axes.axvline(null, color=INK, linewidth=0.9)
        for row, reading in enumerate(readings):
            axes.plot(reading.interval, [row, row], color=reading.color, linewidth=2.4)
            axes.plot(reading.value, row, "o", color=reading.color, markersize=7)
            if reading.interval[0] < reading.interval[1]:
                note(axes, show(reading.value), reading.value, row, above=9)
        axes.set_yticks(range(len(readings)), [reading.label for reading in readings])
        axes.set_ylim(len(readings) - 0.5, -0.7)
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.spines["left"].set_visible(False)
        ticks(axes.xaxis)
        if show is signed_percent:
            axes.xaxis.set_major_formatter(LIFTS)

    return draw(name, alt, 60 + (52 if len(readings) <= MOST_ROWS else 32) * len(readings), paint)

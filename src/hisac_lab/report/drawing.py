"""Charts as inline SVG: one style, the same bytes every time, ids that cannot collide on a page.

Text stays text and takes the page's font. Charts are drawn 460 units wide, so that they are shown about one to one in
two columns and stay readable on a phone.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Sequence
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
from hisac_lab.report.document import Whisker
from hisac_lab.report.facts import Facts
from hisac_lab.report.words import between, signed_percent

Sheet = Figure
"""What a chart is painted on; a figure of the document is a chart with its name and words."""
WIDTH = 460
INK, MUTED, GRAY, FAINT, ACCENT = "#1f2430", "#5d6675", "#9aa3af", "#d9dde3", "#44546a"
GRID, PAPER = "#e8ebef", "#ffffff"
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#b8519b", "#8a6d00", "#3fa3dc", "#7a4b2a", "#1c1c1c")
"""Okabe and Ito's colors, the light ones darkened for lines on white."""
DARK = {
    **dict(
        zip(
            (INK, MUTED, GRAY, FAINT, ACCENT, GRID, PAPER),
            "e8eaee adb6c2 7d8794 3a424d 8fa5c2 2a313b 15191f".split(),
            strict=True,
        )
    ),
    **dict(zip(PALETTE, "4aa8e8 ff8a3d 3cc9a0 e08ac7 d2b04c a5d8ff c99a74 ffffff".split(), strict=True)),
}
"""What each color becomes on a dark page, without the sign before it."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
OTHERS = "others"
HOVER = "hover: "
COLOR = re.compile(r"#([0-9a-f]{6})\b")
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
    "grid.color": GRID,
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


def ticks(*axes: Axis, most: int = 5, whole: bool = False) -> None:
    """At most so many round ticks, of whole numbers where they count something."""
    for axis in axes:
        axis.set_major_locator(MaxNLocator(most, steps=[1, 2, 2.5, 5, 10], integer=whole))


def cut(axes: Axes) -> None:
    """Marks the lower end of the upright axis as cut: it does not begin at 0."""
    slash: dict[str, Any] = {"transform": axes.transAxes, "color": GRAY, "clip_on": False, "linewidth": 0.9}
    for up in (0.02, 0.045):
        axes.plot((-0.014, 0.014), (up - 0.012, up + 0.012), **slash)


def draw(name: str, alt: str, height: float, paint: Callable[[Sheet], None], width: float = WIDTH) -> str:
    """Draws one chart.

    Args:
        name: Unique on the page; the prefix of its ids.
        alt: What a screen reader says.
        height: In units of which the usual width has 460.
        paint: Puts the data on an empty figure.
        width: In the same units.

    Returns:
        An <svg> element without fixed size.
    """
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a user's matplotlibrc must not change an output
        settings: Any = STYLE | {"svg.hashsalt": name}
        matplotlib.rcParams.update(settings)
        sheet = Sheet(figsize=(width / 72, height / 72), layout="constrained")
        FigureCanvasSVG(sheet)
        paint(sheet)
        buffer = io.StringIO()
        sheet.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return inline(buffer.getvalue(), name, alt)


def inline(svg: str, name: str, alt: str) -> str:
    """An SVG file as an element of a page.

    No prologue, no metadata, ids under `name`, unused ids dropped, colors that follow the page, titles of what is
    hovered.
    """
    body = svg[svg.index(">", svg.index("<svg")) + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(rf'<g id="{HOVER}([^"]*)">', r"<g><title>\1</title>", body)
    box = re.search(r'viewBox="([^"]+)"', svg)
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', body))

    def keep(match: re.Match[str]) -> str:
        return f' id="{name}-{match[1]}"' if match[1] in used else ""

    body = re.sub(r'\sid="([^"]+)"', keep, body)
    body = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", body)
    body = re.sub(r"\s*\n\s*", "\n", body)
    head = f'<svg viewBox="{box[1] if box else ""}" role="img" aria-label="{escape(alt)}">'
    return head + themed(body.strip())


def themed(text: str) -> str:
    """Colors that follow the page, light or dark; a file on its own falls back to the light ones."""
    return COLOR.sub(lambda match: f"var(--x{match[1]}, #{match[1]})" if f"#{match[1]}" in DARK else match[0], text)


def plain(text: str) -> str:
    """The light colors alone: what a viewer that knows no style sheets can draw."""
    return re.sub(r"var\(--x\w+, (#\w+)\)", r"\1", text)


def hover(artists: Artist | Iterable[Artist], text: str) -> None:
    """What a pointer over these marks is told; a chart stays readable without it."""
    for artist in [artists] if isinstance(artists, Artist) else artists:
        artist.set_gid(HOVER + text)


STRIP, ROOM = (120, 16), 5
"""Width and height of a strip with a dot and its interval, and what stays free at its sides."""


def strip(whisker: Whisker) -> str:
    """A dot with its interval in the cell of a table; screen readers read the text beside it, which says the same."""
    (wide, high), (left, right) = STRIP, whisker.scale

    def at(value: float) -> str:
        share = (value - left) / (right - left) if right > left else 0.5
        return f"{ROOM + (wide - 2 * ROOM) * min(1.0, max(0.0, share)):.1f}"

    low, high_end = (at(value) for value in whisker.ends)
    body = (
        f'<path d="M{at(0.0)} 0V{high}" stroke="{GRAY}" stroke-dasharray="2 2"/>'
        f'<path d="M{low} {high / 2:g}H{high_end}" stroke="{whisker.color}" stroke-width="2.4"/>'
        f'<circle cx="{at(whisker.value)}" cy="{high / 2:g}" r="4" fill="{whisker.color}"/>'
    )
    size = f'viewBox="0 0 {wide} {high}" width="{wide}" height="{high}"'
    return f'<svg class="strip" {size} aria-hidden="true">{themed(body)}</svg>'


def interval(axes: Axes, place: float, ends: Interval, style: dict[str, Any]) -> Artist:
    """An interval as an upright line, thin for one of the others."""
    thin = style["label"] == OTHERS
    return axes.vlines(place, *ends, color=style["color"], zorder=style["zorder"], linewidth=0.8 if thin else 2)


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
            line = axes.plot(reading.interval, [row, row], color=reading.color, linewidth=2.4)
            dot = axes.plot(reading.value, row, "o", color=reading.color, markersize=7)
            hover([*line, *dot], f"{reading.label}: {show(reading.value)} {between(reading.interval, show)}")
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

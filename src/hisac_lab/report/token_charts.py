"""Charts of the codebook and of one user's votes: facts in, inline SVG out."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from hisac_lab.report.drawing import ACCENT, FAINT, GREY, INK, MUTED, PALETTE, WIDTH, draw, ticks
from hisac_lab.report.facts import Facts

Box = tuple[float, float, float, float]
"""Left, bottom, width, height."""
TREEMAP_HEIGHT, LINE, LETTER = 420, 11.0, 5.6
MOST_AGENTS = 20


def squarify(sizes: Sequence[float], box: Box) -> list[Box]:
    """Rectangles of these areas that fill a box and are nearly square (Bruls, Huizing and van Wijk 2000).

    Args:
        sizes: Positive, largest first.
        box: What they fill.
    """
    left, bottom, width, height = box
    scale = width * height / sum(sizes) if sizes else 0.0
    areas = [size * scale for size in sizes]
    found: list[Box] = []
    while areas:
        side = min(width, height)
        row = areas[:1]
        while len(row) < len(areas) and _worst([*row, areas[len(row)]], side) <= _worst(row, side):
            row.append(areas[len(row)])
        thick, at = sum(row) / side, 0.0
        for area in row:
            long = area / thick
            found.append((left, bottom + at, thick, long) if width >= height else (left + at, bottom, long, thick))
            at += long
        if width >= height:
            left, width = left + thick, width - thick
        else:
            bottom, height = bottom + thick, height - thick
        areas = areas[len(row) :]
    return found


def _worst(row: Sequence[float], side: float) -> float:
    total = sum(row)
    return max(max(side**2 * area / total**2, total**2 / (side**2 * area)) for area in row)


def treemap(facts: Facts) -> str:
    """First-level nodes by number of items, each with its second-level nodes, words and a typical title."""

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.set_axis_off()
        axes.set_xlim(0, WIDTH)
        axes.set_ylim(0, TREEMAP_HEIGHT)
        boxes = squarify([tile.items for tile in facts.tiles], (0, 0, WIDTH, TREEMAP_HEIGHT))
        for place, (tile, box) in enumerate(zip(facts.tiles, boxes, strict=True)):
            colour = PALETTE[place % (len(PALETTE) - 1)]
            axes.add_patch(Rectangle(box[:2], *box[2:], facecolor=colour, alpha=0.13, linewidth=0))
            for part in squarify(tile.children, box):
                axes.add_patch(Rectangle(part[:2], *part[2:], fill=False, edgecolor=colour, alpha=0.25, linewidth=0.5))
            axes.add_patch(Rectangle(box[:2], *box[2:], fill=False, edgecolor="white", linewidth=2))
            room, lines = int((box[2] - 8) / LETTER), int((box[3] - 5) / LINE)
            texts = [f"{tile.code}: {', '.join(tile.words)}", *tile.titles[:2]]
            written = 0
            for number, text in enumerate(texts):
                for line in textwrap.wrap(text, room, max_lines=2, placeholder="…") if room > 4 else []:
                    if written < lines:
                        weight = "bold" if number == 0 else "normal"
                        top = box[1] + box[3] - 5 - LINE * written
                        axes.text(box[0] + 4, top, line, va="top", fontsize=8.5, color=INK, fontweight=weight)
                        written += 1

    return draw("treemap", "The first-level nodes of the codebook by number of items", TREEMAP_HEIGHT, paint)


def agents(facts: Facts) -> str:
    """One user's agents as bars, most votes first, and the largest of what was pruned."""
    portrait = facts.portrait
    bars = [*portrait.agents[:MOST_AGENTS], *portrait.cut]

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        places = range(len(bars))
        colours = [ACCENT if bar.kept else FAINT for bar in bars]
        axes.barh(places, [bar.votes for bar in bars], height=0.72, color=colours)
        most = max((bar.votes for bar in bars), default=1)
        for place, bar in enumerate(bars):
            label = textwrap.shorten(bar.name, 36, placeholder="…") or "–"
            axes.text(
                bar.votes + most * 0.015, place, label, va="center", fontsize=9.5, color=INK if bar.kept else MUTED
            )
        if portrait.cut and portrait.agents:
            axes.axhline(min(len(portrait.agents), MOST_AGENTS) - 0.5, color=GREY, linewidth=0.8, linestyle=":")
        axes.set_yticks(list(places), [bar.path for bar in bars], fontsize=9.5)
        axes.set_ylim(len(bars) - 0.4, -0.6)
        axes.set_xlim(0, most * 1.9)
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x")
        axes.set_xlabel("Votes")
        ticks(axes.xaxis)

    return draw("agents", "Votes of one user's agents and of what was pruned", 60 + 17 * len(bars), paint)

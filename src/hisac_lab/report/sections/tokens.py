"""The section on semantic IDs: their gate, and the codebook as a map."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence

from matplotlib.patches import Rectangle

from hisac_lab.report.document import Block, Counts, Figure, Figures, Note, Points, Section, Table, table
from hisac_lab.report.drawing import (
    ACCENT,
    FAINT,
    GRAY,
    INK,
    PALETTE,
    PAPER,
    SHARES,
    Sheet,
    draw,
    legend,
    note,
)
from hisac_lab.report.facts import Facts
from hisac_lab.report.words import fixed, integer, percent
from hisac_lab.tokens.records import Level, Refit

SOURCES = {
    "text": "the words of the items' texts (static word vectors)",
    "supplied": "the vectors that came with the data",
    "sentence_transformers": "the items' texts (a sentence-transformers model)",
    "cooccurrence": "the items that stand close in training histories",
}

METHODS = {
    "residual_kmeans": "Residual k-means turns an embedding into a code per level",
    "rqvae": "An RQ-VAE turns an embedding into a code per level of its latent space",
    "random": "Codes are RANDOM, a control: they mean nothing",
}

Box = tuple[float, float, float, float]
"""Left, bottom, width, height."""
TREEMAP_WIDTH, TREEMAP_HEIGHT, LINE, LETTER = 980, 460, 12.0, 6.0


def tokens(facts: Facts) -> Section:
    """Quality of the semantic IDs, and the codebook as a map."""
    quality, book = facts.tokenized.quality, facts.book
    measures: tuple[tuple[str, Callable[[Level], str]], ...] = (
        ("codes", lambda level: integer(level.width)),
        ("in use", lambda level: percent(level.use)),
        ("perplexity", lambda level: fixed(level.perplexity, 1)),
        ("entropy, bits", lambda level: fixed(level.entropy_bits, 2)),
        ("explained variance", lambda level: percent(level.explained_variance)),
        ("nodes", lambda level: integer(level.prefixes)),
        ("children per parent", lambda level: fixed(level.fan_out, 2)),
        ("purity", lambda level: "–" if level.purity is None else percent(level.purity)),
        ("seed agreement", lambda level: "–" if level.seed_agreement is None else fixed(level.seed_agreement, 3)),
    )
    columns = ("measure", *(f"level {place + 1}" for place in range(len(quality.levels))))
    levels = [(name, *map(show, quality.levels)) for name, show in measures]
    missing = facts.embedded.items_without_embedding
    source = " and by ".join(SOURCES.get(part, part) for part in sorted(facts.embedded.parts))
    blocks: list[Block] = [
        Note(
            f"Items are embedded by {source}, {integer(facts.embedded.dim)} numbers each"
            + (f"; {integer(missing)} have no embedding and so no ID. " if missing else "; every item has one. ")
            + f"{METHODS.get(facts.tokenized.method, facts.tokenized.method)}; the prefixes in use form the codebook "
            f"`{book.digest}`."
        ),
        table("Levels of the IDs and of the codebook.", columns, levels, ("measure",)),
        Counts(
            (
                ("distinct full IDs", integer(quality.ids)),
                ("of the IDs that random codes would take", percent(quality.occupancy)),
                ("of items share their full ID", percent(quality.collision_rate)),
                ("items on the most crowded ID", integer(quality.largest_bucket)),
                ("of items are on that ID", percent(quality.max_bucket_share, 2)),
                ("of nearest neighbors are kept", percent(quality.neighbor_overlap)),
                ("items without an ID", integer(book.items_without_id)),
            )
        ),
        Points(_readings(facts)),
        Figures((_explained(facts), _code_use(facts))),
        Figures((_treemap(facts),), (_tiles(facts),), wide=True),
    ]
    return Section("tokens", "Semantic IDs", tuple(blocks))


def _readings(facts: Facts) -> tuple[tuple[str, str], ...]:
    """The measures that a table of levels cannot hold, in words."""
    quality, refit = facts.tokenized.quality, facts.tokenized.refit
    readings = [
        (
            "Neighbors",
            f"Of an item's nearest by ID, {percent(quality.neighbor_overlap)} are among its nearest by embedding; "
            f"an ID stands at a mean cosine of {fixed(quality.cosine, 3)} to its items.",
        )
    ]
    if quality.purity_by_chance is not None and quality.purity_lift is not None:
        readings.append(
            (
                "Purity",
                f"The share of pairs of items with one prefix that share their `{facts.tokenized.category}`; by chance "
                f"{percent(quality.purity_by_chance)}, so the first level is {fixed(quality.purity_lift, 1)} times as "
                "pure.",
            )
        )
    if quality.levels[0].seed_agreement is not None:
        readings.append(
            (
                "Seeds",
                "Agreement is the adjusted Rand index of the prefixes of two fits with different seeds: 1 is equal, 0 "
                "unrelated.",
            )
        )
    if isinstance(refit, Refit):
        readings.append(
            (
                "Refit",
                f"Started from an earlier fit with {integer(refit.new_items)} new items: of {integer(refit.old_items)} "
                f"old ones {percent(refit.changed_ids, 2)} have another ID.",
            )
        )
    return tuple(readings)


def _tiles(facts: Facts) -> Table:
    return table(
        "First-level nodes, those with most items first, each with its words and the titles nearest to its center.",
        ("code", "items", "words", "nearest titles"),
        [(str(tile.code), integer(tile.items), ", ".join(tile.words), " · ".join(tile.titles)) for tile in facts.tiles],
        ("words", "nearest titles"),
    )


def _explained(facts: Facts) -> Figure:
    """Explained variance of the embeddings by depth."""
    values = [level.explained_variance for level in facts.tokenized.quality.levels]

    def paint(sheet: Sheet) -> None:
        axes = sheet.subplots()
        axes.bar(range(len(values)), values, width=0.5, color=ACCENT)
        for place, value in enumerate(values):
            note(axes, f"{100 * value:.1f} %", place, value)
        axes.set_ylim(0, 1)
        axes.yaxis.set_major_formatter(SHARES)
        axes.set_xticks(
            range(len(values)), [f"{count} level{'s' * (count > 1)}" for count in range(1, len(values) + 1)]
        )

    svg = draw("explained", "Explained variance by depth", 240, paint)
    return Figure(
        "explained_variance",
        svg,
        "Explained variance",
        f"The first level keeps {percent(values[0])} of the variance, all {len(values)} keep {percent(values[-1])}.",
        "Higher is closer: how much of the embeddings' variance is kept by the first levels of the ID.",
    )


def _code_use(facts: Facts) -> Figure:
    """Width, codes in use and perplexity of each level."""
    levels = facts.tokenized.quality.levels
    order = sorted(range(len(levels)), key=lambda place: (levels[place].perplexity / levels[place].width, place))
    uneven, even = order[0], order[-1]

    def paint(sheet: Sheet) -> None:
        axes = sheet.subplots()
        place = range(len(levels))
        axes.bar(place, [level.width for level in levels], width=0.62, color=PAPER, edgecolor=GRAY, label="codes")
        axes.bar(place, [level.use * level.width for level in levels], width=0.62, color=FAINT, label="in use")
        axes.bar(place, [level.perplexity for level in levels], width=0.34, color=ACCENT, label="perplexity")
        for x, level in enumerate(levels):
            note(axes, f"{level.perplexity:.1f}", x, level.perplexity)
        axes.set_xticks(place, [f"level {x + 1}" for x in place])
        legend(sheet)

    svg = draw("code-use", "Codes in use and perplexity by level", 240, paint)
    return Figure(
        "use_of_the_codes",
        svg,
        "Use of the codes",
        f"Level {even + 1} is used most evenly, as {fixed(levels[even].perplexity, 1)} of {levels[even].width} codes; "
        "level "
        f"{uneven + 1} least, as {fixed(levels[uneven].perplexity, 1)} of {levels[uneven].width}.",
        "Perplexity is the number of equally used codes that would be as even; near the width is good.",
    )


def squarify(sizes: Sequence[float], box: Box) -> list[Box]:
    """Rectangles of these areas that fill a box and are nearly square (Bruls, Huizing and van Wijk 2000).

    Args:
        sizes: Positive, largest first.
        box: What they fill.
    """
    left, bottom, width, height = box
    scale = width * height / sum(sizes) if sizes else 0.0
    areas = [size * scale for size in sizes]
    boxes: list[Box] = []
    while areas:
        side = min(width, height)
        row = areas[:1]
        while len(row) < len(areas) and _worst([*row, areas[len(row)]], side) <= _worst(row, side):
            row.append(areas[len(row)])
        thick, at = sum(row) / side, 0.0
        for area in row:
            long = area / thick
            boxes.append((left, bottom + at, thick, long) if width >= height else (left + at, bottom, long, thick))
            at += long
        if width >= height:
            left, width = left + thick, width - thick
        else:
            bottom, height = bottom + thick, height - thick
        areas = areas[len(row) :]
    return boxes


def _worst(row: Sequence[float], side: float) -> float:
    total = sum(row)
    return max(max(side**2 * area / total**2, total**2 / (side**2 * area)) for area in row)


def _treemap(facts: Facts) -> Figure:
    """First-level nodes by number of items, each with its second-level nodes, words and a typical title."""
    items = max(1, sum(tile.items for tile in facts.tiles))

    def paint(sheet: Sheet) -> None:
        axes = sheet.subplots()
        axes.set_axis_off()
        axes.set_xlim(0, TREEMAP_WIDTH)
        axes.set_ylim(0, TREEMAP_HEIGHT)
        boxes = squarify([tile.items for tile in facts.tiles], (0, 0, TREEMAP_WIDTH, TREEMAP_HEIGHT))
        for place, (tile, box) in enumerate(zip(facts.tiles, boxes, strict=True)):
            color = PALETTE[place % (len(PALETTE) - 1)]
            axes.add_patch(Rectangle(box[:2], *box[2:], facecolor=color, alpha=0.13, linewidth=0))
            for inner in squarify(tile.children, box):
                axes.add_patch(Rectangle(inner[:2], *inner[2:], fill=False, edgecolor=color, alpha=0.25, linewidth=0.5))
            axes.add_patch(Rectangle(box[:2], *box[2:], fill=False, edgecolor=PAPER, linewidth=2))
            room, lines = int((box[2] - 8) / LETTER), int((box[3] - 5) / LINE)
            texts = [f"{tile.code}: {', '.join(tile.words)}", *tile.titles[:2]]
            written = 0
            for number, text in enumerate(texts):
                for line in (
                    textwrap.wrap(text, room, max_lines=2, placeholder="…", break_long_words=False) if room > 8 else []
                ):
                    if written < lines:
                        weight = "bold" if number == 0 else "normal"
                        top = box[1] + box[3] - 5 - LINE * written
                        axes.text(box[0] + 4, top, line, va="top", fontsize=9.5, color=INK, fontweight=weight)
                        written += 1

    svg = draw(
        "treemap", "The first-level nodes of the codebook by number of items", TREEMAP_HEIGHT, paint, TREEMAP_WIDTH
    )
    return Figure(
        "the_codebook",
        svg,
        "The codebook",
        f"The largest of {len(facts.tiles)} first-level nodes holds {percent(facts.tiles[0].items / items)} of the "
        "items; "
        f"evenly spread it would be {percent(1 / len(facts.tiles))}.",
        "Areas count items; each field is a first-level node with its second-level nodes, the words that "
        "tell it from the others and the titles nearest to its center.",
    )

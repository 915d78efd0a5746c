"""The section on semantic IDs: their gate, the codebook, one user's agents."""

from __future__ import annotations

from collections.abc import Callable

from hisac_lab.report import data_charts, token_charts
from hisac_lab.report.document import Block, Counts, Figure, Figures, Note, Points, Section, Table, table
from hisac_lab.report.facts import Facts
from hisac_lab.report.words import fixed, percent, whole
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


def tokens(facts: Facts) -> Section:
    """Quality of the semantic IDs, the codebook as a map, one user's agents."""
    quality, book = facts.tokenized.quality, facts.book
    measures: tuple[tuple[str, Callable[[Level], str]], ...] = (
        ("codes", lambda level: whole(level.width)),
        ("in use", lambda level: percent(level.use)),
        ("perplexity", lambda level: fixed(level.perplexity, 1)),
        ("entropy, bits", lambda level: fixed(level.entropy_bits, 2)),
        ("explained variance", lambda level: percent(level.explained_variance)),
        ("nodes", lambda level: whole(level.prefixes)),
        ("children per parent", lambda level: fixed(level.fan_out, 2)),
        ("purity", lambda level: "–" if level.purity is None else percent(level.purity)),
        ("seed agreement", lambda level: "–" if level.seed_agreement is None else fixed(level.seed_agreement, 3)),
    )
    columns = ("", *(f"level {place + 1}" for place in range(len(quality.levels))))
    levels = [(name, *map(show, quality.levels)) for name, show in measures]
    missing = facts.embedded.items_without_embedding
    source = " and by ".join(SOURCES.get(part, part) for part in sorted(facts.embedded.parts))
    blocks: list[Block] = [
        Note(
            f"Items are embedded by {source}, {whole(facts.embedded.dim)} numbers each"
            + (f"; {whole(missing)} have no embedding and so no ID. " if missing else "; every item has one. ")
            + f"{METHODS.get(facts.tokenized.method, facts.tokenized.method)}; the prefixes in use form the codebook "
            f"`{book.digest}`."
        ),
        table("Levels of the IDs and of the codebook.", columns, levels, ("",)),
        Counts(
            (
                ("distinct full IDs", whole(quality.ids)),
                ("of items share their full ID", percent(quality.collision_rate)),
                ("items on the most crowded ID", whole(quality.largest_bucket)),
                ("of items are on that ID", percent(quality.max_bucket_share, 2)),
                ("of nearest neighbours are kept", percent(quality.neighbour_overlap)),
                ("items without an ID", whole(book.items_without_id)),
            )
        ),
        Points(_readings(facts)),
        Figures(
            (
                Figure(
                    data_charts.explained(facts),
                    "Explained variance",
                    "Higher is closer: how much of the embeddings' variance is kept by the first levels of the ID.",
                ),
                Figure(
                    data_charts.code_use(facts),
                    "Use of the codes",
                    "Perplexity is the number of equally used codes that would be as even; near the width is good.",
                ),
            )
        ),
        Figures(
            (
                Figure(
                    token_charts.treemap(facts),
                    "The codebook",
                    "Areas count items; each field is a first-level node with its second-level nodes, the words that "
                    "tell it from the others and the titles nearest to its centre.",
                ),
                Figure(
                    token_charts.agents(facts),
                    f"Agents of user {facts.portrait.user}",
                    "The longest history. Dark: interest-agents, most votes first; light: the largest nodes that the "
                    "budgets cut, a shorter path at a higher level.",
                ),
            ),
            (_tiles(facts), _votes(facts)),
        ),
    ]
    return Section("tokens", "Semantic IDs", tuple(blocks))


def _readings(facts: Facts) -> tuple[tuple[str, str], ...]:
    """The measures that a table of levels cannot hold, in words."""
    quality, refit, portrait = facts.tokenized.quality, facts.tokenized.refit, facts.portrait
    found = [
        (
            "Neighbours",
            f"Of an item's nearest by ID, {percent(quality.neighbour_overlap)} are among its nearest by embedding; "
            f"an ID stands at a mean cosine of {fixed(quality.cosine, 3)} to its items.",
        )
    ]
    if quality.purity_by_chance is not None and quality.purity_lift is not None:
        found.append(
            (
                "Purity",
                f"The share of pairs of items with one prefix that share their `{facts.tokenized.category}`; by chance "
                f"{percent(quality.purity_by_chance)}, so the first level is {fixed(quality.purity_lift, 1)} times as "
                "pure.",
            )
        )
    if quality.levels[0].seed_agreement is not None:
        found.append(
            (
                "Seeds",
                "Agreement is the adjusted Rand index of the prefixes of two fits with different seeds: 1 is equal, 0 "
                "unrelated.",
            )
        )
    if isinstance(refit, Refit):
        found.append(
            (
                "Refit",
                f"Started from an earlier fit with {whole(refit.new_items)} new items: of {whole(refit.old_items)} old "
                f"ones {percent(refit.changed_ids, 2)} have another ID.",
            )
        )
    cut = sum(votes for _, votes in portrait.cut_by_level)
    found.append(
        (
            "Votes",
            f"User {portrait.user} has {whole(portrait.behaviours)} behaviours, {whole(portrait.voting)} of items with "
            f"an ID; {whole(len(portrait.agents))} agents hold {percent(portrait.covered)} of the votes, "
            f"{whole(cut)} votes were pruned.",
        )
    )
    return tuple(found)


def _tiles(facts: Facts) -> Table:
    return table(
        "First-level nodes, those with most items first, each with its words and the titles nearest to its centre.",
        ("code", "items", "words", "nearest titles"),
        [(str(tile.code), whole(tile.items), ", ".join(tile.words), " · ".join(tile.titles)) for tile in facts.tiles],
        ("words", "nearest titles"),
    )


def _votes(facts: Facts) -> Table:
    portrait = facts.portrait
    return table(
        f"Agents of user {portrait.user}, and the largest of the nodes that were pruned.",
        ("path", "level", "votes", "", "what it is"),
        [
            (bar.path, str(bar.level), whole(bar.votes), "agent" if bar.kept else "pruned", bar.name)
            for bar in (*portrait.agents, *portrait.cut)
        ],
        ("path", "", "what it is"),
    )

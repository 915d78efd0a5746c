"""The commands `sid` and `agents`: what a semantic ID means, and what a user's votes come to."""

from __future__ import annotations

import difflib
import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hisac_lab.base.errors import UserError
from hisac_lab.cli.paths import ARTIFACTS

if TYPE_CHECKING:
    import pandas as pd

    from hisac_lab.base.artifacts import Array
    from hisac_lab.codebook.tree import Codebook
    from hisac_lab.models.hisac import HiSACConfig

sid = typer.Typer(no_args_is_help=True, help="Look at semantic IDs.")
agents = typer.Typer(no_args_is_help=True, help="Look at users' interest-agents.")
WORDS, TITLES, TITLE_WIDTH = 4, 3, 32


@sid.callback()
def _sid() -> None:
    """Keeps `show` a command of its own."""


@agents.callback()
def _agents() -> None:
    """Keeps `show` a command of its own."""


@sid.command("show")
def show_item(
    item: Annotated[str, typer.Argument(help="The item's own id.")],
    neighbors: Annotated[int, typer.Option(min=1, help="Nearest items to list.")] = 5,
) -> None:
    """Show an item's semantic ID: its path, what each level means in the items' own words, its neighbors."""
    import numpy as np

    from hisac_lab.codebook.portrait import typical, words_of

    table, book, vectors = _items()
    number = _find(table["item"].astype(str).tolist(), item, ARTIFACTS.prepare / "items.parquet", "item")
    titles, texts = _titles(table), table["text"].astype(str).tolist()
    print(f"item {item}: {titles[number]}")
    path = book.item_nodes[number]
    if path[0] < 0:
        print("it has no embedding, so it has no semantic ID: it neither votes nor is routed")
        return
    shared = int(book.counts[-1][path[-1]]) - 1
    others = "its alone" if not shared else f"shared with {shared} other item{'s' * (shared > 1)}"
    print(f"semantic ID {_text(book.path(int(path[-1]), book.depth - 1))}, {others}\n")
    rows = []
    around = np.flatnonzero(book.item_nodes[:, 0] >= 0)
    for level, node in enumerate(path.tolist()):
        group = book.items_at(node, level)
        near = [_short(titles[row]) for row in typical(book, vectors, node, level, TITLES)]
        code = str(book.codes[level][node])
        rows.append((str(level + 1), code, f"{len(group):,}", ", ".join(words_of(texts, group, around, WORDS)), near))
        around = group
    _print(
        ("level", "code", "items", "told apart by", "nearest to its center"),
        [(*row[:4], "; ".join(row[4])) for row in rows],
    )
    distance = ((np.asarray(vectors) - vectors[number]) ** 2).sum(axis=1)
    distance[book.item_nodes[:, 0] < 0] = np.inf
    distance[number] = np.inf
    print()
    hits = []
    for row in np.argsort(distance, kind="stable")[: min(neighbors, len(around_all(book)) - 1)].tolist():
        same = int(np.logical_and.accumulate(book.item_nodes[row] == path).sum())
        semantic_id = _text(book.path(int(book.item_nodes[row, -1]), book.depth - 1))
        hits.append((str(table["item"].iloc[row]), _short(titles[row]), semantic_id, f"{same} of {book.depth}"))
    _print(("neighbor", "title", "semantic ID", "levels shared"), hits)


@agents.command("show")
def show_user(
    user: Annotated[str, typer.Argument(help="The user's own id.")],
    model: Annotated[
        str | None, typer.Option(help="Name in the section models; by default the first that is swept.")
    ] = None,
    pruned: Annotated[int, typer.Option(min=0, help="Pruned nodes to list.")] = 5,
) -> None:
    """Show a user's interest-agents: votes, share of the history they cover, what was pruned."""
    import numpy as np

    from hisac_lab.api.look import votes_of
    from hisac_lab.cli.params import load_params
    from hisac_lab.codebook.portrait import typical, words_of
    from hisac_lab.codebook.votes import LOW, MEND
    from hisac_lab.events.store import EventStore

    params = load_params()
    name = model or params.sweep.models[0]
    config = _settings(name)
    table, book, vectors = _items()
    depth = config.depth or book.depth
    if depth > book.depth:
        raise UserError("params.yaml", f"{depth} levels are more than the codebook's {book.depth}", "lower it", "depth")
    store = EventStore.open(ARTIFACTS.prepare)
    number = _find([str(one) for one in store.user_ids], user, ARTIFACTS.prepare / "users.parquet", "user")
    votes = votes_of(config, params.backbone, book, store, number)
    book, portrait, times = votes.book, votes.portrait, votes.times
    silent = f"{votes.silent:,} disliked, " if votes.silent else ""
    behaviors = portrait.behaviors + votes.silent
    print(f"user {user}: {behaviors:,} behaviors, {silent}{portrait.voting:,} that vote")
    split = " x ".join(str(budget) for budget in votes.election.budgets)
    print(f"model {name}: at most {split} agents by levels, {votes.election.rule} vote, codebook {book.digest}")
    print(f"{len(portrait.agents)} agents hold {portrait.covered:.1%} of the votes")
    print(f"that is below {LOW:.0%}: {MEND}\n" if portrait.votes and portrait.covered < LOW else "")
    titles, texts = _titles(table), table["text"].astype(str).tolist()
    everything = around_all(book)

    def describe(node: int, level: int) -> str:
        words = ", ".join(words_of(texts, book.items_at(node, level), everything, WORDS))
        near = "; ".join(_short(titles[row]) for row in typical(book, vectors, node, level, TITLES - 1))
        return f"{words}: {near}" if words else near

    def count(number: int) -> str:
        return f"{number:,}" if votes.unit == 1 else f"{number / votes.unit:,.2f}"

    def row(voted: Any) -> tuple[str, ...]:
        newest = str(np.datetime64(int(times[voted.last]), "s"))[:10]
        share = f"{voted.votes / portrait.votes:.1%}"
        path = _text(book.path(voted.node, voted.level))
        return path, count(voted.votes), share, newest, describe(voted.node, voted.level)

    _print(("agent", "votes", "share", "newest", "what it is"), [row(agent) for agent in portrait.agents])
    lost = sum(node.votes for node in portrait.cut)
    print(f"\npruned: {len(portrait.cut)} nodes with {1 - portrait.covered if lost else 0:.1%} of the votes")
    for level in range(depth):
        cut = [node for node in portrait.cut if node.level == level]
        if cut:
            print(f"  at level {level + 1}: {len(cut)} nodes with {count(sum(node.votes for node in cut))} votes")
    if portrait.cut and pruned:
        print()
        _print(("pruned", "votes", "share", "newest", "what it is"), [row(node) for node in portrait.cut[:pruned]])


def around_all(book: Codebook) -> Array:
    """Items with a semantic ID."""
    with_id: Array = (book.item_nodes[:, 0] >= 0).nonzero()[0]
    return with_id


def _items() -> tuple[pd.DataFrame, Codebook, Array]:
    """Item table, codebook, and the items in the space of its vectors."""
    from hisac_lab.base.artifacts import load_array
    from hisac_lab.codebook.tree import Codebook
    from hisac_lab.events.store import EventStore

    book = Codebook.open(ARTIFACTS.codebook)
    table = EventStore.open(ARTIFACTS.prepare).item_table
    vectors = load_array(ARTIFACTS.embed, "embeddings") if book.item_vectors is None else book.item_vectors
    return table, book, vectors


def _settings(name: str) -> HiSACConfig:
    """Settings of a HiSAC model: those it was trained with, else the sweep's choice, else params.yaml's.

    Raises:
        UserError: There is no such model, it has no agents, or it was trained with another codebook.
    """
    from hisac_lab.cli.params import load_params
    from hisac_lab.config.base import parse
    from hisac_lab.inference.records import ModelFile
    from hisac_lab.models.hisac import HiSACConfig
    from hisac_lab.sweep.records import Best

    params = load_params()
    names = sorted(one for one, config in params.models.items() if isinstance(config, HiSACConfig))
    if name not in names:
        raise UserError("params.yaml", f"{name!r} is no model with agents", f"name one of {', '.join(names)}", "models")
    trained = sorted(ARTIFACTS.train.glob(f"{name}-*/{ModelFile.FILE}"))
    best = ARTIFACTS.swept(name) / Best.FILE
    if trained:
        from hisac_lab.inference.bundle import check_codebook

        check_codebook(trained[0].parent, ARTIFACTS.codebook)
        return parse(HiSACConfig, ModelFile.read(trained[0]).model, trained[0])
    if best.exists():
        return parse(HiSACConfig, Best.read(best).settings, best)
    config = params.models[name]
    assert isinstance(config, HiSACConfig)
    return config


def _short(title: str) -> str:
    """The title's first words; a first word that is too long is cut."""
    return (
        textwrap.shorten(title, TITLE_WIDTH, placeholder="...") if " " in title[:TITLE_WIDTH] else title[:TITLE_WIDTH]
    )


def _titles(table: pd.DataFrame) -> list[str]:
    return table["title" if "title" in table else "text"].astype(str).tolist()


def _find(names: list[str], wanted: str, where: Path, what: str) -> int:
    try:
        return names.index(wanted)
    except ValueError:
        close = difflib.get_close_matches(wanted, names, n=3)
        hint = f"did you mean {', '.join(close)}?" if close else f"name one of the column {what!r} of that file"
        raise UserError(where, f"there is no {what} {wanted!r}", hint, what) from None


def _text(path: tuple[int, ...]) -> str:
    return "-".join(map(str, path))


def _print(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Prints a table; a terminal gets lines of its own width, cut at the end, a file gets all."""
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    widths = [max(len(row[at]) for row in [head, *rows]) for at in range(len(head))]
    for row in [head, *rows]:
        line = "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        print(line if room is None or len(line) <= room else f"{line[: room - 1]}…")
